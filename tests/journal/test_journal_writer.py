"""The laws of the journal's one writer: many to a commit, in order, each failing alone, and nobody left waiting."""

import asyncio
import contextlib
import sqlite3
import threading

import pytest
from journal_lines import Lines, held_up, line
from journal_made import planned

from kling_async import JournalError
from kling_async.batch import State, Step
from kling_async.batch import entry as steps
from kling_async.batch.writer import MOST_AT_ONCE
from kling_async.errors import InvalidRequestError

pytestmark = pytest.mark.anyio


@pytest.fixture
def lines(tmp_path):
    with Lines(tmp_path / "lines.db") as made:
        yield made


async def test_all_who_wait_share_one_commit(lines):
    with held_up(lines.writer):
        waiting = [lines.writer.send(line(number)) for number in range(200)]
    assert await asyncio.gather(*waiting) == list(range(200))
    assert lines.commits == 2  # the one that held the others up, and theirs
    assert lines.numbers() == list(range(200))


async def test_a_commit_has_an_upper_bound(lines):
    with held_up(lines.writer):
        waiting = [lines.writer.send(line(number)) for number in range(3 * MOST_AT_ONCE)]
    await asyncio.gather(*waiting)
    assert lines.commits == 1 + 3
    assert lines.numbers() == list(range(3 * MOST_AT_ONCE))


async def test_a_change_that_fails_fails_alone_and_the_others_keep_their_order(lines):
    await lines.writer.send(line(7))
    with held_up(lines.writer):
        waiting = [lines.writer.send(line(number)) for number in (1, 2, 7, 3, 4)]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [found[0], found[1], found[3], found[4]] == [1, 2, 3, 4]
    assert isinstance(found[2], JournalError)
    assert lines.numbers() == [7, 1, 2, 3, 4]


async def test_what_a_change_raises_reaches_the_one_who_asked_for_it(lines):
    def refuse(connection):
        connection.execute("INSERT INTO line VALUES (100)")
        raise InvalidRequestError("no")

    with held_up(lines.writer):
        waiting = [lines.writer.send(work) for work in (line(1), refuse, line(2))]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[1], InvalidRequestError)
    assert lines.numbers() == [1, 2]
    assert await lines.writer.send(line(3)) == 3


async def test_what_a_change_raises_by_mistake_is_an_error_of_the_journal(lines):
    """A task id that is being kept must not be lost to anything else than a `JournalError`."""

    def fail(_):
        raise MemoryError

    for _ in range(2):
        with pytest.raises(JournalError, match="MemoryError"):
            await lines.writer.send(fail)
    assert await lines.writer.send(line(3)) == 3


async def test_every_waiter_gets_an_error_of_its_own(lines):
    with held_up(lines.writer):
        lines.path.unlink()
        waiting = [lines.writer.send(line(number)) for number in range(5)]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert {error.code for error in found} == {"moved"}
    assert len({id(error) for error in found}) == 5


async def test_closing_commits_what_waits_and_takes_nothing_more(lines):
    with held_up(lines.writer):
        waiting = [lines.writer.send(line(number)) for number in range(3 * MOST_AT_ONCE)]
        closing = threading.Thread(target=lines.writer.close)
        closing.start()
        while not lines.writer._closed:
            await asyncio.sleep(0.001)
        with pytest.raises(JournalError) as caught:
            lines.writer.send(line(-1))
        assert caught.value.code == "closed"
    await asyncio.gather(*waiting)
    closing.join(5)
    assert lines.numbers() == list(range(3 * MOST_AT_ONCE))
    lines.writer.close()


def test_a_waiter_whose_loop_is_gone_disturbs_nobody(lines):
    async def leave():
        return [lines.writer.send(line(number)) for number in range(3)]

    with held_up(lines.writer):
        loop = asyncio.new_event_loop()
        left = loop.run_until_complete(leave())
        loop.close()
    assert lines.writer.run(line(3)) == 3
    assert lines.numbers() == [0, 1, 2, 3]
    assert not any(future.done() for future in left)


async def test_a_cancelled_waiter_changes_nothing_about_the_commit(lines):
    with held_up(lines.writer):
        waiting = [lines.writer.send(line(number)) for number in range(3)]
        waiting[1].cancel()
    assert await waiting[2] == 2
    assert lines.numbers() == [0, 1, 2]


async def test_a_failed_group_leaves_no_transaction_open(lines):
    def fail(connection):
        connection.execute("INSERT INTO line VALUES (1)")
        raise InvalidRequestError("no")

    with pytest.raises(InvalidRequestError):
        await lines.writer.send(fail)
    with contextlib.closing(sqlite3.connect(lines.path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    assert not lines.numbers()


# The journal's own laws.


def planned_in(journal, count):
    journal.add(planned(count), [10] * count)
    return journal.page([State.PLANNED], 0, count)


def sent(entry):
    return steps.intended(entry, 100.0, 10)


async def test_a_step_from_where_a_job_does_not_stand_any_more_changes_nothing(open_journal, tmp_path):
    journal = open_journal(tmp_path / "night.db")
    (entry,) = planned_in(journal, 1)
    await journal.write(entry, sent(entry), Step.SUBMITTING)
    before = journal.newest()
    with pytest.raises(JournalError) as caught:
        await journal.write(entry, sent(entry), Step.SUBMITTING)
    assert caught.value.code == "changed"
    assert journal.newest() == before


async def test_events_keep_the_order_in_which_they_were_given(open_journal, tmp_path):
    journal = open_journal(tmp_path / "night.db")
    entries = planned_in(journal, 300)
    after = journal.newest()
    writing = [journal.write(entry, sent(entry), Step.SUBMITTING) for entry in reversed(entries)]
    await asyncio.gather(*writing)
    assert [found.entry.key for found in journal.happened(after)] == [entry.key for entry in reversed(entries)]


async def test_writing_to_a_closed_journal_is_an_error_at_once(open_journal, tmp_path):
    journal = open_journal(tmp_path / "night.db")
    (entry,) = planned_in(journal, 1)
    journal.close()
    with pytest.raises(JournalError) as caught:
        await journal.write(entry, sent(entry), Step.SUBMITTING)
    assert caught.value.code == "closed"
    with pytest.raises(JournalError):
        journal.facts()
