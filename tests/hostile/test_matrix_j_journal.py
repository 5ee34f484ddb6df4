"""J: what becomes of jobs when the journal or its disk fails: full, broken, locked, damaged, lost, of another version.

`KLING_EVERY_FAULT=1` lets each write, sync and read fail in turn; without it a spread of them does.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from attrs import define

sys.path += [str(Path(__file__).parents[1] / room) for room in ("durability", "journal")]

from journal_disk import Children, build, left_in, read_all
from journal_lines import Lines, held_up, line
from journal_made import filled, opened, planned
from journal_world import counting_server, empty_disk, fill_disk, filling_at, nothing_left_behind

from benchmarks.processes import measured
from kling_async import (
    DownloadError,
    JournalError,
    KlingSession,
    Status,
    SubmissionInDoubtError,
    Success,
    TextToVideo,
)
from kling_async.batch import Reading, State, Step, journal, record
from kling_async.batch import entry as steps
from kling_async.batch.owner import SPARE, driven_by, lock_path
from kling_async.batch.trouble import file_system_of, refuse_network
from kling_async.batch.writer import MOST_AT_ONCE
from kling_async.sandbox import Sandbox, ThreadedServer, answer, ends_after, slow
from kling_async.sandbox.mp4 import video

pytestmark = pytest.mark.anyio

EVERY = bool(os.environ.get("KLING_EVERY_FAULT"))
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes and umask are of POSIX")
thread_may_die = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

FOX = TextToVideo("a red fox")
AT_ONCE = 3


@pytest.fixture(autouse=True)
def no_leak(figures):
    with nothing_left_behind(figures):
        yield


@pytest.fixture
def open_journal():
    """Return a function that opens a journal; each is closed at the end of the test."""
    found = []

    def open_(path):
        found.append(opened(path))
        return found[-1]

    yield open_
    for each in found:
        if not each._writer._closed:
            each.close()


@pytest.fixture
def gateway():
    """A sandbox on loopback whose jobs last some 10 ms."""
    with ThreadedServer(Sandbox(median=0.01, sigma=0.2)) as server:
        yield server


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """What makes a disk fail."""
    made, reason = build(tmp_path_factory.mktemp("library"))
    if made is None:
        pytest.skip(f"no disk can be made to fail: {reason}")
    return made


@pytest.fixture(scope="module")
def children(library, tmp_path_factory):
    """Children on disks that fail on purpose."""
    with Children(tmp_path_factory.mktemp("children"), library) as made:
        yield made


def refused(open_journal, path):
    with pytest.raises(JournalError) as caught:
        open_journal(path)
    assert str(path) in caught.value.message or path.name in caught.value.message
    assert (caught.value.stage, driven_by(path)) == ("journal", None)
    return caught.value.code


# J01: the disk is full when jobs are planned.


def test_j01_nothing_is_planned_on_a_full_disk(open_journal, tmp_path):
    mine = open_journal(tmp_path / "night.db")
    jobs = planned(200)
    fill_disk(mine)
    with pytest.raises(JournalError) as caught:
        mine.add(jobs, [10] * 200)
    assert (caught.value.code, caught.value.stage) == ("full", "journal")
    assert not mine.counts().states

    empty_disk(mine)
    assert mine.add(jobs, [10] * 200) == (200, 0)


async def test_j01_a_batch_that_finds_no_room_adds_nothing(kling_sandbox, tmp_path):
    async with kling_sandbox.session() as session, session.batch(tmp_path / "night.db") as batch:
        fill_disk(batch._journal)
        with pytest.raises(JournalError) as caught:
            batch.add([FOX])
        assert caught.value.code == "full"
        assert batch.summary().total == 0
    assert not kling_sandbox.submissions


FULL = {"kind": "write", "first": 1, "once": False, "error": "ENOSPC"}
"""A disk that takes nothing more."""


def test_j01_a_program_whose_disk_is_full_sends_nothing(children, gateway, tmp_path):
    path = tmp_path / "night.db"
    job = {"journal": path, "url": gateway.url, "prompts": PROMPTS}
    ended = children.run(**job, disk={**FULL, "at": "opened"})
    assert (ended.end, ended.report["code"]) == ("JournalError", "full")
    left = left_in(path, tmp_path / "copy")
    assert (left.sound, left.jobs) == ("ok", {})
    assert gateway.ledger.submits == []


# J02: when an intent is recorded.


async def test_j02_no_byte_is_sent_where_the_intent_finds_no_room(tmp_path):
    async with (
        counting_server() as (url, read),
        KlingSession("kling3api", api_key="sk-of-a-test", base_url=url) as session,
        session.batch(tmp_path / "night.db") as batch,
    ):
        batch.add([("fox", FOX), ("owl", TextToVideo("an owl"))])
        fill_disk(batch._journal)
        _, error = await read_all(batch.run())
        assert error.code == "full"
        assert batch.summary().planned == 2
        assert batch.summary().reserved == 0
        assert not read


def test_j02_a_program_whose_disk_fills_up_sends_nothing_and_all_of_it_once_there_is_room(children, gateway, tmp_path):
    path = tmp_path / "night.db"
    job = {"journal": path, "url": gateway.url, "prompts": PROMPTS}
    ended = children.run(**job, disk={**FULL, "at": "planned"})
    assert (ended.end, ended.report["code"], ended.report["task_id"]) == ("JournalError", "full", None)
    assert ended.report["outcomes"] == []
    left = left_in(path, tmp_path / "copy")
    assert (left.sound, left.jobs) == ("ok", dict.fromkeys(PROMPTS, ("planned", None)))
    assert gateway.ledger.submits == []

    assert children.run(**job).end == "done"
    assert gateway.ledger.accepted_per_prompt == dict.fromkeys(PROMPTS, 1)


# J03: when the id of a paid job is recorded.


async def test_j03_an_id_is_offered_to_a_full_disk_until_there_is_room(kling_sandbox, tmp_path):
    path, batches = tmp_path / "night.db", []
    async with (
        kling_sandbox.session() as session,
        session.batch(path, observer=filling_at(Step.SUBMITTING, batches)) as batch,
    ):
        batches.append(batch)
        batch.add([("fox", FOX)])
        assert lock_path(path).stat().st_size == SPARE
        asyncio.get_running_loop().call_later(1.2, empty_disk, batch._journal)
        outcomes, error = await read_all(batch.run())
        assert lock_path(path).stat().st_size < SPARE / 100  # given up for it
        assert error.code == "full"
        assert isinstance(outcomes[0], Success)
        entry = batch._journal.find("fox")
        assert (entry.state, entry.task_id) == (State.SUCCEEDED, outcomes[0].task_id)
    assert kling_sandbox.charges == 1


def test_j03_an_id_is_offered_for_half_a_minute():
    assert record.INSIST == 30


async def test_j03_an_id_that_finds_no_room_is_told_and_its_job_followed(kling_sandbox, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(record, "INSIST", 0.6)
    path, batches, jobs = tmp_path / "night.db", [], ["fox", "owl", "hen"]
    async with (
        kling_sandbox.session() as session,
        session.batch(path, observer=filling_at(Step.SUBMITTING, batches)) as batch,
    ):
        batches.append(batch)
        batch.add([(key, TextToVideo(f"a {key}")) for key in jobs])
        outcomes, error = await read_all(batch.run())
    ids = {submit.task_id for submit in kling_sandbox.ledger.submits}
    assert ids
    assert {outcome.task_id for outcome in outcomes} == ids
    assert all(isinstance(outcome, Success) for outcome in outcomes)
    assert error.code == "full"
    assert error.charged == "yes"
    assert error.task_id in ids
    critical = " ".join(known.message for known in caplog.records if known.levelno == logging.CRITICAL)
    for task_id in ids:
        assert task_id in error.message
        assert task_id in critical

    async with kling_sandbox.session() as session, session.batch(path) as batch:
        outcomes = {outcome.key: outcome async for outcome in batch.run()}
        assert batch.summary().in_doubt == len(ids)
        assert batch.summary().succeeded == len(jobs) - len(ids)
    assert all(isinstance(one, Success) or one.status is Status.IN_DOUBT for one in outcomes.values())
    kling_sandbox.assert_paid_once(f"a {key}" for key in jobs)


async def test_j03_the_next_step_brings_an_id_along_that_found_no_room(kling_sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "INSIST", 0.1)
    kling_sandbox.script(ends_after(1.5))
    path, batches = tmp_path / "night.db", []
    async with (
        kling_sandbox.session() as session,
        session.batch(path, observer=filling_at(Step.SUBMITTING, batches)) as batch,
    ):
        batches.append(batch)
        batch.add([("fox", FOX)])
        asyncio.get_running_loop().call_later(0.8, empty_disk, batch._journal)
        _, error = await read_all(batch.run())
        assert kling_sandbox.ledger.submits[0].task_id in error.message
        entry = batch._journal.find("fox")
        assert entry.state is State.SUCCEEDED
        steps = [step for step, _, _ in batch._journal.steps(entry.id)]
        assert steps == [Step.PLANNED, Step.SUBMITTING, Step.ACCEPTED, Step.SUCCEEDED]
    assert entry.task_id == kling_sandbox.ledger.submits[0].task_id


@pytest.mark.timeout(480)
def test_j03_the_spare_space_holds_the_ids_of_requests_under_way(children, tmp_path):
    """The disk is full at some moment of a run of twelve at once; whatever had been sent is on record."""
    path, prompts = tmp_path / "night.db", [f"clip {number}" for number in range(24)]
    full = 0
    with ThreadedServer(Sandbox(median=0.15, sigma=0.6)) as gateway:
        for room in range(16_384, 1_000_000, 4096 if EVERY else 240_000):
            gateway.sandbox.reset()
            for number in range(1, 25):  # so that each id is committed alone
                gateway.sandbox.script(slow(number % 12 * 0.03), on="submit", nth=number)
            for file in tmp_path.glob("night.db*"):
                file.unlink()
            disk = {"room": SPARE + room, "endings": ".db:.db-wal:.db-journal:.db.lock"}
            ended = children.run(journal=path, url=gateway.url, prompts=prompts, slots=12, disk=disk)
            left = left_in(path, tmp_path / "copy")
            assert ended.end in ("done", "JournalError"), ended.stderr
            assert left.sound == "ok"
            assert {submit.task_id for submit in gateway.ledger.submits} <= left.ids
            if ended.end == "JournalError":
                assert ended.report["code"] == "full"
                full += bool(gateway.ledger.submits)
    assert full


def test_j03_a_program_whose_disk_fills_up_behind_an_intent_tells_the_id_on_stderr_and_in_its_error(
    children, gateway, tmp_path
):
    path = tmp_path / "night.db"
    job = {"journal": path, "url": gateway.url, "prompts": PROMPTS, "slots": 1}
    ended = children.run(**job, disk={**FULL, "at": "submitting"})
    (submit,) = gateway.ledger.submits
    assert (ended.end, ended.report["code"], ended.report["task_id"]) == ("JournalError", "full", submit.task_id)
    assert submit.task_id in ended.report["message"]
    assert submit.task_id in ended.stderr
    assert ended.report["outcomes"] == [[submit.prompt, submit.task_id, True, None]]  # it was followed all the same
    left = left_in(path, tmp_path / "copy")
    assert left.sound == "ok"
    assert left.jobs == {**dict.fromkeys(PROMPTS, ("planned", None)), submit.prompt: ("submitting", None)}

    again = children.run(**job)
    assert again.end == "done"
    assert left_in(path, tmp_path / "copy").state(submit.prompt) == "in_doubt"
    assert gateway.ledger.accepted_per_prompt == dict.fromkeys(PROMPTS, 1)


# J04: when a video is written.


class Watched(Sandbox):
    """Remembers which ranges of videos were asked for."""

    ranges: list

    def __init__(self, **settings):
        super().__init__(**settings)
        self.ranges = []

    def handle(self, call, now):
        if call.path.startswith("/_sandbox/videos/"):
            self.ranges.append(call.headers.get("range"))
        return super().handle(call, now)


def test_j04_a_download_that_finds_no_room_is_taken_up_where_it_stopped(children, tmp_path):
    sandbox = Watched(median=0.01)
    path, videos = tmp_path / "night.db", tmp_path / "videos"
    with ThreadedServer(sandbox) as gateway:
        job = {"journal": path, "url": gateway.url, "prompts": ["a red fox"], "directory": videos}
        ended = children.run(**job, disk={"room": 2000, "endings": ".part"})
        assert ended.end == "done"
        ((key, task_id, made, error),) = ended.report["outcomes"]
        assert not made
        assert error.startswith("DownloadError")
        assert "No space left" in error
        assert left_in(path, tmp_path / "copy").jobs == {key: ("succeeded", task_id)}
        (part,) = videos.iterdir()
        assert part.suffix == ".part"
        assert part.stat().st_size == 2000

        again = children.run(**job)
        assert again.report["outcomes"] == [[key, task_id, True, None]]
        assert sandbox.ranges == [None, "bytes=2000-"]
        assert gateway.ledger.accepted == 1
    (file,) = videos.iterdir()
    assert file.read_bytes() == video(task_id, "16:9", 5)
    assert left_in(path, tmp_path / "copy").jobs == {key: ("downloaded", task_id)}


async def test_j04_a_run_without_room_for_videos_sends_nothing_more(kling_sandbox, tmp_path, monkeypatch):
    from kling_async import download

    def full(transfer, chunks):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_append", full)
    async with (
        kling_sandbox.session(concurrency=1) as session,
        session.batch(tmp_path / "night.db", download_to=tmp_path / "videos") as batch,
    ):
        batch.add([TextToVideo(f"clip {number}") for number in range(100)])
        outcomes = [outcome async for outcome in batch.run()]
        assert isinstance(outcomes[0].error, DownloadError)
        assert outcomes[0].error.code == "disk"
        assert batch.summary().planned > 90
        assert batch.summary().succeeded == kling_sandbox.charges


# J05: the disk fails at the Nth write, sync or read, once or from then on.

PROMPTS = [f"a red fox, take {number}" for number in range(6)]
STEPS = {"write": 67, "sync": 11, "read": 19}
CASES = [
    ("write", "EIO", "once"),
    ("write", "EIO", "for ever"),
    ("write", "ENOSPC", "once"),
    ("write", "ENOSPC", "for ever"),
    ("write", "kill", "once"),
    ("sync", "EIO", "once"),
    ("sync", "EIO", "for ever"),
    ("sync", "ENOSPC", "once"),
    ("sync", "ENOSPC", "for ever"),
    ("sync", "kill", "once"),
    ("read", "EIO", "once"),
    ("read", "EIO", "for ever"),
]
"""Which calls fail, with what, and how often."""


def moments(kind, error, often):
    """The numbers of the calls that fail; without `EVERY` each case begins at another one."""
    phase = CASES.index((kind, error, often)) * 3 % STEPS[kind]
    return count(1) if EVERY else count(1 + phase, STEPS[kind])


def check_end(ended, killed):
    if killed:
        assert ended.end in ("done", "signal 9")
    else:
        assert ended.end in ("done", "JournalError"), ended.stderr
        assert "Traceback" not in ended.stderr
    assert ended.seconds < 15


def check_money(ended, left, ledger):
    """Nothing is sent without a durable intent, and every id that was given is somewhere."""
    assert left.sound == "ok"
    assert not ledger.duplicates
    for submit in ledger.submits:
        assert left.state(submit.prompt) not in (None, "planned")
        if submit.accepted and submit.task_id not in left.ids:
            assert left.state(submit.prompt) in ("submitting", "in_doubt") or submit.task_id in ended.told
            if ended.end == "JournalError":
                assert submit.task_id in ended.report["message"]
                assert submit.task_id in ended.stderr


def check_stop(ended, left):
    """What was not on its way when the journal broke is not sent."""
    broken = ended.report.get("broken_at")
    assert broken is None or not [at for _, step, at, _ in left.events if step == "submitting" and at > broken + 0.5]


@define
class World:
    """A gateway, children and a place for a journal, one of some that are used at once."""

    directory: Path
    gateway: ThreadedServer
    children: Children

    def strike(self, number, kind, error, often):
        """Let a disk fail at one moment, judge what is left before and after another run; returns how that ended."""
        path, videos = self.directory / "night.db", self.directory / "videos"
        job = {"journal": path, "url": self.gateway.url, "prompts": PROMPTS, "directory": videos}
        self.gateway.sandbox.reset()
        for file in self.directory.glob("night.db*"):
            file.unlink()
        shutil.rmtree(videos, ignore_errors=True)

        disk = {"kind": kind, "first": number, "once": often == "once", "error": error}
        ended = self.children.run(**job, disk=disk)
        left = left_in(path, self.directory / "copy")
        check_end(ended, error == "kill")
        check_money(ended, left, self.gateway.ledger)
        check_stop(ended, left)

        again = self.children.run(**job)
        left = left_in(path, self.directory / "copy")
        assert again.end == "done", again.stderr
        assert left.sound == "ok"
        assert not self.gateway.ledger.duplicates
        assert {state for state, _ in left.jobs.values()} <= {"downloaded", "in_doubt"}
        assert len(left.jobs) == len(PROMPTS)
        return "struck" if ended.end != "done" else "past" if ended.report["counts"][kind] < number else "harmless"


@pytest.fixture(scope="module")
def worlds(library, tmp_path_factory):
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(AT_ONCE):
            directory = tmp_path_factory.mktemp("world")
            gateway = stack.enter_context(ThreadedServer(Sandbox(median=0.01, sigma=0.2)))
            made.append(World(directory, gateway, stack.enter_context(Children(directory, library))))
        yield made


@pytest.mark.timeout(480)
@pytest.mark.parametrize(("kind", "error", "often"), CASES, ids=[" ".join(case) for case in CASES])
def test_j05_a_failing_disk_costs_nothing_twice_and_loses_no_id(worlds, kind, error, often):
    numbers, struck, ends = moments(kind, error, often), 0, []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while "past" not in ends if not EVERY else set(ends) != {"past"}:
            running = [pool.submit(world.strike, next(numbers), kind, error, often) for world in worlds]
            ends = [each.result() for each in running]
            struck += ends.count("struck")
    assert struck


@pytest.mark.parametrize(("number", "end"), [(1, "JournalError"), (2, "JournalError"), (3, "done"), (4, "done")])
def test_j05_a_lock_that_cannot_be_written_is_refused_or_does_no_harm(children, gateway, tmp_path, number, end):
    job = {"journal": tmp_path / "night.db", "url": gateway.url, "prompts": PROMPTS}
    disk = {"kind": "write", "first": number, "once": True, "error": "EIO", "endings": ".db.lock"}
    ended = children.run(**job, disk=disk)
    assert ended.end == end, ended.stderr
    assert gateway.ledger.accepted == (len(PROMPTS) if end == "done" else 0)
    again = children.run(**job)
    assert again.end == "done"
    assert gateway.ledger.accepted == len(PROMPTS)


# J06: somebody else has the journal.


def test_j06_a_second_owner_is_refused_and_told_who_has_it(open_journal, tmp_path):
    path = tmp_path / "night.db"
    open_journal(path)
    with pytest.raises(JournalError, match=f"process {os.getpid()}") as caught:
        open_journal(path)
    assert caught.value.code == "locked"


def test_j06_another_writer_of_the_file_is_waited_for_and_then_named_busy(open_journal, tmp_path, monkeypatch):
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


def test_j06_a_writer_that_comes_in_between_fails_all_who_wait_after_one_wait(open_journal, tmp_path, monkeypatch):
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


def test_j06_a_short_lock_is_waited_out(open_journal, tmp_path):
    path = tmp_path / "night.db"
    mine = open_journal(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        timer.start()
        assert mine.add(planned(3), [10] * 3) == (3, 0)
        timer.join()


@pytest.mark.anyio
async def test_j06_an_id_is_kept_once_another_writer_lets_go(kling_sandbox, tmp_path, monkeypatch):
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


def test_j06_every_transaction_asks_for_the_lock_at_its_beginning(open_journal, tmp_path):
    """One that began by reading would be refused at once, and not wait."""
    mine, said = open_journal(tmp_path / "night.db"), []
    mine._writer.run(lambda connection: connection.set_trace_callback(said.append))
    mine.add(planned(3), [10] * 3)
    mine.note(stop="drain")
    mine.add(planned(3), [10] * 3)
    begun = [sql for sql in said if sql.startswith("BEGIN")]
    assert len(begun) == 3
    assert set(begun) == {"BEGIN IMMEDIATE"}


# J07: the file is damaged, or no journal at all.


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
def test_j07_what_is_no_sound_journal_is_refused_and_left_as_it_is(open_journal, tmp_path, spoil, code):
    path = tmp_path / "night.db"
    filled(path)
    spoil(path)
    before, when = path.read_bytes(), path.stat().st_mtime_ns
    assert refused(open_journal, path) == code
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == when
    assert {file.name for file in tmp_path.iterdir()} <= {"night.db", "night.db.lock"}


@pytest.mark.parametrize("spoil", [damage_header, write_text, write_zeros, write_others_with_a_version, write_others])
def test_j07_a_reader_refuses_it_too(tmp_path, spoil):
    path = tmp_path / "night.db"
    filled(path)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(JournalError) as caught:
        Reading(path)
    assert caught.value.code in ("corrupt", "not_a_journal")
    assert path.read_bytes() == before


def test_j07_damage_in_a_journal_too_large_to_look_through_is_found_where_it_is_read(
    open_journal, tmp_path, monkeypatch
):
    monkeypatch.setattr(journal, "CHECKED", 1000)
    path = tmp_path / "night.db"
    filled(path)
    damage_page(path)
    opened = open_journal(path)
    with pytest.raises(JournalError) as caught:
        list(opened.each([State.PLANNED]))
    assert caught.value.code == "corrupt"


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b""), write_one_byte])
def test_j07_an_empty_file_is_refused_where_the_lock_says_that_it_held_jobs(open_journal, tmp_path, lose):
    path = tmp_path / "night.db"
    filled(path)
    lose(path)
    with pytest.raises(JournalError, match="restore a copy") as caught:
        open_journal(path)
    assert caught.value.code == "corrupt"
    assert path.stat().st_size <= 1


def test_j07_a_journal_that_came_without_its_lock_is_known_to_hold_jobs_once_it_was_opened(open_journal, tmp_path):
    path = tmp_path / "night.db"
    filled(path)
    lock_path(path).unlink()
    open_journal(path).close()
    path.write_bytes(b"")
    with pytest.raises(JournalError, match="restore a copy"):
        opened(path)


def test_j07_an_empty_file_that_never_held_anything_becomes_a_journal(open_journal, tmp_path):
    path = tmp_path / "night.db"
    path.touch()
    assert open_journal(path).add(planned(1), [10]) == (1, 0)


# J08: it is lost while it is open.


@pytest.mark.parametrize("lose", ["delete", "move", "replace", "delete the log"])
def test_j08_a_journal_that_is_lost_while_open_takes_nothing_more(open_journal, tmp_path, lose):
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
async def test_j08_a_run_whose_journal_is_deleted_sends_nothing_more(kling_sandbox, tmp_path):
    path = tmp_path / "night.db"
    async with kling_sandbox.session(concurrency=2) as session, session.batch(path) as batch:
        batch.add([TextToVideo(f"clip {number}") for number in range(20)])
        outcomes, error = await read_all(deleting(path, batch.run()))
    assert error.code == "moved"
    assert kling_sandbox.submissions <= 5
    told = {outcome.task_id for outcome in outcomes} | set(error.message.replace(",", " ").split())
    assert {submit.task_id for submit in kling_sandbox.ledger.submits} <= told


# J09: it cannot be written.


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
def test_j09_a_journal_that_cannot_be_written_is_refused_at_once(bound_by_modes, open_journal):
    path = bound_by_modes / "night.db"
    filled(path)
    path.chmod(0o400)
    assert refused(open_journal, path) == "read_only"
    with Reading(path) as reading:
        assert reading.counts().states == {State.PLANNED: 50}


@POSIX
@pytest.mark.parametrize("known", [True, False])
def test_j09_a_directory_that_cannot_be_written_is_refused_at_once(bound_by_modes, open_journal, known):
    path = bound_by_modes / "night.db"
    if known:
        filled(path)
    bound_by_modes.chmod(0o500)
    try:
        assert refused(open_journal, path) == "read_only"
        assert path.exists() is known
    finally:
        bound_by_modes.chmod(0o700)


# J10: it is of a later version.


def test_j10_a_journal_of_a_newer_version_is_refused_and_left_as_it_is(open_journal, tmp_path):
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


# J11: it is on the network.


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
def test_j11_the_kind_of_file_system_is_that_of_the_nearest_mount(tmp_path, path, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert file_system_of(Path(path), str(mounts)) == kind


def test_j11_a_link_is_where_it_leads(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nnas:/x {tmp_path}/nas nfs rw 0 0\n")
    (tmp_path / "nas").mkdir()
    link = tmp_path / "night.db"
    link.symlink_to(tmp_path / "nas" / "night.db")
    assert file_system_of(link, str(mounts)) == "nfs"


def test_j11_a_system_without_a_table_of_mounts_tells_nothing(tmp_path):
    assert file_system_of(tmp_path / "night.db", str(tmp_path / "none")) == ""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"])
def test_j11_a_journal_on_the_network_is_refused_before_anything_is_made(open_journal, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("kling_async.batch.trouble.file_system_of", lambda path: kind)
    path = tmp_path / "night.db"
    assert refused(open_journal, path) == "network_filesystem"
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("kling_async.batch.trouble.file_system_of", lambda path: "ext4")
    refuse_network(path)


# J12: it is large.


def memory_of(path, jobs):
    """Return the most memory, in MiB, that it takes to open a journal and to take up what an earlier run left."""
    measured("benchmarks.journal_run", way="make", jobs=jobs, path=path)
    return measured("benchmarks.journal_run", way="open", jobs=jobs, path=path)["peak_mib"]


def test_j12_a_large_journal_takes_no_more_memory_than_a_small_one(tmp_path):
    """Both have a thousand jobs at the gateway. `python -m benchmarks journal` takes a million, and tells how long."""
    small, large = memory_of(tmp_path / "small.db", 4_000), memory_of(tmp_path / "large.db", 20_000)
    assert large <= small + 10
    assert large <= 200


# J13: two jobs, or two journals, claim one task.


def sent(entry):
    return steps.intended(entry, 100.0, 10)


def accepted(entry, task_id):
    return steps.accepted(entry, "kling3api", task_id, 101.0, None)


async def test_j13_a_task_belongs_to_one_job(open_journal, tmp_path):
    mine = open_journal(tmp_path / "night.db")
    mine.add(planned(4), [10] * 4)
    entries = []
    for entry in mine.page([State.PLANNED]):
        await mine.write(entry, sent(entry), Step.SUBMITTING)
        entries.append(sent(entry))
    found = await asyncio.gather(
        mine.write(entries[0], accepted(entries[0], "n75a"), Step.ACCEPTED),
        mine.write(entries[1], accepted(entries[1], "n75a"), Step.ACCEPTED),
        mine.write(entries[2], accepted(entries[2], "n75b"), Step.ACCEPTED),
        return_exceptions=True,
    )
    assert found[1].code == "duplicate_task_id"
    stands = {entry.key: (entry.state, entry.task_id) for entry in mine.each(State)}
    assert stands == {
        "job 0": (State.ACCEPTED, "n75a"),
        "job 1": (State.SUBMITTING, None),
        "job 2": (State.ACCEPTED, "n75b"),
        "job 3": (State.SUBMITTING, None),
    }
    elsewhere = steps.accepted(entries[3], "apimart", "n75a", 101.0, None)
    await mine.write(entries[3], elsewhere, Step.ACCEPTED)
    assert mine.find("job 3").task_id == "n75a"


async def test_j13_a_job_that_is_given_a_known_task_is_in_doubt(kling_sandbox, tmp_path):
    path = tmp_path / "night.db"
    async with kling_sandbox.session() as session, session.batch(path) as batch:
        batch.add([("fox", TextToVideo("a red fox"))])
        (first,) = [outcome async for outcome in batch.run()]

    def swap(true):
        true["data"]["task_id"] = first.task_id
        return true

    kling_sandbox.next(answer(swap, accept=True))
    async with kling_sandbox.session() as session, session.batch(path) as batch:
        batch.add([("owl", TextToVideo("an owl"))])
        (second,) = [outcome async for outcome in batch.run()]
        assert isinstance(second.error, SubmissionInDoubtError)
        assert second.error.cause.code == "duplicate_task_id"
        assert second.charged == "unknown"
        assert batch._journal.find("fox").task_id == first.task_id
        assert batch._journal.find("owl").state is State.IN_DOUBT
        assert [outcome async for outcome in batch.run()] == []  # it is not sent again
    assert kling_sandbox.submissions == 2


async def test_j13_two_journals_with_one_task_are_both_kept_and_nothing_is_sent(kling_sandbox, tmp_path):
    """Somebody copied a journal whose jobs were at the gateway, and runs both."""
    kling_sandbox.script(ends_after(1.0))
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    async with kling_sandbox.session() as session:
        async with session.batch(one) as batch:
            batch.add([("fox", FOX), ("owl", TextToVideo("an owl"))])
            async with batch.run() as run:
                reading = asyncio.ensure_future(anext(run))
                while batch.summary().accepted < 2:
                    await asyncio.sleep(0.01)
                reading.cancel()
                await asyncio.wait([reading])
        shutil.copy(one, two)
        async with (
            session.batch(one, download_to=tmp_path / "first") as first,
            session.batch(two, download_to=tmp_path / "second") as second,
        ):
            found = await asyncio.gather(read_all(first.run()), read_all(second.run()))
    (ones, _), (twos, _) = found
    assert {type(outcome) for outcome in [*ones, *twos]} == {Success}
    assert {outcome.key: outcome.task_id for outcome in ones} == {outcome.key: outcome.task_id for outcome in twos}
    assert all(one.file.read_bytes() == video(one.task_id, "16:9", 5) for one in [*ones, *twos])
    for path in (one, two):
        with Reading(path) as reading:
            assert reading.counts().states == {State.DOWNLOADED: 2}
    assert kling_sandbox.submissions == kling_sandbox.charges == 2


# J14: the thread that writes dies.


@pytest.fixture
def lines(tmp_path):
    with Lines(tmp_path / "lines.db") as made:
        yield made


@thread_may_die
@pytest.mark.parametrize("killer", [SystemExit, KeyboardInterrupt, MemoryError])
async def test_j14_nobody_waits_for_a_writer_that_died(lines, killer):
    def die(*_):
        raise killer

    with held_up(lines.writer):
        lines.writer._done = die
        waiting = [lines.writer.send(line(number)) for number in range(3 * MOST_AT_ONCE)]
    found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert {type(error) for error in found} == {JournalError}
    assert not lines.numbers()
    for give in (lines.writer.run, lines.writer.send):
        with pytest.raises(JournalError) as caught:
            give(line(1))
        assert caught.value.code == "closed"


@thread_may_die
async def test_j14_a_run_whose_writer_dies_ends_and_sends_nothing_more(kling_sandbox, tmp_path):
    def die(*_):
        raise MemoryError

    async def dying(batch):
        async for outcome in batch.run():
            yield outcome
            batch._journal._writer._done = die

    begun = time.monotonic()
    async with kling_sandbox.session(concurrency=2) as session, session.batch(tmp_path / "night.db") as batch:
        batch.add([TextToVideo(f"clip {number}") for number in range(50)])
        outcomes, error = await read_all(dying(batch))
    assert error is not None
    assert time.monotonic() - begun < 10
    assert kling_sandbox.submissions <= 5
    assert outcomes
