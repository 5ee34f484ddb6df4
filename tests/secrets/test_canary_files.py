"""What is written: journals and all beside them, exports, sidecars and files of failed rows never hold the key."""

import csv
import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from canary import KEY, PRIVATE, PROMPT, SIGNATURE, leaks
from click.testing import CliRunner
from commands import QUICK, run
from echoing_gateway import ROWS, EchoingGateway, echoing_gateway, spoil
from test_canary_exceptions import session_at

from kling_async import Failure, TextToVideo, Timeouts
from kling_async.batch import Reading
from kling_async.cli.app import kling


def contents(place: Path) -> dict[str, bytes]:
    """Return what every file below a directory holds, films aside."""
    files = [path for path in place.rglob("*") if path.is_file() and path.suffix != ".mp4"]
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


def leaking(place: Path) -> dict[str, list[str]]:
    """Return the files in which the key is, in their names or in what they hold."""
    found = {name: leaks(held) + leaks(name) for name, held in contents(place).items()}
    return {name: hits for name, hits in found.items() if hits}


async def _run(gateway: EchoingGateway, path: Path, at_each: Any = None) -> list[str]:
    timeouts = Timeouts(connect=5, submit=5, poll=5, generation=2)
    async with (
        session_at(gateway.url, timeouts=timeouts) as session,
        session.batch(path, download_to=path.parent / "videos") as batch,
    ):
        batch.add([(key, TextToVideo(prompt)) for key, prompt in ROWS.items()])
        ends = []
        async for outcome in batch.run():
            ends.append(outcome.error.code if isinstance(outcome, Failure) else "made")
            if at_each is not None:
                at_each()
        batch.retry()
        return sorted(map(str, ends))


@pytest.mark.anyio
async def test_no_file_of_a_batch_holds_the_key_at_any_time(tmp_path: Path) -> None:
    seen: set[str] = set()

    def look() -> None:
        assert leaking(tmp_path) == {}
        seen.update(contents(tmp_path))

    with echoing_gateway() as gateway:
        spoil(gateway)
        ends = await _run(gateway, tmp_path / "b.db", look)
        assert len(ends) == len(ROWS)
        assert {"made", "not_a_video", "HTTP_500", "cut"} < set(ends)
        look()
        await _run(gateway, tmp_path / "b.db", look)
    with closing(sqlite3.connect(tmp_path / "b.db")) as source, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        source.backup(copy)
    look()
    assert {"b.db", "b.db-wal", "b.db-shm", "b.db.lock", "copy.db"} <= seen


@pytest.mark.anyio
async def test_the_copy_that_a_migration_makes_holds_no_key(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "journal" / "golden" / "v1.db"
    shutil.copy(golden, tmp_path / "old.db")
    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        name, address = old.execute("SELECT gateway, base_url FROM batch").fetchone()
    async with session_at(address, name) as session, session.batch(tmp_path / "old.db"):
        pass
    assert "old.db.v1" in contents(tmp_path)
    assert leaking(tmp_path) == {}


@pytest.mark.anyio
async def test_a_journal_tells_the_key_neither_plainly_nor_by_a_hash_that_others_could_make(tmp_path: Path) -> None:
    """The mark of the account is salted: the same key has another in each journal, and the same in one."""
    with echoing_gateway() as gateway:
        for name in ("one", "two", "two"):
            async with session_at(gateway.url) as session, session.batch(tmp_path / f"{name}.db") as batch:
                batch.add([(f"job-{len(gateway.visits)}", TextToVideo("a boat"))])
                _ = [outcome async for outcome in batch.run()]
    marks = {name: _marks(tmp_path / f"{name}.db") for name in ("one", "two")}
    assert [len(each) for each in marks.values()] == [1, 1]
    assert not marks["one"] & marks["two"]
    assert all(len(mark) == 12 for each in marks.values() for mark in each)
    held = b"".join(contents(tmp_path).values())
    for told in (KEY, f"Bearer {KEY}"):
        for kind in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s", "sha3_256"):
            digest = hashlib.new(kind, told.encode())
            assert digest.digest()[:6] not in held, kind
            assert digest.hexdigest()[:10].encode() not in held, kind


def _marks(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as journal:
        return {row[0] for row in journal.execute("SELECT detail FROM event WHERE step = 'submitting'")}


@pytest.mark.anyio
async def test_a_journal_holds_prompts_and_signed_urls_where_it_says_so_and_nowhere_else(tmp_path: Path) -> None:
    """As SECURITY.md tells; what a gateway quotes in its own words aside."""
    with echoing_gateway() as gateway:
        async with (
            session_at(gateway.url, timeouts=Timeouts(submit=2, poll=2)) as session,
            session.batch(tmp_path / "b.db", download_to=tmp_path / "videos") as batch,
        ):
            batch.add([TextToVideo(PROMPT), ("mine", TextToVideo(f"{PROMPT} [sandbox: fail]"))])
            _ = [outcome async for outcome in batch.run()]
            assert set(contents(tmp_path)) == {"b.db", "b.db-wal", "b.db-shm", "b.db.lock"}
            assert PRIVATE.encode() not in contents(tmp_path)["b.db.lock"]
    assert _places(tmp_path / "b.db", PRIVATE) == {"job.request"}
    assert _places(tmp_path / "b.db", SIGNATURE) == {"job.video"}
    assert oct((tmp_path / "b.db").stat().st_mode & 0o777) == "0o600"


def _places(path: Path, text: str) -> set[str]:
    """Return the columns in which a text is."""
    found = set()
    with closing(sqlite3.connect(path)) as journal:
        for (table,) in journal.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            rows = journal.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in rows.description]
            found |= {
                f"{table}.{name}" for row in rows for name, cell in zip(names, row, strict=True) if text in str(cell)
            }
    return found


# The command line.


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_no_file_that_the_commands_write_holds_the_key(at_work: EchoingGateway, tmp_path: Path, kind: str) -> None:
    if kind == "csv":
        with Path("shots.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("id", "prompt"), *ROWS.items()])
    else:
        lines = (json.dumps({"id": key, "prompt": prompt}) for key, prompt in ROWS.items())
        Path("shots.jsonl").write_text("\n".join(lines))
    told = run("run", f"shots.{kind}", "--yes", "--budget", "none", "--sidecar", *QUICK)
    told += run("resume", "--yes", *QUICK)
    told += run("export", "-o", f"all.{kind}") + run("export", "--format", "csv") + run("export")
    told += run("retry", "--only", "rejected", "--yes", *QUICK) + run("reconcile", *QUICK)
    assert leaks(told) == []
    assert leaking(tmp_path) == {}

    names = set(contents(tmp_path))
    (journal,) = tmp_path.glob("runs/*.db")
    failures = {name for name in names if ".failures." in name}
    sidecars = {name for name in names if name.endswith(".mp4.json")}
    assert f"all.{kind}" in names
    assert failures
    assert sidecars
    signed = {name for name, held in contents(tmp_path).items() if SIGNATURE.encode() in held}
    assert signed == {f"all.{kind}", f"runs/{journal.name}"}, "signed URLs are in the journal and in exports"
    private = {name for name, held in contents(tmp_path).items() if PRIVATE.encode() in held}
    assert private >= {f"shots.{kind}", f"runs/{journal.name}", *failures, *sidecars}
    with Reading(journal) as reading:
        assert KEY not in repr(reading.facts())


def test_a_video_that_is_not_downloaded_leaves_its_url_on_stdout_alone(at_work: EchoingGateway, tmp_path: Path) -> None:
    Path("shots.csv").write_text(f"id,prompt\nboat,{PROMPT}\n")
    done = CliRunner().invoke(kling, ["run", "shots.csv", "--yes", "--budget", "none", "--no-download", "-vv", *QUICK])
    assert done.exit_code == 0
    assert SIGNATURE in done.stdout
    assert SIGNATURE not in done.stderr
    assert SIGNATURE not in run("status") + run("status", "--json") + run("runs", "--json") + run("spend") + run(
        "watch"
    )
    assert leaks(done.stdout + done.stderr) == []


def test_the_search_does_find_a_key_in_a_file(tmp_path: Path) -> None:
    """Otherwise none of these tests could fail."""
    with closing(sqlite3.connect(tmp_path / "x.db")) as journal:
        journal.execute("CREATE TABLE t (a TEXT)")
        journal.execute("INSERT INTO t VALUES (?)", [f"a {KEY} b"])
        journal.commit()
    assert set(leaking(tmp_path)) == {"x.db"}
    assert _places(tmp_path / "x.db", KEY) == {"t.a"}
