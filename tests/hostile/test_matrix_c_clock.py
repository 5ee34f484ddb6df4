"""C: what clocks do. A wall clock that jumps, a machine that sleeps, a gateway that lives in 1970."""

import asyncio
import json
import random
import shutil
import sys
import time
from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web
from attrs import define, evolve
from click.testing import CliRunner
from journal_world import nothing_left_behind, steps_of

sys.path += [str(Path(__file__).parents[1] / room) for room in ("session", "batch")]

from batch_virtual import WALL, LoopWriter, Program, check, clips, made, set_clocks
from virtual import VirtualLoop, VirtualSession, now

from kling_async import (
    KlingSession,
    PollPlan,
    RetryPolicy,
    Status,
    SubmissionInDoubtError,
    Success,
    TextToVideo,
    Timeouts,
)
from kling_async.batch import Reading, State, Step
from kling_async.cli.app import kling
from kling_async.sandbox import (
    Sandbox,
    create_app,
    drop_after_accept,
    ends_after,
    expired_link,
    half_body,
    hang_after_accept,
    http,
)
from kling_async.sandbox.mp4 import video

DAY, YEAR, NIGHT = 86_400.0, 365 * 86_400.0, 8 * 3600.0


class Sleepy(asyncio.SelectorEventLoop):
    """The event loop of a machine that can be put to sleep: its clock leaps, and nothing of it ran meanwhile."""

    slept = 0.0

    def time(self):
        return super().time() + self.slept


def on_a_sleepy_machine(work):
    with asyncio.Runner(loop_factory=Sleepy) as runner:
        return runner.run(work)


def in_virtual_time(work):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


@define
class Clock:
    """The wall clock, by so many seconds wrong."""

    offset: float = 0.0


@pytest.fixture
def clock(monkeypatch):
    found, right = Clock(), time.time
    monkeypatch.setattr(time, "time", lambda: right() + found.offset)
    return found


@pytest.fixture(autouse=True)
def no_leak(figures):
    with nothing_left_behind(figures):
        yield


@pytest.fixture
def gateway(kling_sandbox):
    """A gateway whose jobs last some hundredths of a second."""
    kling_sandbox.sandbox.speed = 2000
    return kling_sandbox


def prompts(count):
    return [(f"job {number}", TextToVideo(f"clip {number}", duration=5)) for number in range(count)]


async def night_of(gateway, root, observer=None, jobs=8, **settings):
    """Make a batch with its files; returns the outcomes by key."""
    session = gateway.session(concurrency=4, **settings)
    batch = session.batch(root / "night.db", download_to=root / "videos", observer=observer)
    async with session, batch:
        batch.add(prompts(jobs))
        return {outcome.key: outcome async for outcome in batch.run()}


def judge(gateway, outcomes, jobs, figures):
    """Every job has its own video on disk, whole, and was paid for once."""
    figures.duplicates += len(gateway.ledger.duplicates)
    assert len(outcomes) == jobs
    for outcome in outcomes.values():
        assert isinstance(outcome, Success), outcome
        assert outcome.file.read_bytes() == video(outcome.task_id, "16:9", 5)
    assert gateway.ledger.accepted == len(gateway.ledger.submits) == jobs
    assert gateway.ledger.accepted_per_prompt == {f"clip {number}": 1 for number in range(jobs)}


# C01, C02: the wall clock jumps.


async def requests_with(clock, jump):
    """Return when each request of a session left whose wall clock jumps in the middle, and how its jobs ended."""
    clock.offset = 0.0
    sandbox = Sandbox()
    sandbox.script(http(429, retry_after=3), on="submit", nth=5)
    sandbox.script(drop_after_accept(), on="submit", nth=9)
    async with VirtualSession(sandbox, concurrency=6, rate="2/s") as session:
        session._engine.random = random.Random(0)
        asyncio.get_running_loop().call_later(40, setattr, clock, "offset", jump)
        outcomes = await session.gather(TextToVideo(f"clip {number}") for number in range(20))
        return [(at, method, path) for at, method, path, _ in session.wire.log], Counter(map(type, outcomes))


def same_delays(clock, jump):
    undisturbed = in_virtual_time(requests_with(clock, 0.0))
    assert in_virtual_time(requests_with(clock, jump)) == undisturbed
    assert undisturbed[1][Success] == 19


def jumping(clock, jump):
    """Return an observer that sets the wall clock when the first job is accepted."""

    def observe(step, old, new):
        if step is Step.ACCEPTED:
            clock.offset = jump

    return observe


async def added(batch, jobs):
    return batch.add(jobs)


async def summed_up(batch):
    return batch.summary()


def killed_and_taken_up(monkeypatch, path, dialect, seconds):
    """Set the wall clock forth and back under a batch that is killed and taken up; nothing is paid twice or lost."""
    set_clocks(monkeypatch)
    monkeypatch.setattr("kling_async.batch.journal.Writer", LoopWriter)
    sandbox = Sandbox()
    sandbox.script(drop_after_accept(), on="submit", every=3)
    program = Program(path, sandbox, gateway=dialect).open()
    program.do(added(program.batch, clips(9)))
    program.read()
    program.wait(0.05)
    WALL.offset += seconds
    program.wait(5)
    WALL.offset -= seconds
    program.wait(20)
    WALL.offset += seconds
    moment = program.kill()
    program = Program(path, sandbox, moment, gateway=dialect).open()
    program.read()
    program.wait(600)
    WALL.offset -= seconds
    program.do(program.reader)
    assert program.do(summed_up(program.batch)).unfinished == 0
    assert program.loop.now - moment < 2000
    program.close()
    check(path, sandbox)


def test_c01_a_wall_clock_a_year_ahead_changes_no_delay(clock):
    same_delays(clock, YEAR)


def test_c01_a_wall_clock_a_year_ahead_costs_no_job(gateway, clock, tmp_path, figures):
    outcomes = on_a_sleepy_machine(night_of(gateway, tmp_path, jumping(clock, YEAR)))
    assert clock.offset == YEAR
    judge(gateway, outcomes, 8, figures)


@pytest.mark.parametrize("seconds", [DAY, YEAR])
@pytest.mark.parametrize("dialect", ["kling3api", "keyed", "apimart"])
def test_c01_a_wall_clock_set_forth_between_two_runs_changes_nothing_paid(monkeypatch, tmp_path, dialect, seconds):
    killed_and_taken_up(monkeypatch, tmp_path / "night.db", dialect, seconds)


def test_c02_a_wall_clock_a_day_behind_changes_no_delay(clock):
    same_delays(clock, -DAY)


def test_c02_a_wall_clock_a_day_behind_costs_no_job_and_the_journal_keeps_its_order(gateway, clock, tmp_path, figures):
    outcomes = on_a_sleepy_machine(night_of(gateway, tmp_path, jumping(clock, -DAY)))
    judge(gateway, outcomes, 8, figures)
    clock.offset = 0.0
    with Reading(tmp_path / "night.db") as journal:
        happened = journal.happened(limit=10_000)
        times = [event.at for event in happened]
        assert times != sorted(times)  # by the clock, the end of the night came before its beginning
        assert [event.seq for event in happened] == sorted(event.seq for event in happened)
        for entry in journal.each(State):
            steps = [step for step, _, _ in journal.steps(entry.id)]
            assert steps[:4] == [Step.PLANNED, Step.SUBMITTING, Step.ACCEPTED, Step.SUCCEEDED]
            assert steps[-1] is Step.DOWNLOADED


@pytest.mark.parametrize("seconds", [-DAY, -YEAR])
@pytest.mark.parametrize("dialect", ["kling3api", "keyed", "apimart"])
def test_c02_a_wall_clock_set_back_between_two_runs_changes_nothing_paid(monkeypatch, tmp_path, dialect, seconds):
    killed_and_taken_up(monkeypatch, tmp_path / "night.db", dialect, seconds)


# C03: the machine sleeps while a request is under way.


async def asleep_in_a_submit(gateway, root, fall_asleep):
    """Submit one job, sleep while its answer is awaited; returns its outcome and what the next run says of it."""
    session = gateway.session(timeouts=Timeouts(submit=90))
    async with session, session.batch(root / "night.db") as batch:
        batch.add([("fox", TextToVideo("a red fox"))])
        reading = asyncio.ensure_future(anext(batch.run()))
        while not gateway.ledger.submits:
            await asyncio.sleep(0.005)
        fall_asleep(asyncio.get_running_loop())
        outcome = await reading
        again = [each async for each in batch.run()]
        return outcome, again, batch.summary()


SLEEPS = {
    "its clock counts the sleep": ("timeout", hang_after_accept()),
    "its clock stops in the sleep": ("disconnected", evolve(drop_after_accept(), delay=0.2)),
}


@pytest.mark.parametrize("machine", SLEEPS)
def test_c03_a_sleep_of_eight_hours_in_a_submit_leaves_it_in_doubt(kling_sandbox, clock, tmp_path, machine, figures):
    """Where the clock stops, the gateway or a router has given the connection up meanwhile."""
    code, fault = SLEEPS[machine]
    kling_sandbox.next(fault)

    def fall_asleep(loop):
        clock.offset += NIGHT
        loop.slept += NIGHT * (code == "timeout")

    begun = time.monotonic()
    outcome, again, summary = on_a_sleepy_machine(asleep_in_a_submit(kling_sandbox, tmp_path, fall_asleep))
    assert time.monotonic() - begun < 3
    error = outcome.error
    assert isinstance(error, SubmissionInDoubtError)
    assert (error.code, error.cause.code, error.stage, error.key, error.attempts) == (code, code, "submit", "fox", 1)
    assert (outcome.status, outcome.charged, outcome.task_id) == (Status.IN_DOUBT, "unknown", None)
    assert again == []
    assert (summary.in_doubt, summary.reserved) == (1, kling_sandbox.ledger.charged)
    assert (kling_sandbox.charges, kling_sandbox.submissions) == (1, 1)
    assert steps_of(tmp_path / "night.db", "fox") == [Step.PLANNED, Step.SUBMITTING, Step.LOST]
    figures.duplicates += len(kling_sandbox.ledger.duplicates)


@pytest.mark.parametrize("machine", SLEEPS)
def test_c03_a_sleep_before_the_first_byte_has_the_intent_recorded_anew(gateway, clock, tmp_path, machine, figures):
    """Where the clock counts the sleep, the time for the request is over, and it is surely not sent."""
    counts = machine == "its clock counts the sleep"

    def observe(step, old, new):
        if step is Step.SUBMITTING and not clock.offset:
            clock.offset = NIGHT
            asyncio.get_running_loop().slept += NIGHT * counts

    outcomes = on_a_sleepy_machine(night_of(gateway, tmp_path, observe, jobs=1))
    judge(gateway, outcomes, 1, figures)
    steps = steps_of(tmp_path / "night.db", "job 0")
    assert steps[:3] == [Step.PLANNED, Step.SUBMITTING, Step.SUBMITTING]
    assert steps[3:-1].count(Step.ACCEPTED) == 1
    assert steps[: steps.index(Step.ACCEPTED)].count(Step.POSTPONED) == counts
    with Reading(tmp_path / "night.db") as journal:
        assert journal.find("job 0").intent_at > time.time() - 60  # the age of an intent counts from the last


# C04, C08: the machine sleeps while jobs are made, and wakes up.


def densest(times, seconds):
    """Return the most times that fall into any span of so many seconds."""
    ordered = sorted(times)
    return max(number - bisect_left(ordered, at - seconds) + 1 for number, at in enumerate(ordered))


async def asleep_with(jobs, rate):
    """Have so many jobs made and sleep for the night; returns the outcomes, the looks since, and when it woke."""
    async with VirtualSession(Sandbox(), concurrency=None, rate=rate, rtt=0.01) as session:
        futures = [session.submit(TextToVideo(f"clip {number}")) for number in range(jobs)]
        for future in futures:
            await future.accepted()
        asleep_at = now()
        asyncio.get_running_loop().now += NIGHT
        woken = now()
        outcomes = [await future.outcome() for future in futures]
        log = [(at, query.get("task_id")) for at, method, _, query in session.wire.log if method == "GET"]
    flying = {task for at, task in log if asleep_at - session.wire.rtt <= at <= asleep_at}
    return outcomes, [(at, task) for at, task in log if at >= woken], flying, woken


@pytest.mark.parametrize("rate", [None, "10/s"])
def test_c04_a_sleep_of_eight_hours_costs_one_look_a_job_and_no_burst(rate):
    outcomes, looks, flying, woken = in_virtual_time(asleep_with(1000, rate))
    assert {type(outcome) for outcome in outcomes} == {Success}
    often = Counter(task for _, task in looks)
    # A look that was under way when the machine fell asleep was lost, and is made once more.
    assert {task for task, times in often.items() if times > 1} <= flying
    assert max(at for at, _ in looks) - woken <= 130
    if rate is not None:
        assert densest([at for at, _ in looks], 1.0) <= 10 + 1


def test_c04_a_batch_that_slept_through_the_end_of_its_jobs_has_all_files(
    kling_sandbox, clock, tmp_path, figures, monkeypatch
):
    monkeypatch.setattr("kling_async.engine.LEAP_SPREAD", 0.5)
    kling_sandbox.script(ends_after(0.2))

    async def night():
        loop, accepted = asyncio.get_running_loop(), []

        def sleep():
            clock.offset += NIGHT
            loop.slept += NIGHT

        def observe(step, old, new):
            accepted.extend([new] if step is Step.ACCEPTED else [])
            if len(accepted) == 20 and step is Step.ACCEPTED:
                loop.call_later(0.4, sleep)

        plan = PollPlan(first=600, minimum=1, maximum=600)
        session = kling_sandbox.session(concurrency=20, poll=plan)
        made = session.batch(tmp_path / "night.db", download_to=tmp_path / "videos", observer=observe)
        async with session, made as batch:
            batch.add(prompts(20))
            return {outcome.key: outcome async for outcome in batch.run()}

    outcomes = on_a_sleepy_machine(night())
    judge(kling_sandbox, outcomes, 20, figures)
    assert set(kling_sandbox.polls_per_task.values()) == {1}
    assert kling_sandbox.ledger.downloads == 20


# C05: the gateway's clock is wrong.


@pytest.fixture
def gateway_of_1970():
    """Return a function that serves a sandbox all of whose answers are dated 1970."""

    async def date(request, response):
        response.headers["Date"] = "Thu, 01 Jan 1970 00:00:00 GMT"

    async def serve(work, sandbox):
        app = create_app(sandbox)
        app.on_response_prepare.append(date)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            sandbox.public_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            return await work(sandbox.public_url)
        finally:
            await runner.cleanup()

    return serve


def date_in(seconds):
    return format_datetime(datetime.fromtimestamp(time.time() + seconds, UTC), usegmt=True)


CAP = 0.6
WAITS = {
    "no Retry-After": (None, 0.05, 0.5),
    "seconds": ("0.4", 0.4, 0.9),
    "a date of our clock": (lambda: date_in(1.9), 0.25, CAP + 0.3),
    "a date of its clock": ("Thu, 01 Jan 1970 00:00:02 GMT", 0.05, 0.5),
    "a date beyond the cap": (lambda: date_in(NIGHT), CAP, CAP + 0.3),
    "a date beyond time": ("Fri, 31 Dec 9999 23:59:59 GMT", CAP, CAP + 0.3),
}


@pytest.mark.parametrize("said", WAITS)
def test_c05_a_gateway_that_lives_in_1970_is_waited_for_by_our_clock_and_no_longer_than_the_cap(
    gateway_of_1970, tmp_path, said, figures
):
    after, least, most = WAITS[said]
    sandbox = Sandbox(median=0.05, sigma=0.1)
    headers = (("X-RateLimit-Remaining", "5"), ("X-RateLimit-Reset", "1000000001"))

    async def work(url):
        sandbox.next(http(429, retry_after=after() if callable(after) else after, headers=headers))
        policy = RetryPolicy(initial=0.1, maximum=0.2, retry_after_cap=CAP)
        session = KlingSession(
            "kling3api", api_key="sk-of-a-test", base_url=url, rate=None, poll=PollPlan(0.05, 0.05, 0.2), retry=policy
        )
        async with session, session.batch(tmp_path / "night.db", download_to=tmp_path / "videos") as batch:
            batch.add(prompts(1))
            return {outcome.key: outcome async for outcome in batch.run()}

    outcomes = asyncio.run(gateway_of_1970(work, sandbox))
    assert isinstance(outcomes["job 0"], Success)
    assert outcomes["job 0"].file.read_bytes() == video(outcomes["job 0"].task_id, "16:9", 5)
    first, second = sandbox.ledger.submits
    assert (first.accepted, second.accepted) == (False, True)
    assert least <= second.at - first.at <= most
    figures.duplicates += len(sandbox.ledger.duplicates)


# C06: the link to a video dies while the machine sleeps.


@pytest.mark.parametrize("asleep", ["before the transfer", "in the transfer"])
def test_c06_a_link_that_died_in_the_sleep_is_asked_for_anew(gateway, clock, tmp_path, asleep, figures):
    if asleep == "before the transfer":
        gateway.script(expired_link())
    else:
        gateway.next(half_body(), on="download")
        gateway.script(expired_link(), on="download", nth=2)

    def observe(step, old, new):
        if step is Step.SUCCEEDED:
            clock.offset += NIGHT
            asyncio.get_running_loop().slept += NIGHT

    outcomes = on_a_sleepy_machine(night_of(gateway, tmp_path, observe, jobs=1))
    judge(gateway, outcomes, 1, figures)
    assert gateway.ledger.downloads == (2 if asleep == "before the transfer" else 3)
    with Reading(tmp_path / "night.db") as journal:
        assert [entry.state for entry in journal.each(State)] == [State.DOWNLOADED]
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == [outcomes["job 0"].file.name]


# C07: names and times where the clocks are changed.

FIRST, SECOND = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
"""Both are half past two in Berlin, where the clocks are set back in between."""
PLACES = [("Europe/Berlin", FIRST), ("Europe/Berlin", SECOND), ("UTC", FIRST), ("America/St_Johns", SECOND)]
"""In St. John's it is still the day before."""


@pytest.fixture
def zone(monkeypatch):
    """Return a function that moves this program to another time zone."""

    def move(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.delenv("TZ", raising=False)
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone of a running program is a thing of POSIX")
def test_c07_files_are_named_the_same_in_every_zone_and_days_are_those_of_utc(
    zone, clock, gateway, tmp_path, monkeypatch
):
    names, days = set(), set()
    monkeypatch.chdir(tmp_path)
    Path("jobs.jsonl").write_text("\n".join(json.dumps({"prompt": f"clip {row}"}) for row in range(3)))
    pace = ["--rate", "none", "--poll-min", "0.01", "--poll-max", "0.05", "--poll-first", "0.05"]
    for place, moment in PLACES:
        zone(place)
        clock.offset += moment.timestamp() - time.time()
        words = ["run", "jobs.jsonl", "--store", "store", "--json", "--yes", "--budget", "none", *pace]
        result = CliRunner().invoke(kling, words)
        assert result.exit_code == 0, result.output
        assert all(json.loads(line)["t"].endswith("Z") for line in result.stdout.splitlines())
        names.add(frozenset(str(path) for path in Path().rglob("*")))
        spent = CliRunner().invoke(kling, ["spend", "--by", "day", "--store", "store", "--json"])
        days |= {row["day"] for row in json.loads(spent.stdout)["groups"]}
        for directory in ("store", "videos"):
            shutil.rmtree(directory)
    assert len(names) == 1
    assert days == {"2026-10-25"}


# C08: a thousand jobs wake at once.


def test_c08_a_thousand_jobs_that_wake_at_once_are_not_looked_at_at_once():
    outcomes, looks, _, _ = in_virtual_time(asleep_with(1000, None))
    assert {type(outcome) for outcome in outcomes} == {Success}
    assert densest([at for at, _ in looks], 0.1) <= 0.2 * 1000


def test_c08_a_thousand_jobs_of_an_earlier_run_are_not_looked_at_at_once(monkeypatch, tmp_path):
    set_clocks(monkeypatch)
    monkeypatch.setattr("kling_async.batch.journal.Writer", LoopWriter)
    sandbox, path = Sandbox(), tmp_path / "night.db"
    program = Program(path, sandbox, session={"concurrency": 1000, "rtt": 0.01}).open()
    program.do(added(program.batch, clips(1000)))
    program.read()
    while sandbox.ledger.accepted < 1000:
        program.wait(1)
    asleep_at = program.kill()
    program = Program(path, sandbox, asleep_at + NIGHT, session={"concurrency": 1000, "rtt": 0.01}).open()
    outcomes = program.do(made(program.batch))
    looks = program.session.wire.times("GET")
    program.close()
    assert {type(outcome) for outcome in outcomes} == {Success}
    assert len(outcomes) == len(looks) == 1000
    assert densest(looks, 0.1) <= 0.2 * 1000
    check(path, sandbox)
