"""What a gateway says to do harm is kept in the journal, exported and shown; it harms nobody on the way."""

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hostile_words import EVIL, KINDS, STEERING, hostile_gateway

from kling_async import KlingSession, PollPlan, TextToVideo, Video
from kling_async.cli.app import kling
from kling_async.results import Outcome

PLAN = PollPlan(0.02, 0.02, 0.1)
QUICK = ("--rate", "none", "--poll-min", "0.02", "--poll-max", "0.1", "--poll-first", "0.02", "--no-download")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with hostile_gateway() as url:
        yield url


def run_kling(*arguments: str) -> Result:
    result = CliRunner().invoke(kling, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


async def batched(url: str, path: Path) -> dict[str, Outcome]:
    """Run a batch of one job of each kind; the outcomes are by kind."""
    async with (
        KlingSession("kling3api", api_key="any", base_url=url, rate=None, poll=PLAN) as session,
        session.batch(path) as batch,
    ):
        batch.add([TextToVideo(kind) for kind in KINDS])
        return {outcome.request.prompt: outcome async for outcome in batch.run() if outcome.request is not None}


def harmless(text: str) -> None:
    """Nothing steers a terminal, and all of it can be written as UTF-8."""
    assert not set(text) & STEERING
    assert text.encode().decode() == text


def strings(value: Any) -> Iterator[str]:
    """Yield every text in plain data."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from (name, *strings(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


@pytest.mark.anyio
async def test_every_word_that_is_shown_is_one_harmless_line(url: str, tmp_path: Path) -> None:
    outcomes = await batched(url, tmp_path / "night.db")
    assert set(outcomes) == set(KINDS)
    assert {kind: outcome.ok for kind, outcome in outcomes.items()} == {kind: kind == "made" for kind in KINDS}
    for outcome in outcomes.values():
        for text in strings(outcome.to_dict()):
            assert text.replace("\n", " ").isprintable(), text
        harmless(repr(outcome))
        if not outcome.ok:
            harmless(str(outcome.error))
            assert outcome.error.message.isprintable()


@pytest.mark.anyio
async def test_a_journal_holds_nothing_that_steers_and_gives_the_same_back(url: str, tmp_path: Path) -> None:
    path = tmp_path / "night.db"
    first = {outcome.key: outcome.to_dict() for outcome in (await batched(url, path)).values()}
    async with (
        KlingSession("kling3api", api_key="any", base_url=url, rate=None, poll=PLAN) as session,
        session.batch(path) as batch,
    ):
        again = {outcome.key: outcome.to_dict() for outcome in batch.outcomes()}
    assert set(first) - set(again) == {key for key in first if key.startswith("urlless")}  # it is looked at again
    assert again == {key: told for key, told in first.items() if key in again}
    with closing(sqlite3.connect(path)) as journal:
        for table in ("job", "event", "batch"):
            for row in journal.execute(f"SELECT * FROM {table}"):
                for text in strings(row):
                    harmless(text)


@pytest.mark.anyio
async def test_what_is_kept_of_an_answer_can_be_stored_and_written(url: str, tmp_path: Path) -> None:
    video: Video
    async with KlingSession("kling3api", api_key="any", base_url=url, rate=None, poll=PLAN) as session:
        video = await session.generate(TextToVideo("made"))
    assert video.urls == ("https://e.com/a.mp4",)
    assert any(EVIL[:20] in name for name in video.raw)
    plain = json.dumps(dict(video.raw), ensure_ascii=False, allow_nan=False)
    assert json.loads(plain.encode()) == video.raw
    with closing(sqlite3.connect(tmp_path / "own.db")) as own:
        own.execute("CREATE TABLE kept (raw TEXT)")
        own.execute("INSERT INTO kept VALUES (?)", (plain,))
        assert own.execute("SELECT raw FROM kept").fetchone() == (plain,)
        for text in strings(video.raw):
            assert own.execute("SELECT ?", (text,)).fetchone() == (text,)


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Result:
    """A run of the command over jobs of every kind; its journal is in the store."""
    for name, value in (("GATEWAY", "kling3api"), ("API_KEY", "any"), ("BASE_URL", url)):
        monkeypatch.setenv(f"KLING_{name}", value)
    (tmp_path / "jobs.csv").write_text("prompt\n" + "".join(f"{kind}\n" for kind in KINDS))
    return run_kling("run", "jobs.csv", "--yes", "--budget", "none", *QUICK)


@pytest.mark.parametrize("view", [("--progress", "plain", "-vv"), ("--progress", "rich"), ("--json",), ()])
def test_a_run_shows_harmless_lines(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, view: tuple[str, ...]
) -> None:
    for name, value in (("GATEWAY", "kling3api"), ("API_KEY", "any"), ("BASE_URL", url)):
        monkeypatch.setenv(f"KLING_{name}", value)
    (tmp_path / "jobs.csv").write_text("prompt\n" + "".join(f"{kind}\n" for kind in KINDS))
    done = run_kling("run", "jobs.csv", "--yes", "--budget", "none", *QUICK, *view)
    harmless(done.stdout)
    own = {"\x1b", "\r"} if "rich" in view else set()  # the live screen steers by itself
    assert not set(done.stderr) & (STEERING - own)
    assert "owned\x07" not in done.stderr
    assert done.exit_code != 1
    assert not [line for line in done.stderr.split("\n") if line.startswith("2026-11-20 12:00:00")]


def test_an_export_is_exact_in_json_and_harmless_in_both_forms(run: Result) -> None:
    lines, cells = run_kling("export").stdout, run_kling("export", "--format", "csv").stdout
    harmless(lines)
    harmless(cells)
    objects = [json.loads(line) for line in lines.splitlines()]
    rows = list(csv.DictReader(io.StringIO(cells, newline="")))
    assert len(objects) == len(rows) == len(KINDS)
    statuses = [each["status"] for each in objects]
    assert statuses == ["succeeded", "in_progress", "failed", "failed", "in_doubt"]
    for row in rows:
        for name, cell in row.items():
            assert not cell.startswith(("=", "+", "-", "@", "\t")), (name, cell)
    told = [each["message"] for each in objects if each["message"]]
    assert any("=1+cmd" in message and "\\x1b[2J" in message for message in told)


def test_a_status_is_harmless_lines(run: Result) -> None:
    done = run_kling("status")
    harmless(done.stdout)
    assert done.exit_code == 0
    assert "in doubt" in done.stdout
    whole = run_kling("status", "--json")
    harmless(whole.stdout)
    assert json.loads(whole.stdout)["groups"]
    for command in ("runs", "spend"):
        harmless(run_kling(command).stdout)
