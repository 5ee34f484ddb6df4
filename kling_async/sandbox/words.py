"""Ids and timestamps in the shapes that gateways use."""

from datetime import UTC, datetime
from random import Random

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def word(random: Random, length: int, alphabet: str) -> str:
    """A random word."""
    return "".join(random.choices(alphabet, k=length))


def ulid(random: Random, wall: float) -> str:
    """26 characters of Crockford's base 32: 48 bits of milliseconds, 80 random bits."""
    number = (int(wall * 1000) & (2**48 - 1)) << 80 | random.getrandbits(80)
    return "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -5, -5))


def iso(seconds: float) -> str:
    """Unix seconds as "2026-02-05T10:30:00Z"."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
