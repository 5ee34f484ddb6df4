"""Options of a benchmark that are lists: "one,two"."""

import argparse
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def names_among(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a reader of names, each of them known."""

    def read(text: str) -> list[str]:
        found = text.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return found

    return read


def listed(known: Iterable[str]) -> str:
    """Return the help for such an option."""
    return f"some of {', '.join(known)} (default all)"


def numbers(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Return a reader of numbers."""

    def read(text: str) -> list[T]:
        return [kind(word) for word in text.split(",")]

    return read
