"""The laws of the journal's one writer: many to a commit, in order, each failing alone, and nobody left waiting."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from journal_disk import read_all

from kling_async import JournalError, SubmissionInDoubtError, TextToVideo
from kling_async.batch import State, Step
from kling_async.batch import entry as steps
from kling_async.batch.keys import Names, named
from kling_async.batch.writer import MOST_AT_ONCE, Writer
from kling_async.errors import InvalidRequestError
from kling_async.sandbox import answer

pytestmark = pytest.mark.anyio

thread_may_die = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Watched:
    """A writer of a small table, and how many commits it made."""

    def __init__(self, path):
        self.path = path
        self.commits = 0
        self.writer = Writer(path, self._connect)

    def _connect(self):
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS line (number INTEGER UNIQUE)")
        connection.set_trace_callback(self._trace)
        return connection

    def _trace(self, sql):
        self.commits += sql == "COMMIT"

    def lines(self):
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return [number for (number,) in connection.execute("SELECT number FROM line ORDER BY rowid")]


@pytest.fixture
def watched(tmp_path):
    made = Watched(tmp_path / "lines.db")
    made.writer.start()
    yield made
    made.writer.close()


def line(number):
    """Return a change that adds a line, and returns its number."""

    def add(connection):
        connection.execute("INSERT INTO line VALUES (?)", (number,))
        return number

    return add


@contextlib.contextmanager
def held_up(writer):
    """Let everything that is given to a writer in this block wait until its end."""
    begun, let_go = threading.Event(), threading.Event()

    def hold(_):
        begun.set()
        let_go.wait(10)

    with ThreadPoolExecutor() as pool:
        holding = pool.submit(writer.run, hold)
        begun.wait(10)
        try:
            yield
        finally:
            let_go.set()
            with contextlib.suppress(JournalError):
                holding.result(10)


async def test_all_who_wait_share_one_commit(watched):
    with held_up(watched.writer):
        waiting = [watched.writer.send(line(number)) for number in range(200)]
    assert await asyncio.gather(*waiting) == list(range(200))
    assert watched.commits == 2  # the one that held the others up, and theirs
    assert watched.lines() == list(range(200))


async def test_a_commit_has_an_upper_bound(watched):
    with held_up(watched.writer):
        waiting = [watched.writer.send(line(number)) for number in range(3 * MOST_AT_ONCE)]
    await asyncio.gather(*waiting)
    assert watched.commits == 1 + 3
    assert watched.lines() == list(range(3 * MOST_AT_ONCE))


async def test_a_change_that_fails_fails_alone_and_the_others_keep_their_order(watched):
    await watched.writer.send(line(7))
    with held_up(watched.writer):
        waiting = [watched.writer.send(line(number)) for number in (1, 2, 7, 3, 4)]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [found[0], found[1], found[3], found[4]] == [1, 2, 3, 4]
    assert isinstance(found[2], JournalError)
    assert watched.lines() == [7, 1, 2, 3, 4]


async def test_what_a_change_raises_reaches_the_one_who_asked_for_it(watched):
    def refuse(connection):
        connection.execute("INSERT INTO line VALUES (100)")
        raise InvalidRequestError("no")

    with held_up(watched.writer):
        waiting = [watched.writer.send(work) for work in (line(1), refuse, line(2))]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[1], InvalidRequestError)
    assert watched.lines() == [1, 2]
    assert await watched.writer.send(line(3)) == 3


async def test_what_a_change_raises_by_mistake_is_an_error_of_the_journal(watched):
    """A task id that is being kept must not be lost to anything else than a `JournalError`."""

    def fail(_):
        raise MemoryError

    for _ in range(2):
        with pytest.raises(JournalError, match="MemoryError"):
            await watched.writer.send(fail)
    assert await watched.writer.send(line(3)) == 3


async def test_every_waiter_gets_an_error_of_its_own(watched):
    with held_up(watched.writer):
        watched.path.unlink()
        waiting = [watched.writer.send(line(number)) for number in range(5)]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert {error.code for error in found} == {"moved"}
    assert len({id(error) for error in found}) == 5


@thread_may_die
@pytest.mark.parametrize("killer", [SystemExit, KeyboardInterrupt, MemoryError])
async def test_nobody_waits_for_a_writer_that_died(watched, killer):  # J14
    def die(*_):
        raise killer

    with held_up(watched.writer):
        watched.writer._done = die
        waiting = [watched.writer.send(line(number)) for number in range(3 * MOST_AT_ONCE)]
    found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert {type(error) for error in found} == {JournalError}
    assert not watched.lines()
    for give in (watched.writer.run, watched.writer.send):
        with pytest.raises(JournalError) as caught:
            give(line(1))
        assert caught.value.code == "closed"


@thread_may_die
async def test_a_run_whose_writer_dies_ends_and_sends_nothing_more(kling_sandbox, tmp_path):  # J14
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


async def test_closing_commits_what_waits_and_takes_nothing_more(watched):
    with held_up(watched.writer):
        waiting = [watched.writer.send(line(number)) for number in range(3 * MOST_AT_ONCE)]
        closing = threading.Thread(target=watched.writer.close)
        closing.start()
        while not watched.writer._closed:
            await asyncio.sleep(0.001)
        with pytest.raises(JournalError) as caught:
            watched.writer.send(line(-1))
        assert caught.value.code == "closed"
    await asyncio.gather(*waiting)
    closing.join(5)
    assert watched.lines() == list(range(3 * MOST_AT_ONCE))
    watched.writer.close()


def test_a_waiter_whose_loop_is_gone_disturbs_nobody(watched):
    async def leave():
        return [watched.writer.send(line(number)) for number in range(3)]

    with held_up(watched.writer):
        loop = asyncio.new_event_loop()
        left = loop.run_until_complete(leave())
        loop.close()
    assert watched.writer.run(line(3)) == 3
    assert watched.lines() == [0, 1, 2, 3]
    assert not any(future.done() for future in left)


async def test_a_cancelled_waiter_changes_nothing_about_the_commit(watched):
    with held_up(watched.writer):
        waiting = [watched.writer.send(line(number)) for number in range(3)]
        waiting[1].cancel()
    assert await waiting[2] == 2
    assert watched.lines() == [0, 1, 2]


async def test_a_failed_group_leaves_no_transaction_open(watched):
    def fail(connection):
        connection.execute("INSERT INTO line VALUES (1)")
        raise InvalidRequestError("no")

    with pytest.raises(InvalidRequestError):
        await watched.writer.send(fail)
    with contextlib.closing(sqlite3.connect(watched.path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    assert not watched.lines()


# The journal's own laws.


def planned(journal, count):
    journal.add(
        named([(f"job {number}", TextToVideo(f"clip {number}")) for number in range(count)], Names()), [10] * count
    )
    return journal.page([State.PLANNED], 0, count)


def sent(entry):
    return steps.intended(entry, 100.0, 10)


def accepted(entry, task_id):
    return steps.accepted(entry, "kling3api", task_id, 101.0, None)


async def test_a_task_belongs_to_one_job(open_journal, tmp_path):  # J13
    journal = open_journal(tmp_path / "night.db")
    entries = []
    for entry in planned(journal, 4):
        await journal.write(entry, sent(entry), Step.SUBMITTING)
        entries.append(sent(entry))
    found = await asyncio.gather(
        journal.write(entries[0], accepted(entries[0], "n75a"), Step.ACCEPTED),
        journal.write(entries[1], accepted(entries[1], "n75a"), Step.ACCEPTED),
        journal.write(entries[2], accepted(entries[2], "n75b"), Step.ACCEPTED),
        return_exceptions=True,
    )
    assert found[1].code == "duplicate_task_id"
    stands = {entry.key: (entry.state, entry.task_id) for entry in journal.each(State)}
    assert stands == {
        "job 0": (State.ACCEPTED, "n75a"),
        "job 1": (State.SUBMITTING, None),
        "job 2": (State.ACCEPTED, "n75b"),
        "job 3": (State.SUBMITTING, None),
    }
    elsewhere = steps.accepted(entries[3], "apimart", "n75a", 101.0, None)
    await journal.write(entries[3], elsewhere, Step.ACCEPTED)
    assert journal.find("job 3").task_id == "n75a"


async def test_a_job_that_is_given_a_known_task_is_in_doubt(kling_sandbox, tmp_path):  # J13
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


async def test_a_step_from_where_a_job_does_not_stand_any_more_changes_nothing(open_journal, tmp_path):
    journal = open_journal(tmp_path / "night.db")
    (entry,) = planned(journal, 1)
    await journal.write(entry, sent(entry), Step.SUBMITTING)
    before = journal.newest()
    with pytest.raises(JournalError) as caught:
        await journal.write(entry, sent(entry), Step.SUBMITTING)
    assert caught.value.code == "changed"
    assert journal.newest() == before


async def test_events_keep_the_order_in_which_they_were_given(open_journal, tmp_path):
    journal = open_journal(tmp_path / "night.db")
    entries = planned(journal, 300)
    after = journal.newest()
    writing = [journal.write(entry, sent(entry), Step.SUBMITTING) for entry in reversed(entries)]
    await asyncio.gather(*writing)
    assert [found.entry.key for found in journal.happened(after)] == [entry.key for entry in reversed(entries)]


async def test_writing_to_a_closed_journal_is_an_error_at_once(open_journal, tmp_path):
    journal = open_journal(tmp_path / "night.db")
    (entry,) = planned(journal, 1)
    journal.close()
    with pytest.raises(JournalError) as caught:
        await journal.write(entry, sent(entry), Step.SUBMITTING)
    assert caught.value.code == "closed"
    with pytest.raises(JournalError):
        journal.facts()
