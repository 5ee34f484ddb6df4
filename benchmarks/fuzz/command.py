"""Hostile answers, as many as wanted: whether every adapter refuses them by name or reads something sound."""

import argparse
import base64
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any

from attrs import define, field, frozen

from benchmarks.figures import table
from benchmarks.fuzz.answers import Answer, Answers
from benchmarks.fuzz.judging import BrokenError, judge
from benchmarks.fuzz.shrinking import SAME, breach, shrunk

AT_ONCE = 10_000
PATIENCE = 60.0
"""Seconds after which an answer counts as one that never comes to its end."""
MOST_SHOWN = 20


@frozen
class Failure:
    """An answer that breaks a promise."""

    number: int
    promise: str
    answer: Answer

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        told = {name: getattr(self.answer, name) for name in ("gateway", "talk", "status")}
        body = base64.b64encode(self.answer.body).decode()
        return {
            "number": self.number,
            "promise": self.promise,
            **told,
            "headers": dict(self.answer.headers),
            "body": body,
        }

    def told(self) -> str:
        """Return it as text."""
        answer = self.answer
        body = (
            repr(answer.body) if len(answer.body) <= 1000 else f"{answer.body[:1000]!r}... ({len(answer.body)} bytes)"
        )
        return (
            f"input {self.number}: {answer.gateway}, {answer.talk}: {self.promise}\n"
            f"    HTTP {answer.status} {dict(answer.headers)!r}\n    {body}"
        )


@define
class Found:
    """What was found.

    Args:
        outcomes: how often, by gateway, conversation and outcome.
        failures: the first answer that breaks each promise, by conversation and promise; broken: how many break one.
        slowest: processor time, number, and what it was.
    """

    inputs: int = 0
    seconds: float = 0.0
    outcomes: Counter[tuple[str, str, str]] = field(factory=Counter)
    failures: dict[tuple[str, str, str], Failure] = field(factory=dict)
    broken: int = 0
    slowest: tuple[float, int, str] = (0.0, 0, "")

    def add(self, other: "Found") -> None:
        """Add what was found elsewhere."""
        self.inputs += other.inputs
        self.seconds += other.seconds
        self.outcomes += other.outcomes
        self.failures = other.failures | self.failures
        self.broken += other.broken
        self.slowest = max(self.slowest, other.slowest)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--inputs", type=int, help="answers to try (default 1000000; quick: 5000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same answers (default 1)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="try one answer of the seed, and show it")
    parser.add_argument("--processes", type=int, default=1, help="how many try at the same time (default 1)")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="write each answer that breaks a promise, as JSON lines"
    )


def run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Try the answers; returns the table and the figures. Ends the program with 1 if a promise is broken."""
    if arguments.only is not None:
        numbers = range(arguments.only, arguments.only + 1)
    else:
        numbers = range(arguments.inputs or (5000 if arguments.quick else 1_000_000))
    begun = time.perf_counter()
    found = tried(arguments.seed, numbers, arguments.processes)
    wall = time.perf_counter() - begun
    failures = found.failures.values()
    if arguments.save is not None and failures:
        arguments.save.write_text("".join(json.dumps(each.to_dict()) + "\n" for each in failures), encoding="ascii")
    text = told(found, arguments.seed, wall)
    if arguments.only is not None:
        whole = Failure(arguments.only, "as it is", Answers(arguments.seed).numbered(arguments.only))
        text += f"\n\n{whole.told()}"
    if failures:
        raise SystemExit(text)
    return text, figures(found, arguments.seed, wall)


def tried(seed: int, numbers: Sequence[int], processes: int = 1) -> Found:
    """Try answers, in several processes where that is wanted."""
    parts = _parts(numbers)
    some = partial(_watched, seed)
    found = Found()
    if processes == 1:
        for part in parts:
            found.add(some(part))
        return found
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for other in pool.map(some, parts):
            found.add(other)
    return found


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), AT_ONCE):
        yield numbers[start : start + AT_ONCE]


def _watched(seed: int, numbers: Sequence[int]) -> Found:
    with _bell():
        return judged(Answers(seed), numbers, each=partial(signal.setitimer, signal.ITIMER_REAL, PATIENCE))


@contextmanager
def _bell() -> Iterator[None]:
    """Let an answer that never comes to its end be named, instead of waiting for it."""

    def ring(_: int, __: FrameType | None) -> None:
        raise BrokenError("does not come to its end")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judged(answers: Answers, numbers: Sequence[int], each: Any = lambda: None) -> Found:
    """Judge answers one after the other; `each` is called before each of them."""
    found = Found(inputs=len(numbers))
    begun = time.thread_time()
    for number, answer in answers(numbers):
        each()
        try:
            verdict = judge(answer)
        except BrokenError as broken:
            _note(found, number, answer, str(broken))
        else:
            found.outcomes[answer.gateway, answer.talk, verdict.outcome] += 1
            if verdict.seconds > found.slowest[0]:
                what = f"{answer.gateway}, {answer.talk}, HTTP {answer.status}, {len(answer.body)} bytes"
                found.slowest = (verdict.seconds, number, f"{what}: {verdict.outcome}")
    found.seconds = time.thread_time() - begun
    return found


def _note(found: Found, number: int, answer: Answer, promise: str) -> None:
    found.broken += 1
    kind = (answer.gateway, answer.talk, promise[:SAME])
    if kind not in found.failures and len(found.failures) < MOST_SHOWN:
        small = shrunk(answer)
        found.failures[kind] = Failure(number, breach(small) or promise, small)


def told(found: Found, seed: int, wall: float) -> str:
    """Return what was found as text."""
    seconds, number, words = found.slowest
    pace, own = (found.inputs / max(spent, 1e-9) for spent in (wall, found.seconds))
    lines = [
        f"fuzz: {found.inputs:,} answers of seed {seed}, {pace:,.0f} a second ({own:,.0f} of processor time)",
        f"slowest: {1000 * seconds:.1f} ms, input {number}: {words}",
        _outcomes(found),
    ]
    if found.broken:
        lines.append(f"{found.broken:,} answers break a promise; the smallest of each kind:")
        lines += [each.told() for each in islice(found.failures.values(), MOST_SHOWN)]
    return "\n\n".join(lines)


def _outcomes(found: Found) -> str:
    """Return the table of outcomes: a row for each conversation, a column for each outcome."""
    names = sorted({outcome for _, _, outcome in found.outcomes})
    rows = [["", *names]]
    for gateway, talk in sorted({(gateway, talk) for gateway, talk, _ in found.outcomes}):
        rows.append([f"{gateway} {talk}", *(f"{found.outcomes[gateway, talk, name]:,}" for name in names)])
    return table(rows)


def figures(found: Found, seed: int, wall: float) -> dict[str, Any]:
    """Return the figures as JSON can hold them."""
    outcomes: dict[str, dict[str, int]] = {}
    for (gateway, talk, outcome), times in sorted(found.outcomes.items()):
        outcomes.setdefault(f"{gateway} {talk}", {})[outcome] = times
    seconds, number, _ = found.slowest
    slowest = {"seconds": seconds, "number": number}
    per_second = found.inputs / max(wall, 1e-9)
    return {"inputs": found.inputs, "seed": seed, "per_second": per_second, "slowest": slowest, "outcomes": outcomes}
