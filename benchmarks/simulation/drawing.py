"""Drawings of figures as SVG: a row for each setting, a dot for each client, a column for each measure."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from attrs import frozen

COLOURS = ("#000000", "#888888", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LEFT, WIDTH, GAP, TOP, LINE = 190, 330, 40, 70, 6
"""Pixels: the names of the rows, a column, the space between columns, the head, and a client's line in a row."""
FONT = 'font-family="sans-serif" font-size="11"'
FINE, COARSE = (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 10.0)
"""Marks of each power of ten on a short scale, and on a long one."""


@frozen
class Column:
    """One measure, drawn on a logarithmic scale.

    Args:
        title: what it is.
        values: by client and row; what is missing or not a number is not drawn.
        least: where the scale begins; smaller values are drawn there.
    """

    title: str
    values: Mapping[str, Mapping[str, float]]
    least: float

    @property
    def most(self) -> float:
        """Where the scale ends."""
        found = [value for row in self.values.values() for value in row.values() if math.isfinite(value)]
        return max([2 * self.least, *(1.1 * value for value in found)])

    def place(self, value: float) -> float:
        """Return how far along the scale a value stands, from 0 to 1."""
        return math.log(max(value, self.least) / self.least) / math.log(self.most / self.least)

    def ticks(self) -> list[float]:
        """Return the values at which the scale is marked."""
        powers = range(math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1)
        ticks = FINE if self.most < 30 * self.least else COARSE
        found = sorted({tick * 10.0**power for power in powers for tick in ticks})
        return [value for value in found if self.least * 0.999 <= value <= self.most]


def drawing(title: str, clients: Mapping[str, str], rows: Sequence[str], columns: Sequence[Column]) -> str:
    """Return an SVG document.

    Args:
        title: what is shown.
        clients: how each client is called.
        rows: the settings, from above.
        columns: the measures, from the left.
    """
    tall = LINE * (len(clients) + 2)
    bottom = TOP + tall * len(rows)
    height = bottom + 40 + 16 * len(clients)
    width = LEFT + len(columns) * (WIDTH + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {FONT}>',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(10, 20, title, 'font-size="14"'),
    ]
    for number, row in enumerate(rows):
        middle = TOP + tall * number + tall / 2
        if number % 2 == 0:
            parts.append(f'<rect x="0" y="{middle - tall / 2}" width="{width}" height="{tall}" fill="#f4f4f4"/>')
        parts.append(_text(10, middle + 4, row))
    for number, column in enumerate(columns):
        parts += _column(column, LEFT + number * (WIDTH + GAP), list(clients), rows, tall, bottom)
    for number, name in enumerate(clients.values()):
        parts.append(f'<circle cx="16" cy="{bottom + 30 + 16 * number}" r="4" fill="{_colour(number)}"/>')
        parts.append(_text(26, bottom + 34 + 16 * number, name))
    return "\n".join([*parts, "</svg>", ""])


def _column(
    column: Column, left: float, clients: Sequence[str], rows: Sequence[str], tall: float, bottom: float
) -> list[str]:
    parts = [_text(left, TOP - 26, column.title, 'font-weight="bold"')]
    for tick in column.ticks():
        x = left + WIDTH * column.place(tick)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#cccccc"/>')
        parts.append(_text(x, TOP - 6, f"{tick:g}", 'text-anchor="middle" fill="#666666"'))
    for client_number, client in enumerate(clients):
        for row_number, row in enumerate(rows):
            value = column.values.get(client, {}).get(row, math.nan)
            if math.isfinite(value):
                x = left + WIDTH * column.place(value)
                y = TOP + tall * row_number + LINE * (client_number + 1.5)
                what = f"<title>{escape(row)}: {value:.3g}</title>"
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_colour(client_number)}">{what}</circle>')
    return parts


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
