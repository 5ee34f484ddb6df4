"""Opening a journal: what is refused, in which words, and that a file which is refused is left as it is."""

import contextlib
import os
import shutil
import sqlite3
import stat
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from journal_disk import read_all

from kling_async import JournalError, TextToVideo
from kling_async.batch import Reading, State, Step, journal
from kling_async.batch.journal import Journal, ask_to_stop
from kling_async.batch.keys import Names, named
from kling_async.batch.owner import driven_by, lock_path
from kling_async.batch.schema import APPLICATION
from kling_async.batch.trouble import file_system_of, refuse_network

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes and umask are of POSIX")


def planned(count, start=0):
    return list(
        named([(f"job {number}", TextToVideo(f"clip {number}")) for number in range(start, start + count)], Names())
    )


def filled(path, jobs=50):
    """Make a journal with some jobs in it and close it."""
    made = Journal(path, gateway="kling3api", unit="credits", base_url="http://127.0.0.1:9")
    made.add(planned(jobs), [10] * jobs)
    made.close()


def refused(open_journal, path):
    with pytest.raises(JournalError) as caught:
        open_journal(path)
    assert str(path) in caught.value.message or path.name in caught.value.message
    assert driven_by(path) is None
    return caught.value.code


# Locked.


def test_another_writer_of_the_file_is_waited_for_and_then_named_busy(open_journal, tmp_path, monkeypatch):  # J06
    monkeypatch.setattr(journal, "BUSY_SECONDS", 0.4)
    path = tmp_path / "night.db"
    filled(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        cpu, begun = time.process_time(), time.monotonic()
        assert refused(open_journal, path) == "busy"
        assert 0.4 <= time.monotonic() - begun < 3
        assert time.process_time() - cpu < 0.2  # it waits, and does not spin
        other.execute("ROLLBACK")
    assert open_journal(path).counts().states == {State.PLANNED: 50}


def test_a_writer_that_comes_in_between_fails_all_who_wait_after_one_wait(open_journal, tmp_path, monkeypatch):  # J06
    monkeypatch.setattr(journal, "BUSY_SECONDS", 0.5)
    path = tmp_path / "night.db"
    mine = open_journal(path)
    codes = []

    def add(number):
        try:
            mine.add(planned(1, number), [10])
        except JournalError as error:
            codes.append(error.code)

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - begun < 3  # the first, and then the eleven others together
        other.execute("ROLLBACK")
    assert codes == ["busy"] * 12
    assert not mine.counts().states
    assert mine.add(planned(3), [10] * 3) == (3, 0)


def test_a_short_lock_is_waited_out(open_journal, tmp_path):  # J06
    path = tmp_path / "night.db"
    mine = open_journal(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        timer.start()
        assert mine.add(planned(3), [10] * 3) == (3, 0)
        timer.join()


@pytest.mark.anyio
async def test_an_id_is_kept_once_another_writer_lets_go(kling_sandbox, tmp_path, monkeypatch):  # J06
    monkeypatch.setattr(journal, "BUSY_SECONDS", 0.2)
    path = tmp_path / "night.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:

        def lock(step, old, new):
            if step is Step.SUBMITTING:
                other.execute("BEGIN IMMEDIATE")
                threading.Timer(0.7, other.execute, ["ROLLBACK"]).start()

        async with kling_sandbox.session() as session, session.batch(path, observer=lock) as batch:
            batch.add([("fox", TextToVideo("a red fox"))])
            outcomes, error = await read_all(batch.run())
            assert error.code == "busy"
            assert batch._journal.find("fox").task_id == outcomes[0].task_id
    assert kling_sandbox.charges == 1


def test_a_second_owner_is_refused_and_told_who_has_it(open_journal, tmp_path):
    path = tmp_path / "night.db"
    open_journal(path)
    with pytest.raises(JournalError, match=f"process {os.getpid()}") as caught:
        open_journal(path)
    assert caught.value.code == "locked"


# Damaged, or no journal at all.


def damage_header(path):
    with path.open("r+b") as file:
        file.write(b"\xff" * 60)


def damage_page(path):
    """Overwrite the leaf page that holds the first jobs."""
    content = path.read_bytes()
    start = content.index(b'"prompt":"clip 1"') // 4096 * 4096
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\x5a" * 64)


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def cut_within_a_page(path):
    os.truncate(path, path.stat().st_size - 1000)


def write_text(path):
    path.write_text("id,prompt\n1,a red fox\n")


def write_long_text(path):
    path.write_text("id,prompt\n1,a red fox\n" * 1000)


def write_one_byte(path):
    path.write_bytes(b"k")


def write_zeros(path):
    path.write_bytes(bytes(8192))


def write_others(path):
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE job (id INTEGER)")


def write_others_with_a_version(path):
    write_others(path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 1")


def write_others_with_a_log(path):
    write_others(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA application_id = 7")
        connection.commit()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (damage_header, "corrupt"),
        (damage_page, "corrupt"),
        (cut_in_half, "corrupt"),
        (cut_within_a_page, "corrupt"),
        (write_text, "corrupt"),
        (write_long_text, "corrupt"),
        (write_one_byte, "corrupt"),
        (write_zeros, "corrupt"),
        (write_others, "not_a_journal"),
        (write_others_with_a_version, "not_a_journal"),
        (write_others_with_a_log, "not_a_journal"),
    ],
)
def test_what_is_no_sound_journal_is_refused_and_left_as_it_is(open_journal, tmp_path, spoil, code):  # J07
    path = tmp_path / "night.db"
    filled(path)
    spoil(path)
    before, when = path.read_bytes(), path.stat().st_mtime_ns
    assert refused(open_journal, path) == code
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == when
    assert {file.name for file in tmp_path.iterdir()} <= {"night.db", "night.db.lock"}


@pytest.mark.parametrize("spoil", [damage_header, write_text, write_zeros, write_others_with_a_version, write_others])
def test_a_reader_refuses_it_too(tmp_path, spoil):  # J07
    path = tmp_path / "night.db"
    filled(path)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(JournalError) as caught:
        Reading(path)
    assert caught.value.code in ("corrupt", "not_a_journal")
    assert path.read_bytes() == before


def test_damage_in_a_journal_too_large_to_look_through_is_found_where_it_is_read(open_journal, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "CHECKED", 1000)
    path = tmp_path / "night.db"
    filled(path)
    damage_page(path)
    opened = open_journal(path)
    with pytest.raises(JournalError) as caught:
        list(opened.each([State.PLANNED]))
    assert caught.value.code == "corrupt"


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b""), write_one_byte])
def test_an_empty_file_is_refused_where_the_lock_says_that_it_held_jobs(open_journal, tmp_path, lose):  # J07
    path = tmp_path / "night.db"
    filled(path)
    lose(path)
    with pytest.raises(JournalError, match="restore a copy") as caught:
        open_journal(path)
    assert caught.value.code == "corrupt"
    assert path.stat().st_size <= 1


def test_a_journal_that_came_without_its_lock_is_known_to_hold_jobs_once_it_was_opened(open_journal, tmp_path):  # J07
    path = tmp_path / "night.db"
    filled(path)
    lock_path(path).unlink()
    open_journal(path).close()
    path.write_bytes(b"")
    with pytest.raises(JournalError, match="restore a copy"):
        Journal(path, gateway="kling3api", unit="credits", base_url="http://127.0.0.1:9")


def test_an_empty_file_that_never_held_anything_becomes_a_journal(open_journal, tmp_path):
    path = tmp_path / "night.db"
    path.touch()
    assert open_journal(path).add(planned(1), [10]) == (1, 0)


def test_a_journal_of_a_newer_version_is_refused_and_left_as_it_is(open_journal, tmp_path):  # J10
    path = tmp_path / "night.db"
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="version 99"):
        open_journal(path)
    assert refused(open_journal, path) == "too_new"
    with pytest.raises(JournalError) as caught:
        Reading(path)
    assert caught.value.code == "too_new"
    assert path.read_bytes() == before


# Lost while it is open.


@pytest.mark.parametrize("lose", ["delete", "move", "replace", "delete the log"])
def test_a_journal_that_is_lost_while_open_takes_nothing_more(open_journal, tmp_path, lose):  # J08
    path = tmp_path / "night.db"
    mine = open_journal(path)
    mine.add(planned(3), [10] * 3)
    match lose:
        case "delete":
            path.unlink()
        case "move":
            path.rename(tmp_path / "day.db")
        case "replace":
            shutil.copy(path, tmp_path / "copy.db")
            os.replace(tmp_path / "copy.db", path)
        case "delete the log":
            Path(f"{path}-wal").unlink()
    for _ in range(2):
        with pytest.raises(JournalError, match="moved or deleted") as caught:
            mine.add(planned(3, 3), [10] * 3)
        assert caught.value.code == "moved"


async def deleting(path, run):
    """Pass the outcomes of a run on, and delete its journal at the first."""
    async for outcome in run:
        yield outcome
        path.unlink(missing_ok=True)


@pytest.mark.anyio
async def test_a_run_whose_journal_is_deleted_sends_nothing_more(kling_sandbox, tmp_path):  # J08
    path = tmp_path / "night.db"
    async with kling_sandbox.session(concurrency=2) as session, session.batch(path) as batch:
        batch.add([TextToVideo(f"clip {number}") for number in range(20)])
        outcomes, error = await read_all(deleting(path, batch.run()))
    assert error.code == "moved"
    assert kling_sandbox.submissions <= 5
    told = {outcome.task_id for outcome in outcomes} | set(error.message.replace(",", " ").split())
    assert {submit.task_id for submit in kling_sandbox.ledger.submits} <= told


# Read-only.


@pytest.fixture
def bound_by_modes():
    """A directory of an ordinary user, whom modes bind, as which the test goes on."""
    directory = Path(tempfile.mkdtemp())
    if os.geteuid():
        yield directory
    else:
        os.chown(directory, 65534, 65534)
        try:
            os.seteuid(65534)
        except OSError as error:
            pytest.skip(f"modes do not bind this user, and it cannot become another: {error}")
        try:
            yield directory
        finally:
            os.seteuid(0)
    shutil.rmtree(directory, ignore_errors=True)


@POSIX
def test_a_journal_that_cannot_be_written_is_refused_at_once(bound_by_modes, open_journal):  # J09
    path = bound_by_modes / "night.db"
    filled(path)
    path.chmod(0o400)
    assert refused(open_journal, path) == "read_only"
    with Reading(path) as reading:
        assert reading.counts().states == {State.PLANNED: 50}


@POSIX
@pytest.mark.parametrize("known", [True, False])
def test_a_directory_that_cannot_be_written_is_refused_at_once(bound_by_modes, open_journal, known):  # J09
    path = bound_by_modes / "night.db"
    if known:
        filled(path)
    bound_by_modes.chmod(0o500)
    try:
        assert refused(open_journal, path) == "read_only"
        assert path.exists() is known
    finally:
        bound_by_modes.chmod(0o700)


# Network file systems.

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
nas:/home /mnt/nas nfs4 rw 0 0
//nas/team /mnt/nas/team\\040share cifs rw 0 0
tmpfs /mnt/nas/local tmpfs rw 0 0
/dev/vdb /mnt/nasty ext4 rw 0 0
me@host: /home/me/over\\134there fuse.sshfs rw 0 0
auto.home /home/you autofs rw 0 0
nas:/you /home/you nfs rw 0 0
a broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/night.db", "ext4"),
        ("/night.db", "ext4"),
        ("/mnt/nas/night.db", "nfs4"),
        ("/mnt/nas/a/b/night.db", "nfs4"),
        ("/mnt/nas/team share/night.db", "cifs"),
        ("/mnt/nas/local/night.db", "tmpfs"),
        ("/mnt/nasty/night.db", "ext4"),
        ("/mnt/nas/x/../../../srv/night.db", "ext4"),
        ("/home/me/over\\there/night.db", "fuse.sshfs"),
        ("/home/you/night.db", "nfs"),
    ],
)
def test_the_kind_of_file_system_is_that_of_the_nearest_mount(tmp_path, path, kind):  # J11
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert file_system_of(Path(path), str(mounts)) == kind


def test_a_link_is_where_it_leads(tmp_path):  # J11
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nnas:/x {tmp_path}/nas nfs rw 0 0\n")
    (tmp_path / "nas").mkdir()
    link = tmp_path / "night.db"
    link.symlink_to(tmp_path / "nas" / "night.db")
    assert file_system_of(link, str(mounts)) == "nfs"


def test_a_system_without_a_table_of_mounts_tells_nothing(tmp_path):  # J11
    assert file_system_of(tmp_path / "night.db", str(tmp_path / "none")) == ""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"])
def test_a_journal_on_the_network_is_refused_before_anything_is_made(open_journal, tmp_path, monkeypatch, kind):  # J11
    monkeypatch.setattr("kling_async.batch.trouble.file_system_of", lambda path: kind)
    path = tmp_path / "night.db"
    assert refused(open_journal, path) == "network_filesystem"
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("kling_async.batch.trouble.file_system_of", lambda path: "ext4")
    refuse_network(path)


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
