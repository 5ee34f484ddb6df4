"""Opening a journal: what is refused, in which words, and that a file which is refused is left as it is."""

import contextlib
import os
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from journal_made import filled, planned

from kling_async import JournalError
from kling_async.batch import Reading, State
from kling_async.batch.journal import ask_to_stop
from kling_async.batch.owner import driven_by, lock_path
from kling_async.batch.schema import APPLICATION

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes and umask are of POSIX")


def refused(open_journal, path):
    with pytest.raises(JournalError) as caught:
        open_journal(path)
    assert str(path) in caught.value.message or path.name in caught.value.message
    assert driven_by(path) is None
    return caught.value.code


# Modes, places and names.


@POSIX
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_what_a_journal_keeps(open_journal, tmp_path, umask):
    path = tmp_path / "night.db"
    before = os.umask(umask)
    try:
        mine = open_journal(path)
        mine.add(planned(3), [10] * 3)
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["night.db", "night.db-wal", "night.db-shm", "night.db.lock"], 0o600)


@pytest.mark.parametrize(
    "name",
    [
        "with blanks.db",
        "ночь-夜-🦊.db",
        'it\'s "quoted".db',
        "what?mode=memory.db",
        "a#b%20c%.db",
        "file:night.db",
        "file:night.db?mode=memory",
        ":memory:",
        "-.db",
        "new\nline.db",
        "no ending",
    ],
)
def test_any_name_is_a_name(open_journal, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    mine = open_journal(path)
    mine.add(planned(3), [10] * 3)
    with Reading(path) as reading:
        assert reading.counts().states == {State.PLANNED: 3}
    ask_to_stop(path, "drain")
    assert mine.facts().stop == "drain"
    mine.close()
    assert {file.name for file in tmp_path.iterdir()} == {name, f"{name}.lock"}
    assert open_journal(tmp_path / name).counts().states == {State.PLANNED: 3}


def test_a_relative_path_means_the_directory_in_which_it_was_opened(open_journal, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    mine = open_journal(Path("night.db"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    mine.add(planned(3), [10] * 3)
    assert mine.counts().states == {State.PLANNED: 3}
    assert not list((tmp_path / "elsewhere").iterdir())


@POSIX
def test_a_link_and_what_it_leads_to_are_one_journal(open_journal, tmp_path):
    path, link = tmp_path / "night.db", tmp_path / "tonight.db"
    link.symlink_to(path)
    mine = open_journal(link)  # there is nothing behind it yet
    mine.add(planned(3), [10] * 3)
    assert link.is_symlink()
    for other in (path, link):
        with pytest.raises(JournalError) as caught:
            open_journal(other)
        assert caught.value.code == "locked"
        with Reading(other) as reading:
            assert reading.counts().states == {State.PLANNED: 3}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@POSIX
def test_a_link_that_leads_to_itself_is_refused(open_journal, tmp_path):
    path = tmp_path / "night.db"
    path.symlink_to(path)
    assert refused(open_journal, path) == "cannot_open"


def test_a_missing_directory_is_named(open_journal, tmp_path):
    with pytest.raises(JournalError, match="no directory") as caught:
        open_journal(tmp_path / "none" / "night.db")
    assert caught.value.code == "missing_directory"
    assert not list(tmp_path.iterdir())


def test_a_directory_is_no_journal(open_journal, tmp_path):
    path = tmp_path / "night.db"
    path.mkdir()
    assert refused(open_journal, path) == "cannot_open"
    with pytest.raises(JournalError) as caught:
        Reading(path)
    assert caught.value.code == "missing"


def test_a_reader_makes_no_file(tmp_path):
    with pytest.raises(JournalError) as caught:
        Reading(tmp_path / "night.db")
    assert caught.value.code == "missing"
    assert not list(tmp_path.iterdir())


def test_a_closed_journal_leaves_one_file_and_its_lock(open_journal, tmp_path):
    path = tmp_path / "night.db"
    filled(path)
    assert {file.name for file in tmp_path.iterdir()} == {"night.db", "night.db.lock"}
    assert lock_path(path).stat().st_size < 8192
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_commit_is_on_disk_before_it_is_answered(open_journal, tmp_path):
    mine = open_journal(tmp_path / "night.db")
    found = mine._writer.run(lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0])
    assert found == 2  # FULL
