"""A session against a hostile gateway, and what must hold after every such trial."""

import asyncio
import contextlib
import gc
import json
import os
import time
import traceback

from apimart_dialect import speak_apimart
from attrs import define, field
from hostile_gateway import film_of, hostile_gateway

from kling_async import (
    ConnectionFailedError,
    DownloadPolicy,
    KlingError,
    KlingSession,
    PollPlan,
    RetryPolicy,
    Status,
    SubmissionInDoubtError,
    TextToVideo,
    Timeouts,
)

KEY = "k-canary-55e1f0c2a9"
MOST_GROWTH = 32 * 1024 * 1024


def open_files():
    return len(os.listdir("/proc/self/fd"))


@define
class Figures:
    """What one test of a row showed."""

    duplicates: int = 0
    leaks: int = 0
    growth: int = 0
    late: float = 0.0


@define
class Trial:
    """One session against one hostile gateway, and what must hold afterwards.

    Args:
        gateway: scripted by the test.
        session: with short deadlines: connect 1 s, submit 1 s, poll 1 s.
        seconds: how long everything may take; a second more is granted.
        copies: how many duplicates the row allows, which is none but where a user asked for it.
        settings: what the session was made with.
    """

    gateway: object = field(repr=False)  # it knows the key, and locals of tests are in tracebacks too
    session: KlingSession
    seconds: float = 5.0
    copies: int = 0
    settings: dict = field(factory=dict, repr=False)
    _number: int = 0

    @property
    def ledger(self):
        return self.gateway.ledger

    def another(self, **settings):
        """Return another session of the same settings, as the next start of the program would make it."""
        return KlingSession(**{**self.settings, **settings})

    def request(self):
        """Return a request that no other job has."""
        self._number += 1
        return TextToVideo(f"a paper boat, number {self._number}")

    def submit(self, **options):
        return self.session.submit(self.request(), **options)

    async def one(self, **options):
        """Submit one job and return (future, outcome)."""
        future = self.submit(**options)
        return future, await future.outcome()

    async def many(self, count):
        """Submit so many jobs and return their outcomes in order."""
        futures = [self.submit() for _ in range(count)]
        return [await future.outcome() for future in futures]

    @property
    def port(self):
        """The port of the API."""
        return int(self.gateway.api.rpartition(":")[2])

    @property
    def idle(self):
        """Whether the session has nothing left that it could send."""
        stats = self.session.stats
        return (stats.used, stats.waiting) == (0, 0)

    async def film(self, video, path):
        """Download a video and assert that it is the film of its own task."""
        found = await self.session.download(video, path)
        assert found.read_bytes() == film_of(video.task_id)
        return found


def assert_silent(error):
    """No error shows the key, nor a foreign exception, in any of its forms."""
    assert isinstance(error, KlingError)
    assert error.__context__ is None or isinstance(error.__context__, KlingError)
    forms = [str(error), repr(error), json.dumps(error.to_dict())]
    forms += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    assert not any(KEY in form for form in forms)
    assert len(error.message) <= 2100
    assert error.message.isprintable()


def assert_not_sent(future, outcome, code, attempts):
    """The job failed after so many tries to connect; no byte of it left, and it cost nothing."""
    error = outcome.error
    assert type(error) is ConnectionFailedError
    assert (error.code, error.stage, error.charged, error.attempts) == (code, "connect", "no", attempts)
    assert (error.http_status, error.task_id, error.cause) == (None, None, None)
    assert (outcome.charged, outcome.status, future.status) == ("no", Status.FAILED, Status.FAILED)
    assert_silent(error)


def assert_in_doubt(trial, future, outcome, *codes, http_status=None, task_id=None, accepted=1, submits=1):
    """The job is in doubt for one of these reasons; it was sent once, and nothing is left to be sent."""
    error = outcome.error
    assert type(error) is SubmissionInDoubtError
    assert error.code in codes
    assert (error.stage, error.charged, outcome.charged, error.attempts) == ("submit", "unknown", "unknown", 1)
    assert (outcome.status, future.status) == (Status.IN_DOUBT, Status.IN_DOUBT)
    assert (error.http_status, error.task_id, outcome.task_id, future.task_id) == (http_status, *[task_id] * 3)
    assert (error.key, outcome.request) == (future.key, future.request)
    assert isinstance(error.cause, KlingError)
    assert_silent(error)
    assert_silent(error.cause)
    assert (trial.ledger.accepted, len(trial.ledger.submits)) == (accepted, submits)
    assert trial.idle


@contextlib.asynccontextmanager
async def begin(figures, *, seconds=5.0, copies=0, running_looks=1, dialect="kling3api", tls=None, **settings):
    """Yield a `Trial`; afterwards assert what holds for every row.

    A `base_url` among the settings may have `{port}` for the port of the gateway's API.

    No asyncio task, open file or complaint of the event loop is left; nothing went astray, the key went to the API
    alone, no duplicate was paid for, and all of it took at most a second more than `seconds`.
    """
    loop = asyncio.get_running_loop()
    noise = []
    loop.set_exception_handler(lambda _, context: noise.append(context))
    tasks, files = asyncio.all_tasks(), open_files()
    async with hostile_gateway(KEY, running_looks=running_looks, tls=tls) as gateway:
        if dialect == "apimart":
            speak_apimart(gateway)
        if "base_url" in settings:
            settings["base_url"] = settings["base_url"].format(port=gateway.api.rpartition(":")[2])
        usual = {
            "api_key": KEY,
            "base_url": gateway.api,
            "rate": None,
            "poll": PollPlan(0.02, 0.02, 0.2),
            "timeouts": Timeouts(connect=1, submit=1, poll=1, generation=20),
            "retry": RetryPolicy(initial=0.02, maximum=0.2),
            "downloads": DownloadPolicy(
                stall=0.5, minimum_speed=0, allow_private_hosts=(gateway.films.removeprefix("http://"),)
            ),
        }
        whole = {"gateway": dialect, **usual, **settings}
        async with KlingSession(**whole) as session:
            begun = time.monotonic()
            this = Trial(gateway, session, seconds, copies, whole)
            yield this
            took = time.monotonic() - begun
        ledger = gateway.ledger
        figures.late = max(figures.late, took - this.seconds)
        figures.duplicates += ledger.duplicates
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0.01)
    left = {task for task in asyncio.all_tasks() - tasks if not task.done()}
    leaks = [*left, *noise] + [f"{open_files() - files} files"] * (open_files() > files)
    figures.leaks += len(leaks)
    assert not leaks, leaks
    assert ledger.astray == []
    assert ledger.connections["canary"] == 0
    assert ledger.key_outside == 0
    assert ledger.duplicates <= this.copies
    assert took <= this.seconds + 1.0
