"""`kling watch`: what another process does to a run, from its journal alone; nobody waits here, the clock is played."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Kling, child, events_in
from journals import change, driven, varied

from kling_async.batch import entry as steps
from kling_async.batch.journal import Journal
from kling_async.batch.keys import Planned
from kling_async.batch.states import Step
from kling_async.cli import watch
from kling_async.cli.on_record import driver_of
from kling_async.errors import DownloadError, GenerationFailedError, KlingError
from kling_async.requests import TextToVideo
from kling_async.results import Video

Play = Callable[..., None]
VIDEO = Video("task-1", "https://example.com/boat.mp4?signature=abc")


@pytest.fixture
def night(tmp_path: Path) -> Path:
    return varied(tmp_path / "store of runs" / "night.db")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Journal]:
    """A journal of two jobs that this process drives."""
    (tmp_path / "store of runs").mkdir()
    journal = driven(tmp_path / "store of runs" / "fresh.db")
    journal.add([Planned("boat", TextToVideo("a boat"), 1), Planned("fox", TextToVideo("a fox"), 2)], [200, 200])
    journal.note(directory="/data/videos")
    yield journal
    if driver_of(journal.path) is not None:
        journal.close()


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, fresh: Journal) -> Play:
    """Do one thing in each pause of the watcher; then let go of the run."""

    def played(*scenes: Callable[[], Any]) -> None:
        left: Iterator[Callable[[], Any]] = iter([*scenes, lambda: fresh.close()])  # noqa: PLW0108 - looked up when it is time
        monkeypatch.setattr(watch, "DRIVER_SECONDS", -1.0)
        monkeypatch.setattr(time, "sleep", lambda _: next(left)())

    return played


def write(journal: Journal, key: str, step: Step, detail: str | None = None) -> None:
    """Let a job take a step."""
    old = journal.find(key)
    assert old is not None
    error: KlingError = GenerationFailedError("the gateway's\nown words", code="RISK")
    new = {
        Step.SUBMITTING: lambda: steps.intended(old, 1.0, 200_000_000),
        Step.ACCEPTED: lambda: steps.accepted(old, "kling3api", detail or "", 2.0, None),
        Step.SUCCEEDED: lambda: steps.succeeded(old, VIDEO, VIDEO.credits, 3.0),
        Step.FETCHING: lambda: steps.fetching(old, file="boat.mp4"),
        Step.UNFETCHED: lambda: steps.unfetched(old, DownloadError("the link has expired", code="expired")),
        Step.DOWNLOADED: lambda: steps.downloaded(old, 4.0),
        Step.FAILED: lambda: steps.failed(old, error, "no", None, 3.0),
        Step.RETRIED: lambda: steps.retried(old),
    }[step]()
    journal.write_now(old, new, step, detail)


def boat(journal: Journal) -> list[Callable[[], None]]:
    """The life of one job, a step in each pause."""
    life = [Step.SUBMITTING, Step.ACCEPTED, Step.SUCCEEDED, Step.FETCHING, Step.UNFETCHED, Step.DOWNLOADED]
    return [lambda step=step: write(journal, "boat", step, "task-1") for step in life]  # type: ignore[misc]


def fox(journal: Journal) -> Callable[[], None]:
    """The whole life of the other job in one pause."""

    def lived() -> None:
        for step in (Step.SUBMITTING, Step.ACCEPTED, Step.FAILED, Step.RETRIED):
            write(journal, "fox", step, "task-2" if step is Step.ACCEPTED else None)

    return lived


def test_a_watcher_tells_the_totals_and_then_each_thing_as_it_happens(
    run_kling: Kling, fresh: Journal, play: Play
) -> None:
    play(*boat(fresh))
    done = run_kling("watch")
    first, *lines, last = done.stdout.splitlines()
    assert (done.exit_code, done.stderr) == (0, "")
    assert first == "fresh   0 of 2 jobs done, 2 not sent, 0 credits spent"
    assert [line.split("   ", 1)[1] for line in lines] == [
        "accepted   row 1   boat   task task-1",
        "made   row 1   boat",
        "not downloaded   row 1   boat   expired: the link has expired (charged)",
        "done   row 1   boat   /data/videos/boat.mp4",
    ]
    assert last == "fresh   1 of 2 jobs done, 1 not sent, 0 credits spent; no process drives it"


def test_as_json_every_step_is_one_event_with_what_is_known_of_it(run_kling: Kling, fresh: Journal, play: Play) -> None:
    play(*boat(fresh))
    events = events_in(run_kling("watch", "--json").stdout)
    assert [event["event"] for event in events] == [
        *("watching", "submitting", "accepted", "succeeded", "download_failed", "downloaded", "summary")
    ]
    assert all(event["v"] == 1 and event["t"].endswith("Z") for event in events)
    accepted, succeeded, lost, there = events[2:6]
    assert (accepted["key"], accepted["row"], accepted["task_id"], accepted["attempt"]) == ("boat", 1, "task-1", 1)
    assert (succeeded["url"], succeeded["charged"]) == (VIDEO.url, "yes")
    assert (lost["error"], lost["code"]) == ("DownloadError", "expired")
    assert there["file"] == "/data/videos/boat.mp4"
    assert (events[0]["downloaded"], events[-1]["downloaded"]) == (0, 1)


def test_an_event_of_an_earlier_attempt_is_not_told_with_what_came_later(
    run_kling: Kling, fresh: Journal, play: Play
) -> None:
    play(fox(fresh))
    events = events_in(run_kling("watch", "--json").stdout)[1:-1]
    assert [(event["event"], event["attempt"]) for event in events] == [
        *(("submitting", 1), ("accepted", 1), ("failed", 1), ("retried", 2))
    ]
    assert all(set(event) == {"v", "t", "event", "key", "row", "attempt"} for event in events)


def test_what_happened_right_before_the_end_is_told(
    run_kling: Kling, fresh: Journal, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = fresh.close
    monkeypatch.setattr(fresh, "close", lambda: (fox(fresh)(), close()))
    play()
    assert "again   row 2   fox" in run_kling("watch").stdout


def test_many_events_at_once_are_all_told(run_kling: Kling, fresh: Journal, play: Play) -> None:
    sql = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)"
        " INSERT INTO event (job, step, at, attempt) SELECT 1, 'download_failed', 1e300, 1 FROM n"
    )
    play(lambda: change(fresh.path, sql))
    assert run_kling("watch").stdout.count("--:--:--   not downloaded   row 1   boat") == 1200


def test_the_totals_come_back_every_half_minute(
    run_kling: Kling, fresh: Journal, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TOTAL_SECONDS", -1.0)
    play(lambda: None)
    assert run_kling("watch").stdout.count("0 of 2 jobs done") > 2


def test_a_run_that_nobody_drives_is_told_and_left(run_kling: Kling, night: Path) -> None:
    done = run_kling("watch")
    assert done.exit_code == 0
    assert [line.partition(",")[0] for line in done.stdout.splitlines()] == ["night   2 of 7 jobs done"] * 2
    assert [event["event"] for event in events_in(run_kling("watch", "--json").stdout)] == ["watching", "summary"]


def test_ctrl_c_leaves_the_watcher_and_not_the_run(
    run_kling: Kling, fresh: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    done = run_kling("watch")
    assert done.exit_code == 130
    assert done.stderr == "This watcher has left; the run itself was not touched.\n"
    assert fresh.facts().stop is None
    write(fresh, "boat", Step.SUBMITTING)


def test_a_reader_that_leaves_ends_the_watcher_quietly(fresh: Journal) -> None:
    watcher = child("watch", "--json")
    assert watcher.stdout is not None
    assert json.loads(watcher.stdout.readline())["event"] == "watching"
    watcher.stdout.close()
    write(fresh, "boat", Step.SUBMITTING)
    assert watcher.wait(30) == 0
    assert watcher.stderr is not None
    assert watcher.stderr.read() == ""
    watcher.stderr.close()


def test_a_run_of_another_process_is_followed_to_its_end_and_stopped_from_outside(
    run_kling: Kling, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("prompt\n" + "a boat\n" * 40)
    run = child("run", "x.csv", "--sandbox", "--sandbox-speed", "200", "-j", "2", "--no-download", "--json")
    assert run.stdout is not None
    while "accepted" not in run.stdout.readline():
        assert run.poll() is None
    watcher = child("watch", "--json", stderr=subprocess.STDOUT)
    assert watcher.stdout is not None
    assert json.loads(watcher.stdout.readline())["event"] == "watching"
    seen = set[str]()
    while not seen >= {"accepted", "succeeded"}:
        seen.add(json.loads(watcher.stdout.readline())["event"])
        assert watcher.poll() is None
    assert run_kling("stop").exit_code == 0
    run.communicate(timeout=30)
    told, _ = watcher.communicate(timeout=30)
    assert (run.returncode, watcher.returncode) == (7, 0)
    *_, last = events_in(told)
    assert last["event"] == "summary"
    assert last["planned"] > 0 == last["accepted"]
    assert last["driven_by"] is None
