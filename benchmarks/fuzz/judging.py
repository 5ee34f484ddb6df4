"""What an adapter makes of an answer, and whether that keeps every promise."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import evolve, frozen

from benchmarks.fuzz.answers import ASKED, NOW, Answer
from kling_async.batch.amounts import micros
from kling_async.batch.entry import told as told_of
from kling_async.batch.entry import video_from
from kling_async.endings import generation_failed, no_video
from kling_async.errors import GatewayUnavailableError, KlingError, ProtocolError, error_from
from kling_async.flow.allowance import allowance
from kling_async.flow.decision import Fate, decide
from kling_async.gateways.reading import MAX_KEPT, MAX_URL, record
from kling_async.gateways.sane import (
    check_accepted,
    check_balance,
    check_error,
    check_found,
    check_text,
    claim,
)
from kling_async.results import Snapshot, Status, Video, video_of
from kling_async.wire import MAX_DEPTH, HttpRequest, HttpResponse, is_task_id, read_json, talk

LONGEST = 1.0
"""Seconds of processor time that one answer may take, however large: the largest need a tenth of that."""

MOST_REQUESTS = 4
"""No conversation of ours needs more than one."""

_LONGEST_KEPT = 10 * MAX_KEPT
"""A character may need as many to be shown."""
_DOCUMENTED = {"apimart": (b"idempotency_unavailable", b"build_request_failed")}
"""What a server in trouble may say, by the documents, where it has surely done nothing."""


@frozen
class Verdict:
    """What became of one answer.

    Args:
        outcome: in one or two words.
        seconds: how long it took, in processor time.
    """

    outcome: str
    seconds: float


class BrokenError(AssertionError):
    """A promise is not kept; the message says which."""


def judge(answer: Answer) -> Verdict:
    """Let the adapter read an answer. Raises `BrokenError`."""
    response = answer.response()
    begun = time.thread_time()
    said = _said(answer, response)
    seconds = time.thread_time() - begun
    problem = None
    try:
        claim(seconds < LONGEST, f"takes {seconds:.2f} s")
        outcome = _outcome(answer, response, said)
    except Exception as error:  # one that a check did not foresee is a promise broken as well
        problem = str(error) if isinstance(error, AssertionError) else f"a check fails with {error!r:.300}"
    if problem is not None:
        raise BrokenError(problem)
    return Verdict(outcome, seconds)


def _said(answer: Answer, response: HttpResponse) -> Any:
    """Return what the conversation returns, or the error it raises."""
    asked: list[HttpRequest] = []

    def respond(request: HttpRequest) -> HttpResponse:
        asked.append(request)
        if not isinstance(request, HttpRequest) or len(asked) > MOST_REQUESTS:
            raise BrokenError(f"asks {request!r:.80} as request {len(asked)}")
        return response

    try:
        return talk(answer.exchange(), respond)
    except KlingError as error:
        return error
    except BrokenError:
        raise
    except Exception as error:
        raise BrokenError(f"raises {error!r:.300}, not a KlingError") from error


def _outcome(answer: Answer, response: HttpResponse, said: Any) -> str:
    _check_allowance(response)
    if isinstance(said, KlingError):
        check_error(said, response, "error")
        again = error_from(json.loads(told_of(said)))
        claim(again.to_dict() == said.to_dict(), "error: a journal does not give it back")
        claim(said.gateway == answer.gateway, f"error: names the gateway {said.gateway!r}")
    if answer.talk.startswith("submit"):
        return _submitted(answer, response, said)
    if isinstance(said, KlingError):
        return "unreadable" if isinstance(said, ProtocolError) else "refused"
    if answer.talk == "poll":
        return _looked(answer, said)
    if answer.talk == "balance":
        check_balance(said, "balance")
        return "told"
    if answer.talk == "upload":
        check_text(said, "upload: the URL", MAX_URL)
        return "told"
    if answer.talk == "find" and said is not None:
        check_accepted(said, "find")
    return "told"


def _check_allowance(response: HttpResponse) -> None:
    left = allowance(response.headers, NOW)
    claim(left is None or (left.remaining >= 0 and (left.reset_after or 0) >= 0), f"allowance: reads {left!r:.80}")


# ---- submits


def _submitted(answer: Answer, response: HttpResponse, said: Any) -> str:
    fate = decide(said, sent=True, answer=response).fate
    if isinstance(said, KlingError):
        _check_fate(answer, response, said, fate)
        return str(fate.value)
    check_accepted(said, "submit")
    snapshot = said.snapshot or Snapshot(said.task_id, Status.IN_PROGRESS)
    _check_becoming(answer.gateway, snapshot)
    return "accepted" if fate is Fate.ACCEPTED else f"accepted, {fate.value}"


def _check_fate(answer: Answer, response: HttpResponse, error: KlingError, fate: Fate) -> None:
    """Check that nothing is called undone where nobody can know that."""
    for problem in _overstated(answer.gateway, response, error, fate):
        claim(False, f"submit: {error!r:.200} is {fate.value}, {problem}")


def _overstated(gateway: str, response: HttpResponse, error: KlingError, fate: Fate) -> Iterator[str]:
    """Yield what an answer says against the fate that was read in it."""
    status = response.status
    yes = 200 <= status < 300
    documented = any(words in response.body for words in _DOCUMENTED.get(gateway, ()))
    if not (yes or 400 <= status < 500 or documented):
        # The decision believes no such answer; the adapter must not need that.
        if not isinstance(error, (GatewayUnavailableError, ProtocolError)):
            yield f"and read from HTTP {status}"
        if error.charged != "unknown" or fate is not Fate.IN_DOUBT:
            yield f"after HTTP {status}"
    if fate is Fate.IN_DOUBT:
        return
    body = _read(response.body)
    if not isinstance(body, dict):
        if yes:
            yield "after an answer that is none"
        return
    data = record(body.get("data"))
    named = [place.get(name) for place in (data, body) for name in ("task_id", "job_id")]
    tasks = [name for name in named if is_task_id(name)]
    if tasks:
        yield f"and the answer names the task {tasks[0]}"
    if yes and not {"error", "success", "code"} & set(body):
        yield "and the answer says nothing of the kind"


def _read(body: bytes) -> Any:
    try:
        return read_json(body)
    except ProtocolError:
        return None


# ---- looks


def _looked(answer: Answer, found: Any) -> str:
    asked = ASKED[answer.gateway]
    check_found(found, asked, "poll")
    snapshot: Snapshot = found[asked]
    _check_becoming(answer.gateway, snapshot)
    own, bare = _ids(answer.body)
    if snapshot.named:
        claim(asked in own | bare, f"poll: says that the answer names the task; it names {sorted(own | bare)}")
    claim(not own or asked in own | bare, f"poll: believes an answer about {sorted(own)}")
    return {Status.SUCCEEDED: "succeeded" if snapshot.urls else "succeeded, no URL"}.get(
        snapshot.status, str(snapshot.status)
    )


def _ids(body: bytes) -> tuple[set[str], set[str]]:
    """Return what an answer names its task by, where the documents put that: as a task's id, and as a bare `id`."""
    told = _read(body)
    top: Mapping[str, Any] = told if isinstance(told, dict) else {}
    data = record(top.get("data"))
    place = data or top
    own, bare = ({str(place[name]) for name in names if place.get(name)} for names in (("task_id", "job_id"), ("id",)))
    return own, bare


def _check_becoming(gateway: str, snapshot: Snapshot) -> None:
    """Check what is kept of a snapshot, and what becomes of it: a video, or an error."""
    claim(
        _depth(dict(snapshot.raw)) <= MAX_DEPTH, f"snapshot: keeps an answer that is {_depth(snapshot.raw)} levels deep"
    )
    claim(len(repr(snapshot.raw)) <= _LONGEST_KEPT, f"snapshot: keeps {len(repr(snapshot.raw))} characters")
    if snapshot.status is Status.SUCCEEDED:
        if snapshot.urls:
            _check_recorded(video_of(snapshot))
        else:
            check_error(no_video(gateway, snapshot, "unknown"), None, "no_video")
    elif snapshot.status is Status.FAILED:
        claim(bool(snapshot.code), "snapshot: failed without a code")
        check_error(generation_failed(gateway, snapshot), None, "failed")


def _depth(value: object) -> int:
    """Return how deep lists and objects are nested."""
    level, deep = [value], 0
    while level := [item for item in level if isinstance(item, (dict, list))]:
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
        deep += 1
    return deep


def _check_recorded(video: Video) -> None:
    """Check that a journal gives a video back as it was, but for the gateway's raw answer."""
    kept = json.dumps(video.to_dict())
    claim(video_from(json.loads(kept)) == evolve(video, raw={}), "video: a journal does not give it back")
    claim(video.credits is None or micros(video.credits) < 2**63, "video: no journal holds its price")
