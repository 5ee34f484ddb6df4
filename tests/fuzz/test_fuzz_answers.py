"""Twenty thousand hostile answers, the same each time: no adapter breaks a promise, and every line of them is reached.

`python -m benchmarks fuzz` tries a million, and other ones with `--seed`.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from attrs import evolve

from benchmarks.fuzz.answers import GATEWAYS, Answer, Answers, conversations
from benchmarks.fuzz.command import Found, judged, told
from benchmarks.fuzz.judging import BrokenError, judge
from benchmarks.fuzz.shrinking import breach, shrunk
from kling_async import errors, wire
from kling_async.gateways import apiin, apimart, charges, kling3api, klinggenerator, reading, refusals
from kling_async.requests import KINDS

SEED = 20_261_120
INPUTS = 20_000


@pytest.fixture(scope="module")
def found() -> Found:
    return judged(Answers(SEED), range(INPUTS))


def test_no_answer_breaks_a_promise(found: Found) -> None:
    assert not found.failures, told(found, SEED, 1.0)
    assert found.broken == 0
    assert found.outcomes.total() == INPUTS


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_every_outcome_of_every_adapter_is_reached(found: Found, gateway: str) -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    for (name, talk, outcome), times in found.outcomes.items():
        if name == gateway:
            outcomes[talk.split()[0], outcome] += times
    submits = sum(times for (talk, _), times in outcomes.items() if talk == "submit")
    looks = sum(times for (talk, _), times in outcomes.items() if talk == "poll")
    assert submits > 1500 < looks
    assert outcomes["submit", "accepted"] > 0.1 * submits
    assert outcomes["submit", "rejected"] > 0.05 * submits
    assert outcomes["submit", "in doubt"] > 0.1 * submits
    assert outcomes["submit", "again"] > 10
    seen = {name: outcomes["poll", name] for name in ("in_progress", "succeeded", "failed", "refused", "unreadable")}
    assert min(seen.values()) > 0.015 * looks, seen
    assert sum(seen[name] for name in ("in_progress", "succeeded", "failed")) > 0.15 * looks, seen


def test_every_conversation_is_held(found: Found) -> None:
    assert {(gateway, talk) for gateway, talk, _ in found.outcomes} == {
        (gateway, talk) for gateway in GATEWAYS for talk in conversations(gateway)
    }
    assert {talk for talk in conversations("apimart") if talk.startswith("submit")} == {
        f"submit {kind}" for kind in KINDS
    }
    assert {"balance", "upload"} <= set(conversations("apimart"))


def test_an_answer_has_a_seed_and_a_number() -> None:
    forwards = {number: Answers(SEED).numbered(number) for number in range(300)}
    answers = Answers(SEED)
    assert {number: answers.numbered(number) for number in reversed(range(300))} == forwards
    other = Answers(SEED + 1)
    assert sum(other.numbered(number) == answer for number, answer in forwards.items()) < 30


# ---- every line that reads an answer is reached

_ROOMS = (reading, refusals, charges, kling3api, apiin, klinggenerator, apimart)
_ASKING = {"_type", "_body", "estimate", "authorize", "unsupported", "invalid"}
"""Functions that make requests, or refuse to; here only answers are of interest."""


def _functions(code: CodeType) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType) and inner.co_name not in _ASKING:
            yield inner
            yield from _functions(inner)


def _lines(file: str) -> Iterator[int]:
    source = Path(file).read_text(encoding="utf-8")
    words = source.splitlines()
    for code in _functions(compile(source, file, "exec")):
        if code.co_flags & 0x1 == 0:  # the body of a class
            continue
        for _, _, line in code.co_lines():
            if (
                line
                and line != code.co_firstlineno
                and not re.match(r"\s*raise (invalid|unsupported)\(", words[line - 1])
            ):
                yield line


@contextmanager
def _traced(files: set[str], reached: set[tuple[str, int]]) -> Iterator[None]:
    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    before = sys.gettrace()
    sys.settrace(lambda frame, event, _: local if frame.f_code.co_filename in files else None)
    try:
        yield
    finally:
        sys.settrace(before)


def test_every_line_that_reads_an_answer_is_reached() -> None:
    files = {str(room.__file__) for room in _ROOMS}
    reached: set[tuple[str, int]] = set()
    answers = [answer for _, answer in Answers(SEED)(range(8000))]
    with _traced(files, reached):
        for answer in answers:
            judge(answer)
    missed = {f"{Path(file).name}:{line}" for file in files for line in _lines(file) if (file, line) not in reached}
    assert missed == set()


# ---- a breach is found


def _always(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def _any_number(value: Any) -> Any:
    try:
        return Decimal(str(value))
    except ArithmeticError:
        return None


def _everywhere(monkeypatch: pytest.MonkeyPatch, name: str, change: Any) -> None:
    for room in (*_ROOMS, wire, errors):
        if hasattr(room, name):
            monkeypatch.setattr(room, name, change)


BREACHES: Sequence[tuple[str, Any, str]] = [
    ("words", lambda value, limit=2048: value if isinstance(value, str) and value else None, "is not"),
    ("read_json", json.loads, "not a KlingError"),
    ("_too_deep", _always(False), "levels deep"),
    ("_DECODER", json.JSONDecoder(), "is no data for JSON"),
    ("_paired", lambda value: value, "is no data for JSON in UTF-8"),
    ("amount", _any_number, "credits are"),
    ("share", lambda value: float(value) if isinstance(value, (int, float)) else None, "progress is"),
    ("moment", lambda value: value if isinstance(value, str) else None, "not an aware datetime"),
    ("_collect", lambda value, found, depth=0: found.setdefault(value) if isinstance(value, str) else None, "a URL"),
    ("is_task_id", lambda value: isinstance(value, str) and bool(value), "accepts the task id"),
    ("same_task", _always(None), "believes an answer about"),
    ("no_contradiction", _always(None), "and the answer names the task"),
    ("error_class", _always(errors.InvalidRequestError), "read from HTTP"),
]


@pytest.mark.parametrize(("name", "change", "says"), BREACHES, ids=[name for name, _, _ in BREACHES])
def test_an_adapter_that_breaks_a_promise_is_found_out(
    monkeypatch: pytest.MonkeyPatch, name: str, change: Any, says: str
) -> None:
    _everywhere(monkeypatch, name, change)
    promise = next((str(error) for error in _breaches(INPUTS) if says in str(error)), None)
    assert promise is not None


def _breaches(inputs: int) -> Iterator[BrokenError]:
    for _, answer in Answers(SEED)(range(inputs)):
        try:
            judge(answer)
        except BrokenError as error:
            yield error


def test_the_smallest_answer_that_breaks_the_same_promise_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    _everywhere(monkeypatch, "same_task", _always(None))
    large = Answer(
        "kling3api",
        "poll",
        206,
        {"retry-after": "5", "x-request-id": "req-1"},
        json.dumps({"code": 200, "message": "x" * 500, "data": {"status": "SUCCESS", "task_id": "another"}}).encode(),
    )
    small = shrunk(large)
    assert "believes an answer about" in (breach(small) or "")
    assert (small.status, small.headers) == (200, {})
    assert len(small.body) < 50
    assert shrunk(evolve(large, body=b"{}")) == evolve(large, body=b"{}")
