"""Changes at the places where an answer's values and names stand, made in its text: quick, and free to be no JSON."""

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen

from benchmarks.fuzz.tokens import NAMES, VALUES


@frozen
class Place:
    """Where one value stands in a text, and where its member begins if it has a name (else the same)."""

    start: int
    end: int
    member: int
    name: str | None


def places_in(value: Any) -> tuple[str, tuple[Place, ...]]:
    """Return a value as compact JSON, and the places of all values in it, outer ones before inner ones."""
    pieces: list[str] = []
    found: list[Place] = []
    length = 0

    def put(text: str) -> None:
        nonlocal length
        pieces.append(text)
        length += len(text)

    def write(item: Any, name: str | None = None) -> None:
        member = length
        if name is not None:
            put(f"{json.dumps(name, ensure_ascii=False)}:")
        start = length
        number = len(found)
        found.append(Place(start, start, member, name))  # its end is known later
        if isinstance(item, dict):
            put("{")
            for index, (key, inner) in enumerate(item.items()):
                put("," if index else "")
                write(inner, key)
            put("}")
        elif isinstance(item, list):
            put("[")
            for index, inner in enumerate(item):
                put("," if index else "")
                write(inner)
            put("]")
        else:
            put(json.dumps(item, ensure_ascii=False))
        found[number] = Place(start, length, member, name)

    write(value)
    return "".join(pieces), tuple(found)


def spliced(rng: random.Random, text: str, places: Sequence[Place], others: Sequence[str]) -> str:
    """Return the text with one to four of its values, or their members, changed.

    Args:
        rng: draws.
        text, places: what is changed; see `places_in`.
        others: whole values of other answers, to put in.
    """
    chosen = sorted(rng.choices(places, k=rng.choice((1, 1, 1, 1, 1, 2, 2, 3, 4))), key=lambda place: -place.member)
    limit = len(text)
    for place in chosen:
        if place.end <= limit:  # one place may hold the other; the later one has been changed already
            text = text[: place.member] + _changed(rng, text, place, others) + text[place.end :]
            limit = place.member
    return text


def _changed(rng: random.Random, text: str, place: Place, others: Sequence[str]) -> str:
    """Return a member, or a value without a name, as it becomes."""
    old = text[place.start : place.end]
    name = text[place.member : place.start]
    kind = rng.random()
    if kind < 0.5:
        return name + rng.choice(VALUES)
    if kind < 0.62:
        return name + _wrapped(rng, old)
    if kind < 0.68:
        return name + rng.choice(others)
    if kind < 0.74 and old.startswith('"'):
        return name + _pricked(rng, old)
    if place.name is None:
        return f"{old},{rng.choice(VALUES)}" if kind < 0.9 else f"{rng.choice(VALUES)},{old}"
    if kind < 0.84:
        return f"{_name(rng)}:{old}"
    added = f"{name if kind < 0.92 else _name(rng) + ':'}{rng.choice(VALUES)}"
    return f"{name}{old},{added}" if rng.random() < 0.5 else f"{added},{name}{old}"


def _name(rng: random.Random) -> str:
    return json.dumps(rng.choice(NAMES))


def _wrapped(rng: random.Random, old: str) -> str:
    kind = rng.randrange(7)
    if kind == 0:
        return f"[{old}]"
    if kind == 1:
        return f"[{old},{old}]"
    if kind == 2:
        return f"{{{_name(rng)}:{old}}}"
    if kind == 3:
        return json.dumps(old)
    if kind == 4:
        deep = rng.choice((2, 5, 28, 33, 200))
        return "[" * deep + old + "]" * deep
    if kind == 5:
        deep = rng.choice((2, 5, 28, 33, 200))
        return f"{{{_name(rng)}:" * deep + old + "}" * deep
    return "[" + ",".join([old] * rng.choice((3, 65, 300))) + "]"


_PRICKS = (
    *("\\u0000", "\\ud800", "\\udc00", "\\u202e", "\\u001b[31m", "\\r\\n", "\\n", "\\u2028", "\\u00a0", "\\/", "\\\\"),
    *("\u202e", "\u200b", "é", "\U0001f6a4", "/", "..", "%", " ", "?", "#", "\x7f", "\x85", '\\"', "x" * 200),
)


def _pricked(rng: random.Random, old: str) -> str:
    at = rng.randint(1, len(old) - 1)
    return old[:at] + rng.choice(_PRICKS) + old[at:]


def whole_values(text: str, places: Sequence[Place]) -> Iterator[str]:
    """Yield the values of an answer as text."""
    for place in places:
        yield text[place.start : place.end]
