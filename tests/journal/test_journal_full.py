"""A disk that is full, at each step of a job in particular."""

import asyncio
import contextlib
import logging
import os
import sqlite3

import pytest
from journal_disk import left_in, read_all

from kling_async import DownloadError, JournalError, KlingSession, Status, Success, TextToVideo
from kling_async.batch import State, Step, record
from kling_async.batch.owner import SPARE, lock_path
from kling_async.sandbox import Sandbox, ThreadedServer, ends_after, slow
from kling_async.sandbox.mp4 import video

pytestmark = pytest.mark.anyio

EVERY = bool(os.environ.get("KLING_EVERY_FAULT"))
FOX = TextToVideo("a red fox")


def fill_disk(journal):
    """Leave no room for another page, and none in the pages there are."""
    limit = "PRAGMA max_page_count = 1"  # SQLite takes the present size instead
    journal._writer.run(lambda connection: connection.execute(limit).fetchone())
    with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as connection:
        connection.execute(limit)
        for size in (3000, 300, 30, 1):
            with contextlib.suppress(sqlite3.OperationalError):
                while True:
                    connection.execute(
                        "INSERT INTO event (job, step, at, attempt, detail) VALUES (0, 'planned', 0, 1, ?)",
                        ("x" * size,),
                    )


def empty_disk(journal):
    journal._writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchone())


def filling_at(step, batches):
    """Return an observer that fills the disk once a job has come to a step."""

    def observe(done, old, new):
        if done is step:
            fill_disk(batches[0]._journal)

    return observe


def test_nothing_is_planned_on_a_full_disk(open_journal, tmp_path):  # J01
    from kling_async.batch.keys import Names, named

    journal = open_journal(tmp_path / "night.db")
    jobs = list(named([TextToVideo(f"clip {number}") for number in range(200)], Names()))
    fill_disk(journal)
    with pytest.raises(JournalError) as caught:
        journal.add(jobs, [10] * 200)
    assert caught.value.code == "full"
    assert not journal.counts().states

    empty_disk(journal)
    assert journal.add(jobs, [10] * 200) == (200, 0)


async def test_a_batch_that_finds_no_room_adds_nothing(kling_sandbox, tmp_path):  # J01
    async with kling_sandbox.session() as session, session.batch(tmp_path / "night.db") as batch:
        fill_disk(batch._journal)
        with pytest.raises(JournalError) as caught:
            batch.add([FOX])
        assert caught.value.code == "full"
        assert batch.summary().total == 0
    assert not kling_sandbox.submissions


@contextlib.asynccontextmanager
async def counting_server():
    """A server that reads and never answers; yields its URL and the pieces that it read."""
    read = []

    async def serve(reader, writer):
        while piece := await reader.read(4096):
            read.append(piece)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", read


async def test_no_byte_is_sent_where_the_intent_finds_no_room(tmp_path):  # J02
    async with (
        counting_server() as (url, read),
        KlingSession("kling3api", api_key="k", base_url=url) as session,
        session.batch(tmp_path / "night.db") as batch,
    ):
        batch.add([("fox", FOX), ("owl", TextToVideo("an owl"))])
        fill_disk(batch._journal)
        _, error = await read_all(batch.run())
        assert error.code == "full"
        assert batch.summary().planned == 2
        assert batch.summary().reserved == 0
        assert not read


async def test_an_id_is_offered_to_a_full_disk_until_there_is_room(kling_sandbox, tmp_path):  # J03
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


def test_an_id_is_offered_for_half_a_minute():  # J03
    assert record.INSIST == 30


async def test_an_id_that_finds_no_room_is_told_and_its_job_followed(
    kling_sandbox, tmp_path, monkeypatch, caplog
):  # J03
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


async def test_the_next_step_brings_an_id_along_that_found_no_room(kling_sandbox, tmp_path, monkeypatch):  # J03
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
def test_the_spare_space_holds_the_ids_of_requests_under_way(children, tmp_path):  # J03
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


def test_a_download_that_finds_no_room_is_taken_up_where_it_stopped(children, tmp_path):  # J04
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


async def test_a_run_without_room_for_videos_sends_nothing_more(kling_sandbox, tmp_path, monkeypatch):  # J04
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
