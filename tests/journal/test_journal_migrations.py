"""Journals of earlier versions: read and resumed as they are, copied before they are changed, never left in between."""

import contextlib
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
from journal_child import add_column
from journal_disk import left_in
from journal_made import filled, opened

from kling_async import JournalError, Status, Success, TextToVideo
from kling_async.batch import Reading, State, schema
from kling_async.batch.schema import MIGRATIONS
from kling_async.batch.states import replay

pytestmark = pytest.mark.anyio

EVERY = bool(os.environ.get("KLING_EVERY_FAULT"))
GOLDEN = sorted((Path(__file__).parent / "golden").glob("v*.db"))
TODAY = len(MIGRATIONS)
ENDINGS = f".db:.db-wal:.db-journal:.v{TODAY}"


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request, tmp_path):
    """A copy of a journal that was written by a program of that version."""
    return Path(shutil.copy(request.param, tmp_path / "night.db"))


def test_there_is_a_golden_journal_of_every_version():
    assert [path.name for path in GOLDEN] == [f"v{number}.db" for number in range(1, len(MIGRATIONS) + 1)]
    assert all(path.stat().st_size < 100_000 for path in GOLDEN)


def test_a_journal_of_any_version_tells_all_it_knows(golden, open_journal):
    kept = open_journal(golden)
    assert kept.facts().gateway == "kling3api"
    assert kept.facts().directory == "/srv/videos"
    assert kept.counts().states == dict.fromkeys(State, 1)
    for entry in kept.each(State):
        assert entry.key.replace(" ", "_") == entry.state
        assert entry.asked().duration == 5
        assert (entry.task_id is None) == (
            entry.state in (State.PLANNED, State.SUBMITTING, State.REJECTED, State.IN_DOUBT)
        )
        assert replay(step for step, _, _ in kept.steps(entry.id)) == (entry.state, 1)
        if entry.state in (State.SUCCEEDED, State.DOWNLOADED):
            assert entry.made().task_id == entry.task_id
        if entry.state in (State.FAILED, State.REJECTED, State.IN_DOUBT, State.SUCCEEDED):
            assert entry.problem().message
    assert kept.counts().spent == 400_000_000
    assert kept.counts().reserved == 600_000_000


async def test_a_journal_of_any_version_is_resumed(golden, kling_sandbox):
    with Reading(golden) as reading:
        known = {entry.key: entry.task_id for entry in reading.each(State)}
    async with kling_sandbox.session() as session:
        # The sandbox names tasks after its seed: the same submits make the same tasks.
        while known["accepted"] not in kling_sandbox.sandbox.tasks:
            await session.submit(TextToVideo("a task of the golden batch")).accepted()
        before = kling_sandbox.submissions
        async with session.batch(golden) as batch:
            found = {outcome.key: outcome async for outcome in batch.run()}
            summary = batch.summary()
    assert set(found) == {"accepted", "submitting", "planned"}
    assert isinstance(found["accepted"], Success)
    assert found["accepted"].task_id == known["accepted"]
    assert found["submitting"].status is Status.IN_DOUBT
    assert isinstance(found["planned"], Success)
    assert kling_sandbox.submissions == before + 1
    assert (summary.succeeded, summary.downloaded, summary.in_doubt) == (3, 1, 2)
    assert (summary.rejected, summary.failed, summary.planned) == (1, 1, 0)


# From one version to the next.


def fail(connection):
    connection.execute("ALTER TABLE job ADD COLUMN mist TEXT")
    raise sqlite3.OperationalError("the migration failed")


@pytest.fixture
def later(monkeypatch):
    """Return a function that gives the program further versions of the journal."""
    return lambda *more: monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, *more))


def columns(path):
    """Return the version of a journal and the names of its columns that today's do not have."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = {row[1] for row in connection.execute("PRAGMA table_info(job)")}
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    return version, names & {"mood", "mist"}


def test_an_older_journal_is_copied_and_then_changed(golden, later):
    before = left_in(golden, golden.parent / "copy")
    later(add_column)
    opened(golden).close()
    new = len(MIGRATIONS) + 1
    assert columns(golden) == (new, {"mood"})
    copy = golden.with_name(f"night.db.v{before.version}")
    assert columns(copy) == (before.version, set())
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert left_in(copy, golden.parent / "copy") == before
    assert left_in(golden, golden.parent / "copy").jobs == before.jobs
    copy.unlink()
    opened(golden).close()
    assert not copy.exists()  # there is nothing to change any more


def test_the_copy_is_its_owners_from_the_first_byte(tmp_path, later, monkeypatch):
    modes = []
    path = filled(tmp_path / "night.db", 200)

    def look(connection):
        modes.append(stat.S_IMODE(path.with_name(f"night.db.v{TODAY}").stat().st_mode))

    later(look)
    before = os.umask(0)
    try:
        opened(path).close()
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_an_older_copy_of_the_same_version_is_replaced(tmp_path, later):
    path = filled(tmp_path / "night.db", 200)
    path.with_name(f"night.db.v{TODAY}").write_text("something else")
    later(add_column)
    opened(path).close()
    assert columns(path.with_name(f"night.db.v{TODAY}")) == (TODAY, set())


@pytest.mark.parametrize("more", [(fail,), (add_column, fail)])
def test_a_migration_that_fails_changes_nothing(tmp_path, later, more):
    path = filled(tmp_path / "night.db", 200)
    before = left_in(path, tmp_path / "copy")
    later(*more)
    with pytest.raises(JournalError):
        opened(path)
    assert columns(path) == (TODAY, set())
    assert left_in(path, tmp_path / "copy") == before
    later(add_column)
    opened(path).close()
    assert columns(path) == (TODAY + 1, {"mood"})


def test_a_new_journal_begins_with_the_newest_version(tmp_path, later):
    later(add_column)
    opened(tmp_path / "night.db").close()
    assert columns(tmp_path / "night.db") == (TODAY + 1, {"mood"})
    assert {file.name for file in tmp_path.iterdir()} == {"night.db", "night.db.lock"}


def test_a_program_of_yesterday_leaves_the_journal_of_today_alone(tmp_path, later):
    later(add_column)
    path = filled(tmp_path / "night.db", 200)
    before = path.read_bytes()
    later()
    with pytest.raises(JournalError) as caught:
        opened(path)
    assert caught.value.code == "too_new"
    assert path.read_bytes() == before
