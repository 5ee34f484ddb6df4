"""The live screen of a run: one bar for the whole, numbers, the last events; at most four redraws a second."""

import contextlib
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kling_async.cli.events import Event
from kling_async.cli.output import hush
from kling_async.cli.tally import Tally
from kling_async.cli.view import Moment, clock, told
from kling_async.cli.words import money, one_line, span
from kling_async.errors import bounded

REDRAW_SECONDS = 0.25
EVENTS_SHOWN = 5
HINT = "Ctrl-C stops new submissions and waits for what is being made"


class Terminal(Console):
    """A console whose end may go away: rich would end the program then."""

    def on_broken_pipe(self) -> None:
        """Let the screen deal with it like with any other error of the terminal."""
        raise BrokenPipeError


@define
class Screen:
    """A live display. Every text from outside is made plain first and is never read as markup.

    Where the terminal goes away, nothing is shown any more, and the run goes on.
    """

    tally: Tally
    console: Console
    title: str = ""
    hint: str = HINT
    downloads: bool = True
    _live: Live | None = field(default=None, init=False)
    _events: deque[tuple[str, str]] = field(factory=lambda: deque(maxlen=EVENTS_SHOWN), init=False)
    _moment: Moment | None = field(default=None, init=False)
    _gone: bool = field(default=False, init=False)

    def begin(self, title: str) -> None:
        """Take the lower part of the terminal."""
        self.title = title
        self._moment = Moment(self.tally.began)
        self._live = Live(
            self._drawn(), console=self.console, auto_refresh=False, redirect_stdout=False, transient=True
        )
        self._shown(lambda live: live.start(refresh=True))

    def take(self, event: Event) -> None:
        """Remember an event for the next redraw."""
        if event.kind in ("accepted", "not_sent") or (event.kind == "succeeded" and self.downloads):
            return
        self._events.appendleft((f"{clock()} {told(event)}", "red" if event.error is not None else "green"))

    def say(self, text: str) -> None:
        """Print a sentence above the live part."""
        self.hint = text
        self.line(text)

    def line(self, text: str) -> bool:
        """Print a line of data above the live part, whole however narrow the terminal is; False if it is gone."""
        if not self._gone:
            try:
                self.console.print(Text(text), soft_wrap=True)
            except (OSError, ValueError):
                self._leave()
        return not self._gone

    def tick(self, moment: Moment) -> None:
        """Redraw, if the last time was long enough ago."""
        if self._live is None or (self._moment and moment.now - self._moment.now < REDRAW_SECONDS):
            return
        self._moment = moment
        self._shown(lambda live: live.update(self._drawn(), refresh=True))

    def end(self) -> None:
        """Leave the terminal as it was."""
        self._shown(Live.stop)
        self._live = None

    def _shown(self, change: Callable[[Live], None]) -> None:
        if self._live is None:
            return
        try:
            change(self._live)
        except (OSError, ValueError):
            self._leave()

    def _leave(self) -> None:
        live, self._live, self._gone = self._live, None, True
        if live is not None:
            with contextlib.suppress(OSError, ValueError):
                live.stop()
        hush(sys.stderr)

    def _drawn(self) -> Any:
        moment = self._moment or Moment(self.tally.began)
        tally = self.tally
        elapsed = span(max(0.0, moment.now - tally.began))
        lines = [_text(f"{self.title}   {elapsed}", "bold"), self._bar(moment), self._numbers(moment)]
        lines += [_text(f" {text}", style) for text, style in self._events]
        # The terminal echoes "^C" behind the last line; a line that wraps there would be left behind.
        lines.append(_text(bounded(f" {one_line(self.hint)}", max(1, self.console.width - 4)), "dim"))
        return Group(*lines)

    def _bar(self, moment: Moment) -> Any:
        tally = self.tally
        left = tally.left(moment.now, moment.slots)
        ahead = f"{span(left)} left" if left is not None else "learning"
        done = _text(f" {tally.ended}/{tally.total}  {ahead}", "")
        if self.console.width < len(done) + 8:
            return done
        grid = Table.grid(expand=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        grid.add_row(ProgressBar(total=max(1, tally.total), completed=tally.ended), done)
        return grid

    def _numbers(self, moment: Moment) -> Text:
        tally = self.tally
        waiting = max(0, tally.total - tally.ended - moment.used)
        parts = [
            f"{tally.counts['succeeded']} done",
            f"{tally.failures - tally.counts['in_doubt']} failed",
            f"{tally.counts['in_doubt']} in doubt" if tally.counts["in_doubt"] else "",
            f"{tally.counts['late']} late" if tally.counts["late"] else "",
            f"{moment.used}/{moment.slots if moment.slots is not None else '-'} slots",
            f"{waiting} waiting",
            f"{moment.downloading} downloading" if moment.downloading else "",
            f"{moment.refused} x 429" if moment.refused else "",
            money(tally.spent),
        ]
        return Text(" " + "   ".join(filter(None, parts)), overflow="fold")


def _text(text: str, style: str) -> Text:
    return Text(one_line(text), style=style, no_wrap=True, overflow="ellipsis")
