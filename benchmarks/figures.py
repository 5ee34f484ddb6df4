"""Medians, ranges and ratios of paired runs, and the tables that show them."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Self

from attrs import asdict, frozen


@frozen
class Spread:
    """The median of some runs, with the smallest and the largest."""

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the spread of at least one value."""
        found = list(values)
        return cls(median(found), min(found), max(found))

    @classmethod
    def of_ratios(cls, values: Sequence[float], base: Sequence[float]) -> Self:
        """Return the spread of the ratios, pair by pair: runs made close together share the machine's mood."""
        return cls.of(value / other for value, other in zip(values, base, strict=True))

    def told(self, digits: int = 2) -> str:
        """Return it as text: "1.23 (1.20 to 1.31)"."""
        return f"{self.median:.{digits}f} ({self.minimum:.{digits}f} to {self.maximum:.{digits}f})"

    def to_dict(self) -> dict[str, float]:
        """Return it as JSON can hold it."""
        return asdict(self)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns of text; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
