"""H: what becomes of jobs when their process is killed at any step, is told to stop, loses power, or forks.

`KLING_KILLS=50` is the full measure: 50 runs of each row, and 200 batches killed at random moments.
"""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from attrs import define, field
from certificates import Authority
from uvloop import new_event_loop as new_uvloop

sys.path += [str(Path(__file__).parents[1] / room) for room in ("cli", "durability", "journal", "wire")]

from cli_helpers import KEY, QUICK, child
from durable import (
    ENVIRONMENT,
    KILLED,
    NURSERY,
    Gateway,
    Place,
    check_end,
    check_histories,
    check_money,
    end_all,
    ended,
    unknown_to,
)
from journal_disk import Children, build, left_in
from journal_made import filled
from journal_world import nothing_left_behind
from power_loss import Disk, mixed, read_record, seen_of, watch_commits, wrong_after
from process_world import (
    KILLS,
    RUNS,
    SEEDS,
    all_of,
    duplicates,
    live_through,
    strike_all,
)
from raw import answer, raw_server

from kling_async import KlingSession, PollPlan, TextToVideo, failpoints
from kling_async.batch import State, Step
from kling_async.batch.schema import MIGRATIONS
from kling_async.errors import KlingError, ResponseLostError
from kling_async.network import Fence
from kling_async.sandbox import Sandbox, ThreadedServer, ends_after, hang_after_accept
from kling_async.sandbox import slow as late
from kling_async.transport import AiohttpTransport, _ApiConnector
from kling_async.wire import HttpRequest

EVERY = bool(os.environ.get("KLING_EVERY_FAULT"))
pytestmark = pytest.mark.timeout(120 + 60 * RUNS)


@pytest.fixture(autouse=True)
def no_leak(figures):
    with nothing_left_behind(figures):
        yield


@pytest.fixture(autouse=True)
def no_run_left_behind():
    """End what a test that failed has left running."""
    yield
    end_all()


@pytest.fixture(scope="module", autouse=True)
def nursery(signals_arrive):
    """What makes the runs, until the last test of this file."""
    yield
    NURSERY.close()


@pytest.fixture(scope="module")
def gateway():
    """A gateway that answers at once."""
    with Gateway.start() as running:
        yield running


@pytest.fixture(scope="module")
def distant():
    """A gateway whose POSTs take a few hundredths of a second each way."""
    with Gateway.start(latency=0.03) as running:
        yield running


PADDING, PIECE = 6_000_000, 65_536


@pytest.fixture(scope="module")
def large():
    """A gateway whose videos are large, and come in pieces."""
    with Gateway.start(padding=PADDING, piece=PIECE) as running:
        yield running


@pytest.fixture(scope="module")
def bare():
    """One that tells neither the length of a video nor a name of its version."""
    with Gateway.start(padding=PADDING, piece=PIECE, bare=1) as running:
        yield running


def padding():
    return (PADDING + 8).to_bytes(4, "big") + b"free" + bytes(PADDING)


@pytest.fixture(scope="module")
def plain_children(tmp_path_factory):
    """Children on the disk as it is."""
    with Children(tmp_path_factory.mktemp("children"), None) as made:
        yield made


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    """Children on disks that fail, kill or are watched on purpose."""
    library, reason = build(tmp_path_factory.mktemp("library"))
    if library is None:
        pytest.skip(f"no disk can be made to fail: {reason}")
    with Children(tmp_path_factory.mktemp("children"), library) as made:
        yield made


def test_h02_to_h18_are_about_every_failpoint():
    assert [kill.point for kill in KILLS.values() if "." in kill.point] == list(failpoints.POINTS)


# H01: what the fence is worth, with the aiohttp that is installed.

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": new_uvloop}
CARRIED = {"plain": 10, "3 MiB": 3 * 1024 * 1024, "TLS": 10}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


async def pass_the_fence(hook, size, over=None):
    """Send a request through a fence with a hook; returns what the server had read when the hook ended, and later."""
    arrived, at_the_end = bytearray(), []

    async def serve(reader, writer):
        while piece := await reader.read(65536):
            arrived.extend(piece)
            if arrived.endswith(b"}"):
                writer.write(answer())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=over)
    url = f"{'https' if over else 'http'}://localhost:{server.sockets[0].getsockname()[1]}"
    transport = AiohttpTransport(url, connect=2.0, connections=4)

    async def before():
        try:
            await hook()
        finally:
            at_the_end.append(len(arrived))

    fence = Fence(before=before)
    request = HttpRequest("POST", "/api/generate", json={"prompt": "x" * size})
    async with server:
        sending = asyncio.ensure_future(transport.send(request, timeout=5.0, fence=fence, fresh=True))
        if hook is wait_to_be_cancelled:
            while not sending.done():
                await asyncio.sleep(0.05)
                sending.cancel()
        (result,) = await asyncio.gather(sending, return_exceptions=True)
        await transport.close()
        await asyncio.sleep(0.05)
    return result, fence.sent, at_the_end, len(arrived)


async def sleep_a_while():
    await asyncio.sleep(0.15)


async def refuse():
    await asyncio.sleep(0.02)
    raise KlingError("no room on the disk")


async def wait_to_be_cancelled():
    await asyncio.sleep(30)


def on_loop(name, work):
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        return runner.run(work)


@pytest.fixture(params=CARRIED)
def carried(request, monkeypatch):
    """Return the size of a request, and the server's half of TLS where there is TLS."""
    over = None
    if request.param == "TLS":
        authority = request.getfixturevalue("authority")
        monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", authority.trusted())
        over = authority.server("good", "localhost")
    return CARRIED[request.param], over


@pytest.mark.parametrize("loop", LOOPS)
def test_h01_no_byte_leaves_while_the_fence_is_held(loop, carried):
    """Durable intents rest on this: it is pinned here, as another aiohttp may write sooner."""
    result, sent, at_the_end, in_all = on_loop(loop, pass_the_fence(sleep_a_while, *carried))
    assert result.status == 200
    assert (sent, at_the_end) == (True, [0])
    assert in_all > carried[0]


@pytest.mark.parametrize("loop", LOOPS)
def test_h01_no_byte_leaves_where_the_fence_refuses(loop, carried):
    result, sent, at_the_end, in_all = on_loop(loop, pass_the_fence(refuse, *carried))
    assert isinstance(result, KlingError)
    assert result.message == "no room on the disk"
    assert (sent, at_the_end, in_all) == (False, [0], 0)


@pytest.mark.parametrize("loop", LOOPS)
def test_h01_no_byte_leaves_where_the_fence_is_cancelled(loop, carried):
    result, sent, at_the_end, in_all = on_loop(loop, pass_the_fence(wait_to_be_cancelled, *carried))
    assert isinstance(result, asyncio.CancelledError)
    assert (sent, at_the_end, in_all) == (False, [0], 0)


@pytest.mark.parametrize("loop", LOOPS)
def test_h01_an_aiohttp_that_writes_past_the_fence_is_found_out(monkeypatch, loop):
    """Nobody would know any more what was sent, so no answer of such an aiohttp is taken for one."""

    async def send():
        fence = Fence()
        async with raw_server(answer()) as server:
            transport = AiohttpTransport(server.url, connect=1.0, connections=4)
            request = HttpRequest("POST", "/api/generate", json={"prompt": "a boat"})
            try:
                await transport.send(request, timeout=2.0, fence=fence, fresh=True)
            except KlingError as error:
                return error, fence.sent
            finally:
                await transport.close()

    monkeypatch.delattr(_ApiConnector, "connect")
    error, sent = on_loop(loop, send())
    assert isinstance(error, ResponseLostError)
    assert sent is True


# H02 to H04: nothing was sent, and nobody can say otherwise.


def test_h02_killed_before_its_insert_a_job_is_unknown_and_made_by_the_next_run(tmp_path, gateway, figures):
    strike_all("H02", tmp_path, gateway, figures)


def test_h03_killed_before_the_connect_a_planned_job_is_sent_by_the_next_run(tmp_path, gateway, figures):
    strike_all("H03", tmp_path, gateway, figures)


def test_h04_killed_before_the_intents_commit_a_planned_job_is_sent_by_the_next_run(tmp_path, gateway, figures):
    strike_all("H04", tmp_path, gateway, figures)


# H05: inside a commit.


def test_h05_killed_right_before_the_intents_commit_a_job_is_sent_by_the_next_run(tmp_path, gateway, figures):
    strike_all("H05", tmp_path, gateway, figures)


def test_h05_killed_within_the_intents_commit_a_job_is_sent_by_the_next_run_or_in_doubt(tmp_path, gateway, figures):
    moments = [number * 0.0004 for number in range(8)] * RUNS

    def live(item):
        number, moment = item
        place = Place(tmp_path / f"within{number}", gateway)
        first = place.run("--die-in=submitting", f"--die-after={moment}")
        assert first.code == KILLED, first
        (before,) = place.read().values()
        taken = [call["accepted"] for call in gateway.submits(place.prefix)]
        (after,) = check_end(place, place.run()).values()
        if before.state is State.PLANNED:
            assert (taken, after.state, duplicates(place)) == ([], State.DOWNLOADED, 0)
        elif before.state is State.SUBMITTING:
            assert after.state is State.IN_DOUBT
            assert len(gateway.submits(place.prefix)) == len(taken) <= 1
        else:  # the kill came late
            assert after.state is State.DOWNLOADED
        figures.duplicates += duplicates(place)
        return str(before.state)

    print(Counter(all_of(live, list(enumerate(moments)))))


def die_in_commit(place, number):
    """Kill a run in the middle of a commit, and judge what is left before and after the next run."""
    first = place.run(f"--die-in-commit={number}")
    if first.code != KILLED:
        check_end(place, first)
        return None
    jobs = place.read()
    calls = place.gateway.submits(place.prefix)
    flying = {key for key, job in jobs.items() if job.state is State.SUBMITTING}
    check_histories(jobs)
    check_money(place, jobs, calls)
    assert len(unknown_to(jobs, calls)) <= len(flying)
    sent = {call["prompt"].partition(" ")[0] for call in calls}
    assert sent <= {key for key, job in jobs.items() if job.state is not State.PLANNED}
    after = check_end(place, place.run())
    assert {key for key, job in after.items() if job.state is State.IN_DOUBT} == flying
    return {str(job.state) for job in jobs.values()}


def test_h05_a_kill_in_the_middle_of_any_commit_leaves_what_was_there_before(tmp_path, gateway):
    places = [(Place(tmp_path / f"commit{number}", gateway), number) for number in range(3, 13)]
    left = all_of(lambda item: die_in_commit(*item), places)
    met = set().union(*(states for states in left if states is not None))
    assert {"planned", "submitting", "accepted", "succeeded"} <= met


# H06 to H09: it was sent, or may have been, and its id is not on disk.


def test_h06_killed_before_the_first_byte_a_job_is_in_doubt_and_not_sent(tmp_path, gateway, figures):
    strike_all("H06", tmp_path, gateway, figures)


BULKY = ("--bulk=6000000",)
"""More than the buffers of a connection hold."""


def kill_half_way(place):
    """Kill a run when the gateway has read half of a request; returns how much of it ever came, and how long it is."""
    with socket.socket() as server:
        server.settimeout(30)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        server.bind(("127.0.0.1", 0))
        server.listen()
        process = place.start(*BULKY, url=f"http://127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
        with connection:
            connection.settimeout(30)
            head, _, body = read_head(connection).partition(b"\r\n\r\n")
            came = len(body)
            while came < 1_000_000:
                came += len(connection.recv(65_536))
            os.kill(process.pid, signal.SIGKILL)
            assert ended(process).code == KILLED
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(65_536):
                    came += len(piece)
    assert head.startswith(b"POST /api/v1/videos/generations HTTP/1.1\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return came, int(length.partition(b":")[2])


def read_head(connection):
    """Read until the head of a request is there."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += connection.recv(65_536)
    return read


def test_h07_killed_when_half_of_the_request_is_written_a_job_is_in_doubt_and_not_sent_again(
    tmp_path, gateway, figures
):
    for number in range(RUNS):
        place = Place(tmp_path / f"half{number}", gateway, dialect="apiin")
        came, length = kill_half_way(place)
        assert 500_000 < came < length
        assert place.states() == {"submitting": 1}
        last = place.run(*BULKY)
        (job,) = check_end(place, last).values()
        assert job.state is State.IN_DOUBT
        assert last.reported("in_doubt") == {job.entry.key}
        assert gateway.submits(place.prefix) == []
        figures.duplicates += duplicates(place)


def test_h08_killed_while_the_answer_is_awaited_a_job_is_in_doubt_and_not_sent_again(tmp_path, gateway, figures):
    strike_all("H08", tmp_path, gateway, figures)


def test_h09_killed_between_the_answer_and_the_ids_commit_a_job_is_in_doubt(tmp_path, gateway, figures):
    strike_all("H09", tmp_path, gateway, figures)


def test_h09_killed_in_the_ids_commit_a_job_is_in_doubt(tmp_path, gateway, figures):
    strike_all("H09 in the commit", tmp_path, gateway, figures)


def test_h09_an_answer_waits_a_few_hundredths_of_a_second_at_most_until_its_id_is_durable(tmp_path, gateway):
    place = Place(tmp_path / "window", gateway, jobs=15, concurrency=1)
    last = place.run("--window")
    check_end(place, last)
    windows = sorted(line["window"] for line in last.lines if "window" in line)
    print(f"median {1000 * statistics.median(windows):.1f} ms, longest {1000 * windows[-1]:.1f} ms")
    assert len(windows) == 15
    assert statistics.median(windows) < 0.02


# H10 to H16: its id is on disk, so nothing of it is lost.


def test_h10_killed_behind_the_ids_commit_a_job_is_followed_by_the_next_run(tmp_path, gateway, figures):
    strike_all("H10", tmp_path, gateway, figures)


def test_h11_killed_while_it_is_made_a_job_is_followed_by_the_next_run(tmp_path, gateway, figures):
    strike_all("H11", tmp_path, gateway, figures)


def test_h12_killed_between_the_good_news_and_its_commit_a_job_is_looked_at_once_more(tmp_path, gateway, figures):
    strike_all("H12", tmp_path, gateway, figures)


@pytest.mark.parametrize("moment", ["H13", "H13 named"])
def test_h13_killed_before_its_download_a_job_is_downloaded_by_the_next_run(tmp_path, gateway, moment, figures):
    strike_all(moment, tmp_path, gateway, figures)


def test_h14_killed_in_its_download_a_job_is_downloaded_by_the_next_run(tmp_path, gateway, figures):
    strike_all("H14", tmp_path, gateway, figures)


def test_h14_a_download_killed_half_way_is_taken_up_where_it_stopped(tmp_path, large):
    for number in range(RUNS):
        place = Place(tmp_path / f"half{number}", large)
        assert place.run(failpoint="download.half:45").code == KILLED
        (job,) = check_end(place, place.run(), padding()).values()
        first, second = large.downloads(job.entry.task_id)
        assert first["range"] is None
        start = int(second["range"].removeprefix("bytes=").removesuffix("-"))
        assert start > 1_000_000
        assert start + second["bytes"] == job.entry.size
        assert first["bytes"] + second["bytes"] <= 1.5 * job.entry.size


def test_h14_a_large_download_killed_again_and_again_is_asked_for_piece_by_piece(tmp_path, large):
    place = Place(tmp_path / "again", large)
    part = place.videos / "again-000.mp4.part"
    there = []
    for enough in (1_000_000, 2_500_000, 4_000_000):
        process = place.start()
        while process.poll() is None and not (part.exists() and part.stat().st_size > enough):
            time.sleep(0.001)
        process.kill()
        assert ended(process).code == KILLED
        there.append(part.stat().st_size)
    (job,) = check_end(place, place.run(), padding()).values()
    asked = [each["range"] for each in large.downloads(job.entry.task_id)]
    assert asked == [None, *(f"bytes={size}-" for size in there)]


def test_h15_killed_behind_the_check_of_its_part_a_video_gets_its_name_without_another_download(
    tmp_path, gateway, figures
):
    strike_all("H15", tmp_path, gateway, figures)


def killed_and_whole(root, server, point):
    """Kill a large download at a failpoint; the next run asks for nothing more."""
    for number in range(RUNS):
        place = Place(root / f"{point.replace('.', '-')}-{number}", server)
        assert place.run(failpoint=point).code == KILLED
        (job,) = check_end(place, place.run(), padding()).values()
        assert len(server.downloads(job.entry.task_id)) == 1


@pytest.mark.parametrize("server", ["large", "bare"])
def test_h15_a_large_part_is_checked_and_not_asked_for_again(request, tmp_path, server):
    killed_and_whole(tmp_path, request.getfixturevalue(server), "download.checked")


def test_h15_a_part_that_was_changed_after_its_check_is_fetched_anew(tmp_path, large):
    place = Place(tmp_path / "changed", large)
    assert place.run(failpoint="download.checked").code == KILLED
    with (place.videos / "changed-000.mp4.part").open("r+b") as part:
        part.seek(100_000)
        part.write(b"x")
    (job,) = check_end(place, place.run(), padding()).values()
    assert len(large.downloads(job.entry.task_id)) == 2


@pytest.mark.parametrize("moment", ["H16", "H16 in the commit", "H16 committed"])
def test_h16_killed_when_it_has_its_name_a_video_is_found_whole_and_there_is_no_second(
    tmp_path, gateway, moment, figures
):
    strike_all(moment, tmp_path, gateway, figures)


@pytest.mark.parametrize("server", ["large", "bare"])
def test_h16_a_large_video_that_has_its_name_is_checked_and_not_asked_for_again(request, tmp_path, server):
    killed_and_whole(tmp_path, request.getfixturevalue(server), "download.renamed")


# H17: in a change of the journal's tables.

TODAY = len(MIGRATIONS)
MIGRATE = """
import sqlite3, sys
from pathlib import Path
from kling_async.batch.schema import MIGRATIONS, migrate

def next_version(connection):
    connection.execute("ALTER TABLE job ADD COLUMN colour TEXT")
    connection.execute("UPDATE job SET colour = 'red'")

path = Path(sys.argv[1])
connection = sqlite3.connect(path, isolation_level=None)
migrate(connection, path, (*MIGRATIONS, next_version))
connection.close()
"""


def versions(path):
    """Return the version of a journal, the columns that today's does not have, and how many jobs it holds."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(job)")}
        rows = connection.execute("SELECT count(*) FROM job").fetchone()[0]
        return connection.execute("PRAGMA user_version").fetchone()[0], columns & {"colour", "mood"}, rows


def test_h17_killed_while_its_journal_is_made_a_batch_begins_anew(tmp_path, gateway, figures):
    strike_all("H17", tmp_path, gateway, figures)


@pytest.mark.parametrize("killed_first", [False, True])
def test_h17_a_journal_is_of_the_old_version_or_of_the_new_one_never_between(tmp_path, gateway, killed_first):
    place = Place(tmp_path / f"migrated-{killed_first}", gateway, jobs=5)
    assert place.run(failpoint="accepted.committed:3" if killed_first else None).code == (KILLED if killed_first else 0)
    program = [sys.executable, "-c", MIGRATE, place.journal]
    killed = subprocess.run(program, env=ENVIRONMENT | {"KLING_FAILPOINT": "migrate.middle"}, check=False)
    assert killed.returncode == KILLED
    assert versions(place.journal) == (TODAY, set(), 5)
    backup = place.journal.with_name(f"{place.journal.name}.v{TODAY}")
    assert versions(backup) == (TODAY, set(), 5)
    assert backup.stat().st_mode & 0o777 == 0o600
    check_end(place, place.run())
    subprocess.run(program, env=ENVIRONMENT, check=True)
    assert versions(place.journal) == (TODAY + 1, {"colour"}, 5)
    assert versions(backup) == (TODAY, set(), 5)
    assert place.run().lines[-1]["refused"] == "too_new"


def test_h17_killed_in_a_change_of_the_tables_a_journal_is_what_it_was(tmp_path, plain_children):
    path = filled(tmp_path / "night.db", 200)
    before = left_in(path, tmp_path / "copy")
    job = {"do": "reopen", "journal": path, "url": "http://127.0.0.1:9", "migrate": True}
    end = plain_children.run(**job, failpoint="migrate.middle")
    assert end.end == "signal 9"
    assert left_in(path, tmp_path / "copy") == before
    assert versions(path.with_name(f"night.db.v{TODAY}")) == (TODAY, set(), 200)
    assert plain_children.run(**job).end == "done"
    assert versions(path) == (TODAY + 1, {"mood"}, 200)
    assert left_in(path, tmp_path / "copy").jobs == before.jobs


@pytest.mark.timeout(480)
@pytest.mark.parametrize("error", ["kill", "ENOSPC", "EIO"])
def test_h17_a_change_of_the_tables_is_whole_or_has_not_begun(tmp_path, children, error):
    """Every write of the journal, its logs and its copy is the last of the program in turn, or fails."""
    first = filled(tmp_path / "first.db", 200)
    job = {"do": "reopen", "journal": tmp_path / "night.db", "url": "http://127.0.0.1:9", "migrate": True}
    endings = f".db:.db-wal:.db-journal:.v{TODAY}"
    disk, number, found = {"kind": "write", "once": False, "error": error, "endings": endings}, 1, set()
    while True:
        for file in tmp_path.glob("night.db*"):
            file.unlink()
        path = Path(tmp_path / "night.db")
        path.write_bytes(first.read_bytes())
        end = children.run(**job, disk={**disk, "first": number})
        assert end.end in ({"signal 9", "done"} if error == "kill" else {"JournalError", "done"}), end.stderr
        left = left_in(path, tmp_path / "copy")
        assert left.sound == "ok"
        version, more, rows = versions(path)
        assert (version, more, rows) in ((TODAY, set(), 200), (TODAY + 1, {"mood"}, 200))
        found.add((end.end, version))
        if version == TODAY + 1:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                assert connection.execute("SELECT DISTINCT mood FROM job").fetchall() == [("calm",)]
            assert versions(path.with_name(f"night.db.v{TODAY}")) == (TODAY, set(), 200)
        if end.end == "done" and end.report["counts"]["write"] < number:
            break
        number += 1 if EVERY else 13 if error == "kill" else 3
    assert len(found) > 1


# H18: while SQLite copies its log into the journal.

PLANNED = 4000
"""So many jobs that the log is copied once on the way, and once at the end."""


def check_planned(left, acknowledged):
    """What was acknowledged is there, and what is there was added as a whole."""
    assert left.sound == "ok"
    assert acknowledged <= len(left.jobs) <= acknowledged + 100
    assert len(left.jobs) % 100 == 0
    assert {state for state, _ in left.jobs.values()} <= {"planned"}


def said(path):
    return int(path.read_text()) if path.exists() else 0


@pytest.mark.timeout(480)
@pytest.mark.parametrize("kind", ["write", "sync"])
def test_h18_a_kill_in_a_checkpoint_loses_nothing(children, tmp_path, kind):
    path, told = tmp_path / "night.db", tmp_path / "acknowledged"
    job = {"do": "plan", "journal": path, "url": "http://127.0.0.1:9", "jobs": PLANNED, "acknowledged": told}
    killed, number = [], 5 if kind == "write" else 1
    while True:
        for file in (*tmp_path.glob("night.db*"), told):
            file.unlink(missing_ok=True)
        disk = {"kind": kind, "first": number, "once": True, "error": "kill", "endings": ".db"}
        end = children.run(**job, disk=disk)
        assert end.end in ("signal 9", "done")
        check_planned(left_in(path, tmp_path / "copy"), said(told))
        if end.end == "done":
            break
        killed.append(said(told))
        assert children.run(**job).end == "done"
        assert len(left_in(path, tmp_path / "copy").jobs) == PLANNED
        number += 1 if kind == "sync" else 7 if EVERY else 200
    assert killed
    if kind == "write":
        assert min(killed) < PLANNED  # on the way
        assert max(killed) == PLANNED  # at the end


def test_h18_a_kill_before_the_last_checkpoint_loses_nothing(plain_children, tmp_path):
    path, told = tmp_path / "night.db", tmp_path / "acknowledged"
    job = {"do": "plan", "journal": path, "url": "http://127.0.0.1:9", "jobs": 300, "acknowledged": told}
    end = plain_children.run(**job, failpoint="checkpoint.before")
    assert end.end == "signal 9"
    assert path.with_name("night.db-wal").stat().st_size
    check_planned(left_in(path, tmp_path / "copy"), 300)
    assert plain_children.run(**job).end == "done"
    assert len(left_in(path, tmp_path / "copy").jobs) == 300


def test_h18_killed_before_its_last_checkpoint_a_batch_has_nothing_left_to_do(tmp_path, gateway, figures):
    strike_all("H18", tmp_path, gateway, figures)


# H19: at any moment.


@pytest.mark.timeout(60 + 15 * SEEDS)
def test_h19_killed_at_any_moment_a_batch_of_a_hundred_loses_nothing_and_pays_nothing_twice(tmp_path, figures):
    gateways = [Gateway.start(latency=0.03) for _ in range(1 + SEEDS // 50)]  # so that no ledger grows long
    try:
        lives = all_of(lambda seed: live_through(seed, tmp_path, gateways[seed % len(gateways)]), range(SEEDS))
    finally:
        for running in gateways:
            running.__exit__()
    found = sum(lives, Counter())
    print(dict(found))
    figures.duplicates += found["duplicates"]
    assert found["duplicates"] == 0
    assert found["kills"] >= SEEDS / 2


# H20: told to stop.


@define
class Desk:
    """A directory in which the command makes six jobs, two at a time, at a gateway whose jobs last a second."""

    root: Path
    gateway: ThreadedServer
    process: subprocess.Popen
    events: list = field(factory=list)

    def tell(self, number):
        os.kill(self.process.pid, number)

    def read_until(self, name, times=1):
        """Read the command's events until one has come so many times."""
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if [event["event"] for event in self.events].count(name) == times:
                break

    def wait_for_submits(self, count):
        while len(self.gateway.ledger.submits) < count:
            assert self.process.poll() is None
            time.sleep(0.001)

    def end(self):
        """Wait for the command to end; returns its exit code, its last event and its talk."""
        out, err = self.process.communicate(timeout=60)
        self.events += [json.loads(line) for line in out.splitlines()]
        assert "Traceback" not in err
        return self.process.returncode, self.events[-1], err

    @property
    def files(self):
        return list((self.root / "videos").glob("*.mp4"))


@contextlib.contextmanager
def at_work(root, *faults):
    """Let the command begin; `faults` strike its submits."""
    root.mkdir()
    rows = [json.dumps({"id": f"job-{number}", "prompt": f"prompt {number}"}) for number in range(1, 7)]
    (root / "jobs.jsonl").write_text("\n".join(rows))
    with ThreadedServer(Sandbox(api_keys=[KEY])) as server:
        server.sandbox.script(ends_after(1.0))
        for fault in faults:
            server.sandbox.script(fault, on="submit")
        known = {"GATEWAY": "kling3api", "API_KEY": KEY, "BASE_URL": server.url, "STORE": str(root / "store")}
        environment = {f"KLING_{name}": value for name, value in known.items()}
        desk = Desk(root, server, child("run", "jobs.jsonl", "--json", "-j", "2", *QUICK, env=environment, cwd=root))
        try:
            yield desk
        finally:
            with desk.process as process:
                process.kill()


STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 7), (signal.SIGHUP, 7)]
"""What tells the command to stop, and its exit code then."""


def test_h20_the_first_signal_stops_sending_and_waits_for_what_is_paid(tmp_path):
    def live(stop):
        number, code = stop
        with at_work(tmp_path / number.name) as desk:
            desk.read_until("accepted", 2)
            desk.tell(number)
            ended_with, summary, err = desk.end()
            kinds = [event["event"] for event in desk.events]
            assert (ended_with, summary["exit_code"], desk.gateway.ledger.accepted) == (code, code, 2)
            assert kinds.count("downloaded") == len(desk.files) == 2
            assert summary["not_sent"] == summary["batch"]["planned"] == 4
            assert summary["in_doubt"] == 0
            assert "Stopping: no new submissions. 2 clips are being made and already paid for." in err
            assert "waiting for them, up to 10 min" in err
            assert "Stopped at 2 of 6, 400 credits spent. Nothing is lost." in err
            assert "go on        kling resume jobs-" in err

    all_of(live, STOPS)


def test_h20_a_signal_in_the_middle_of_a_request_leaves_nothing_in_doubt(tmp_path):
    def live(stop):
        number, code = stop
        with at_work(tmp_path / number.name, late(0.4)) as desk:
            desk.wait_for_submits(2)
            desk.tell(number)
            ended_with, summary, _ = desk.end()
            assert (ended_with, desk.gateway.ledger.accepted, len(desk.gateway.ledger.submits)) == (code, 2, 2)
            assert (summary["downloaded"], summary["in_doubt"], summary["not_sent"]) == (2, 0, 4)

    all_of(live, STOPS)


def test_h20_a_second_ctrl_c_leaves_at_once_and_prints_every_task_id(tmp_path):
    with at_work(tmp_path / "twice") as desk:
        desk.read_until("accepted", 2)
        desk.tell(signal.SIGINT)
        desk.read_until("stopping")
        desk.tell(signal.SIGINT)
        ended_with, summary, err = desk.end()
        ids = {event["task_id"] for event in desk.events if event["event"] == "accepted"}
        assert (ended_with, len(ids), summary["late"]) == (130, 2, 2)
        assert all(task_id in err for task_id in ids)
        assert "still being made" in err


def test_h20_leaving_names_the_keys_of_requests_under_way(tmp_path):
    with at_work(tmp_path / "leaving", hang_after_accept()) as desk:
        desk.wait_for_submits(2)
        desk.tell(signal.SIGTERM)
        desk.read_until("stopping")
        desk.tell(signal.SIGINT)
        ended_with, summary, err = desk.end()
        assert (ended_with, summary["in_doubt"]) == (130, 2)
        assert "job-1   was being sent" in err
        assert "job-2   was being sent" in err


def test_h20_ctrl_c_before_anything_is_sent_sends_nothing(tmp_path):
    fifo = tmp_path / "jobs.csv"
    os.mkfifo(fifo)
    process = child("run", "jobs.csv", "--sandbox", env={"KLING_STORE": str(tmp_path / "store")}, cwd=tmp_path)
    with fifo.open("wb"):  # opens once the child reads
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing was sent" in err


KILLS_AT_ONCE = [signal.SIGTERM, signal.SIGHUP]


def test_h20_a_program_of_ones_own_that_is_told_to_stop_loses_nothing(tmp_path, distant, figures):
    """Only Ctrl-C is told to Python; the others are as sudden as a kill. The library installs no handler."""

    def live(number):
        place = Place(tmp_path / number.name, distant, jobs=60, concurrency=20)
        process = place.start()
        while '"planned"' not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(0.15)
        process.send_signal(number)
        assert ended(process).code == -number
        jobs, calls = place.read(), distant.submits(place.prefix)
        flying = {key for key, job in jobs.items() if job.state is State.SUBMITTING}
        assert any(job.state is State.PLANNED for job in jobs.values())  # in the middle of it
        assert len(flying) <= (place.concurrency if number in KILLS_AT_ONCE else 0)
        assert len(unknown_to(jobs, calls)) <= len(flying)
        check_money(place, jobs, calls)
        jobs = check_end(place, place.run())
        assert {key for key, job in jobs.items() if job.state is State.IN_DOUBT} == flying
        return duplicates(place)

    figures.duplicates += sum(all_of(live, [*KILLS_AT_ONCE, signal.SIGINT]))


# H21: power is lost.

JOBS = {f"clip {number}": f"clip-{number}" for number in range(5)}
"""The names of jobs by their prompts."""


class Watching(Sandbox):
    """Notes how many commits there were when a request came."""

    def __init__(self, commits, **settings):
        super().__init__(**settings)
        self.commits = commits
        self.came = []

    def handle(self, call, now):
        if call.method == "POST":
            self.came.append((json.loads(call.body)["prompt"], len(self.commits)))
        return super().handle(call, now)


def watched_night(monkeypatch, root, pragma=None):
    """Make a batch whose commits are watched.

    Returns the commits, what had come to the gateway by which of them, and what had been accepted by which.
    """
    path = root / "night.db"
    commits, accepted = watch_commits(monkeypatch, path, pragma), []

    def observe(step, old, new):
        if step is Step.ACCEPTED:
            accepted.append((new.key, new.task_id, len(commits)))

    async def night(url):
        pace = {"rate": None, "poll": PollPlan(0.02, 0.02, 0.1)}
        async with (
            KlingSession("kling3api", api_key="sk-of-a-test", base_url=url, concurrency=2, **pace) as session,
            session.batch(path, observer=observe) as batch,
        ):
            batch.add([(key, TextToVideo(prompt)) for prompt, key in JOBS.items()])
            return [outcome.ok async for outcome in batch.run()]

    sandbox = Watching(commits, median=0.02, sigma=0.1)
    with ThreadedServer(sandbox) as server:
        assert asyncio.run(night(server.url)) == [True] * len(JOBS)
    return commits, sandbox.came, accepted


def left_on(files, root):
    """Return what a journal holds of which these files are left."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for ending, content in files.items():
        (root / f"left.db{ending}").write_bytes(content)
    return left_in(root / "left.db", root / "copy")


def test_h21_every_commit_is_synced_before_it_returns(monkeypatch, tmp_path):
    commits, _, _ = watched_night(monkeypatch, tmp_path)
    assert len(commits) > 3 * len(JOBS) / 2
    assert {commit.synchronous for commit in commits} == {2}  # FULL
    assert {commit.mode for commit in commits[2:]} == {"wal"}  # the tables are made without a log


def test_h21_no_byte_comes_to_the_gateway_and_no_id_is_seen_before_its_commit_has_returned(monkeypatch, tmp_path):
    commits, came, accepted = watched_night(monkeypatch, tmp_path)
    assert len(came) == len(accepted) == len(JOBS)
    for prompt, count in came:
        left = left_on(commits[count - 1].after, tmp_path / "left")
        assert left.sound == "ok"
        assert left.state(JOBS[prompt]) not in (None, "planned")
    for key, task_id, count in accepted:
        assert left_on(commits[count - 1].after, tmp_path / "left").jobs[key][1] == task_id


@pytest.mark.parametrize("pragma", [None, "wal_autocheckpoint = 1"])
def test_h21_a_commit_torn_by_a_loss_of_power_is_there_as_a_whole_or_not_at_all(monkeypatch, tmp_path, pragma):
    commits, _, _ = watched_night(monkeypatch, tmp_path, pragma)
    chance = random.Random(21)
    for commit in [each for each in commits if each.mode == "wal"]:
        whole = {kind: left_on(getattr(commit, kind), tmp_path / "left") for kind in ("before", "after")}
        for _ in range(40 if EVERY else 6):
            log = mixed(commit.before.get("-wal", b""), commit.after["-wal"], chance)
            assert left_on({**commit.before, "-wal": log}, tmp_path / "left") in whole.values()
            # The log is copied into the journal once it is synced.
            journal = mixed(commit.before[""], commit.after[""], chance)
            assert left_on({**commit.after, "": journal}, tmp_path / "left") == whole["after"]


def power_lost_at_any_moment(children, root, *pragmas):
    """Watch a batch to its end and return all that is wrong after a loss of power at some moments of it."""
    work, record = root / "work", root / "record"
    work.mkdir()
    disk = {"record": str(record), "endings": ".db:.db-wal:.db-journal:.part:.mp4"}
    with ThreadedServer(Sandbox(median=0.02, sigma=0.1)) as server:
        job = {"journal": work / "night.db", "url": server.url, "prompts": list(JOBS), "directory": work / "videos"}
        end = children.run(do="make marked", **job, pragmas=pragmas, disk=disk)
    assert (end.end, end.stderr) == ("done", "")
    lines = read_record(record)
    seen = seen_of(lines, JOBS)
    assert Counter(each.what for each in seen) == dict.fromkeys(
        ("planned", "sent", "accepted", "downloaded"), len(JOBS)
    )
    moments = {each.at for each in seen} | set(range(0, len(lines), 1 if EVERY else 9))
    power, chance, wrong = Disk(), random.Random(21), []
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        for number, line in enumerate(lines):
            power.do(line)
            before = [each for each in seen if each.at <= number]
            for how in ("nothing", "something", "everything") if number in moments else ():
                wrong += wrong_after(power.left(how, chance), before, work, Path(scratch) / "left")
    return wrong


MEMORY = Path("/dev/shm")


@pytest.mark.timeout(480)
@pytest.mark.parametrize("pragma", ["wal_autocheckpoint = 1000", "wal_autocheckpoint = 1"])
def test_h21_whatever_was_acknowledged_outlives_a_loss_of_power_at_any_moment(children, tmp_path, pragma):
    assert power_lost_at_any_moment(children, tmp_path, pragma) == []


def test_h21_a_journal_that_is_not_synced_at_each_commit_is_found_out(children, tmp_path):
    """The same with what is asked of SQLite taken back: there is something to be found."""
    wrong = power_lost_at_any_moment(children, tmp_path, "synchronous = NORMAL", "wal_autocheckpoint = 20")
    kinds = ("is gone", "was sent, and is planned", "has the id None", "was downloaded, and is")
    found = {kind for kind in kinds for each in wrong if kind in each}
    assert len(found) >= 2, found  # which of them, is a matter of when the log was copied


# H22: user code forks.


def test_h22_a_forked_child_that_uses_what_is_its_parents_is_refused_and_harms_nobody(tmp_path, distant, figures):
    place = Place(tmp_path / "forked", distant, jobs=12, concurrency=4)
    last = place.run("--misuse")
    misused = {line["misused"]: line["error"] for line in last.lines if "misused" in line}
    assert len(misused) == 15
    assert set(misused.values()) == {"ConfigurationError"}, misused
    jobs = check_end(place, last)
    assert {job.state for job in jobs.values()} == {State.DOWNLOADED}
    assert len(distant.submits(place.prefix)) == 12
    figures.duplicates += duplicates(place)
