"""One job of a batch: what the journal knows of it, and what each step makes of that. Values in, values out."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import evolve, field, frozen

from kling_async.batch.amounts import micros
from kling_async.batch.states import State, Step, after
from kling_async.errors import JournalError, KlingError, error_from
from kling_async.requests import Request
from kling_async.results import Video
from kling_async.rows import request_from

TEXT_KEPT = 2000


@frozen
class Entry:
    """One row of the journal. Money is in millionths of the gateway's unit, times are Unix seconds.

    Args:
        id: its number, in the order in which the jobs were planned.
        key: its name, unique in the batch.
        state, attempt: where it stands; a deliberate retry is a new attempt.
        request: what is asked for, as a plain row.
        digest: a hash of the request.
        row, name, input: the line of the file it came from, the stem of its file's name, the user's own columns.
        estimate: what the published prices say it costs, or None.
        reserved: what the attempt under way may cost; what may have been charged stays here.
        spent: what the gateway says was charged, over all attempts.
        doubted: what earlier attempts may have cost, where nobody can say.
        gateway, task_id: who has it, under which id.
        intent_at, accepted_at, ended_at: when.
        video: the result, as plain data; error: why there is none; charged: who pays.
        file, size, sha256: the video on disk, named within the batch's directory.
        part: how far its transfer has come.
    """

    id: int
    key: str
    state: State
    attempt: int
    request: str = field(repr=False)
    digest: bytes = field(repr=False)
    row: int | None = None
    name: str | None = None
    input: str | None = field(default=None, repr=False)
    estimate: int | None = None
    reserved: int = 0
    spent: int = 0
    doubted: int = 0
    gateway: str | None = None
    task_id: str | None = None
    intent_at: float | None = None
    accepted_at: float | None = None
    ended_at: float | None = None
    charged: str | None = None
    video: str | None = field(default=None, repr=False)
    error: str | None = field(default=None, repr=False)
    file: str | None = None
    size: int | None = None
    sha256: str | None = None
    part: str | None = field(default=None, repr=False)

    @property
    def held(self) -> int:
        """What this job takes of the budget."""
        return self.reserved + self.spent + self.doubted

    def asked(self) -> Request:
        """Return the request. Raises `JournalError` for one that is none."""
        with self._understood("request"):
            return request_from(json.loads(self.request))

    def made(self) -> Video | None:
        """Return the video, without the gateway's raw answer. Raises `JournalError` for one that is none."""
        with self._understood("video"):
            return video_from(json.loads(self.video)) if self.video else None

    def problem(self) -> KlingError | None:
        """Return why there is no video, or no file. Raises `JournalError` for what is no error."""
        with self._understood("error"):
            return error_from(json.loads(self.error)) if self.error else None

    @contextmanager
    def _understood(self, what: str) -> Iterator[None]:
        wrong = False
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
            wrong = True
        if wrong:
            words = f"the {what} of job {self.key} is none that this version reads; restore a copy of the journal"
            raise JournalError(words, code="corrupt", stage="journal", key=self.key, task_id=self.task_id)


def intended(entry: Entry, at: float, reserve: int) -> Entry:
    """The first byte is about to leave. A key that was used before keeps the age of its first use."""
    again = entry.state is State.SUBMITTING
    begun = entry.intent_at if again and entry.intent_at is not None else at
    return evolve(entry, state=after(entry.state, Step.SUBMITTING), intent_at=begun, reserved=reserve, error=None)


def postponed(entry: Entry) -> Entry:
    """The gateway surely did not take it; it will be sent again."""
    return evolve(entry, state=after(entry.state, Step.POSTPONED), reserved=0, intent_at=None)


def accepted(entry: Entry, gateway: str, task_id: str, at: float, claim: Decimal | None) -> Entry:
    """The gateway took it. What it says it costs may raise what is reserved and never lowers it."""
    reserved = max(entry.reserved, micros(claim) if claim is not None else 0)
    state = after(entry.state, Step.ACCEPTED)
    known: dict[str, Any] = {"gateway": gateway, "task_id": task_id, "accepted_at": at, "reserved": reserved}
    return evolve(entry, state=state, error=None, charged=None, **known)


def rejected(entry: Entry, error: KlingError, at: float) -> Entry:
    """It surely did nothing, and would do nothing again."""
    state = after(entry.state, Step.REJECTED)
    return evolve(entry, state=state, reserved=0, error=told(error), charged="no", ended_at=at)


def lost(entry: Entry, error: KlingError, at: float) -> Entry:
    """Nobody can say whether the gateway took it: what it may cost stays reserved."""
    state = after(entry.state, Step.LOST)
    return evolve(entry, state=state, error=told(error), charged="unknown", ended_at=at)


def succeeded(entry: Entry, video: Video, spent: Decimal | None, at: float) -> Entry:
    """There is a video. A price of nothing is no price: only a failed job is refunded."""
    state = after(entry.state, Step.SUCCEEDED)
    kept = json.dumps(video.to_dict(), separators=(",", ":"))
    return _settled(evolve(entry, state=state, video=kept, charged="yes", ended_at=at), spent or None)


def failed(entry: Entry, error: KlingError, charged: str, spent: Decimal | None, at: float) -> Entry:
    """The gateway took it and made nothing of it."""
    state = after(entry.state, Step.FAILED)
    ended = evolve(entry, state=state, error=told(error), charged=charged, ended_at=at)
    return _settled(ended, Decimal(0) if charged == "no" else spent)


def _settled(entry: Entry, spent: Decimal | None) -> Entry:
    """Let what the gateway says take the place of what is reserved; where it says nothing, that stays."""
    if spent is None:
        return entry
    return evolve(entry, reserved=0, spent=entry.spent + micros(spent))


def fetching(entry: Entry, **known: Any) -> Entry:
    """Its file has a name, or the transfer has come further."""
    return evolve(entry, state=after(entry.state, Step.FETCHING), **known)


def downloaded(entry: Entry, at: float) -> Entry:
    """The file is on disk, whole, under its name."""
    return evolve(entry, state=after(entry.state, Step.DOWNLOADED), part=None, error=None, ended_at=at)


def unfetched(entry: Entry, error: KlingError) -> Entry:
    """The download failed; the next run takes it up again."""
    return evolve(entry, state=after(entry.state, Step.UNFETCHED), error=told(error))


def retried(entry: Entry) -> Entry:
    """A new attempt, with an identity of its own; what the old one may have cost is not forgotten."""
    state = after(entry.state, Step.RETRIED)
    doubted = entry.doubted + entry.reserved
    gone: dict[str, Any] = {"task_id": None, "gateway": None, "intent_at": None, "accepted_at": None, "ended_at": None}
    bare = evolve(entry, state=state, attempt=entry.attempt + 1, reserved=0, doubted=doubted, **gone)
    return evolve(bare, error=None, charged=None, video=None, part=None, size=None, sha256=None)


def left_behind(entry: Entry) -> str:
    """Return what a new attempt leaves behind, for the history: the old one's task id and error."""
    error = json.loads(entry.error) if entry.error else None
    return json.dumps({"task_id": entry.task_id, "state": str(entry.state), "error": error})


def told(error: KlingError) -> str:
    """Return an error as the journal keeps it."""
    return json.dumps(error.to_dict(), separators=(",", ":"), default=str)


def video_from(known: Mapping[str, Any]) -> Video:
    """Return a video from the plain data of `Video.to_dict`."""
    expires, spent = known.get("expires_at"), known.get("credits")
    return Video(
        task_id=known["task_id"],
        url=known["url"],
        urls=tuple(known.get("urls", ())),
        thumbnail_url=known.get("thumbnail_url"),
        duration=known.get("duration"),
        expires_at=datetime.fromisoformat(expires) if expires else None,
        credits=Decimal(spent) if spent is not None else None,
    )
