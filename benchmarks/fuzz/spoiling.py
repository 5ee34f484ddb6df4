"""Changes to the bytes of an answer, whatever they mean."""

import random
from collections.abc import Callable

from benchmarks.fuzz.tokens import ENCODINGS, PIECES


def spoilt(rng: random.Random, body: bytes, other: bytes) -> bytes:
    """Return the bytes with one to three changes; `other` is the answer that pieces are taken from."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        body = rng.choice(_WAYS)(rng, body, other)
    return body


def _span(rng: random.Random, body: bytes) -> tuple[int, int]:
    start = rng.randint(0, len(body))
    return start, min(len(body), start + rng.choice((1, 1, 2, 4, 8, 16, 64)))


def _flip(rng: random.Random, body: bytes, _: bytes) -> bytes:
    if not body:
        return body
    at = rng.randrange(len(body))
    return body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :]


def _replace(rng: random.Random, body: bytes, _: bytes) -> bytes:
    start, end = _span(rng, body)
    return body[:start] + rng.randbytes(end - start) + body[end:]


def _cut(rng: random.Random, body: bytes, _: bytes) -> bytes:
    return body[: rng.randint(0, len(body))]


def _drop(rng: random.Random, body: bytes, _: bytes) -> bytes:
    start, end = _span(rng, body)
    return body[:start] + body[end:]


def _repeat(rng: random.Random, body: bytes, _: bytes) -> bytes:
    start, end = _span(rng, body)
    return body[:start] + body[start:end] * rng.choice((2, 3, 40, 300)) + body[end:]


def _insert(rng: random.Random, body: bytes, _: bytes) -> bytes:
    at = rng.randint(0, len(body))
    return body[:at] + rng.choice(PIECES) + body[at:]


def _splice(rng: random.Random, body: bytes, other: bytes) -> bytes:
    start, end = _span(rng, other)
    at = rng.randint(0, len(body))
    return body[:at] + other[start:end] + body[at + rng.choice((0, end - start)) :]


def _join(rng: random.Random, body: bytes, other: bytes) -> bytes:
    return body[: rng.randint(0, len(body))] + other[rng.randint(0, len(other)) :]


def _recode(rng: random.Random, body: bytes, _: bytes) -> bytes:
    try:
        return body.decode("utf-8", "replace").encode(rng.choice(ENCODINGS), "replace")
    except ValueError:
        return body


def _surround(rng: random.Random, body: bytes, _: bytes) -> bytes:
    piece = rng.choice(PIECES)
    return piece + body if rng.random() < 0.5 else body + piece


_WAYS: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (
    *(_flip, _flip, _replace, _cut, _drop, _repeat, _insert, _insert, _splice, _join, _recode, _surround),
)
