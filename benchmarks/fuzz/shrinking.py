"""The smallest answer that breaks the same promise."""

from collections.abc import Iterator

from attrs import evolve

from benchmarks.fuzz.answers import Answer
from benchmarks.fuzz.judging import BrokenError, judge

MOST_TRIES = 3000
SAME = 24
"""So many first characters of two messages make them the same: what follows is of this one answer."""


def breach(answer: Answer) -> str | None:
    """Return the promise that an answer breaks, or None."""
    try:
        judge(answer)
    except BrokenError as broken:
        return str(broken)
    return None


def shrunk(answer: Answer) -> Answer:
    """Return an answer that breaks the same promise with less: fewer headers, a plain status, a shorter body."""
    said = breach(answer)
    if said is None:
        return answer
    tries = 0
    shrinking = True
    while shrinking:
        shrinking = False
        for simpler in _simpler(answer):
            tries += 1
            if (breach(simpler) or "")[:SAME] == said[:SAME]:
                answer, shrinking = simpler, True
                break
            if tries > MOST_TRIES:
                return answer
    return answer


def _simpler(answer: Answer) -> Iterator[Answer]:
    """Yield simpler answers, much simpler ones first."""
    for name in answer.headers:
        yield evolve(answer, headers={other: value for other, value in answer.headers.items() if other != name})
    for status in (200, 400, 500):
        if answer.status not in (200, 400, 500):
            yield evolve(answer, status=status)
    size = len(answer.body) // 2
    while size:
        for start in range(0, len(answer.body), size):
            yield evolve(answer, body=answer.body[:start] + answer.body[start + size :])
        size //= 2
