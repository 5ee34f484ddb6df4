"""What a person sees of a run on stderr: nothing, plain lines, or a live screen (see `screen`)."""

from datetime import datetime
from typing import Protocol

from attrs import define, field, frozen

from kling_async.cli.events import Event
from kling_async.cli.output import talk
from kling_async.cli.tally import Tally
from kling_async.cli.words import money, one_line, span

PLAIN_SECONDS = 30.0


@frozen
class Moment:
    """What the session is doing at one moment; see `kling_async.session.Stats`."""

    now: float
    slots: int | None = None
    used: int = 0
    refused: int = 0
    downloading: int = 0


class View(Protocol):
    """Shows a run."""

    def begin(self, title: str) -> None:
        """Show that the run begins."""

    def take(self, event: Event) -> None:
        """Show an event."""

    def say(self, text: str) -> None:
        """Show a sentence."""

    def tick(self, moment: Moment) -> None:
        """Show where the run stands; called a few times a second."""

    def end(self) -> None:
        """Leave the terminal as it was."""


class Silent:
    """Shows nothing but what must be said."""

    def begin(self, title: str) -> None:
        """Show nothing."""

    def take(self, event: Event) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Say it on stderr."""
        talk(text)

    def tick(self, moment: Moment) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Nothing to restore."""


@define
class Plain:
    """A line at the start, one every 30 seconds, one for each failure."""

    tally: Tally
    _next: float = field(default=0.0, init=False)

    def begin(self, title: str) -> None:
        """Say that the run begins."""
        self._next = self.tally.began + PLAIN_SECONDS
        self.say(f"{clock()} {title}")

    def take(self, event: Event) -> None:
        """Say what failed."""
        if event.error is not None and event.kind != "not_sent":
            self.say(f"{clock()} {told(event)}")

    def say(self, text: str) -> None:
        """Say it on stderr."""
        talk(text)

    def tick(self, moment: Moment) -> None:
        """Say every 30 seconds where the run stands."""
        if moment.now < self._next:
            return
        self._next = moment.now + PLAIN_SECONDS
        tally = self.tally
        left = tally.left(moment.now, moment.slots)
        self.say(
            f"{clock()} done={tally.counts['succeeded']}/{tally.total} "
            f"failed={tally.failures - tally.counts['in_doubt']} in_doubt={tally.counts['in_doubt']} "
            f"active={moment.used} 429={moment.refused} spent={tally.spent:f} "
            f"left={span(left) if left is not None else 'learning'}"
        )

    def end(self) -> None:
        """Nothing to restore."""


def clock() -> str:
    """Return the time of day."""
    return f"{datetime.now():%H:%M:%S}"


def told(event: Event) -> str:
    """Return one line about the end of a job."""
    job = event.job
    name = f"row {job.row} {one_line(job.key, 60)}" if job is not None else ""
    if event.kind == "downloaded":
        return f"done   {one_line(event.file or '')}"
    words = event.kind.replace("_", " ")
    if event.error is None:
        cost = f" {money(event.credits)}" if event.credits is not None else ""
        return f"{words} {name}{cost}"
    return f"{words} {name} {why(event)}"


def why(event: Event, limit: int = 200) -> str:
    """Return the code and the gateway's own words, and who pays."""
    error = event.error
    if error is None:
        return ""
    code = one_line(error.code, 60) if error.code else type(error).__name__
    paid = {"no": "not charged", "yes": "charged", "unknown": "may have been charged"}.get(event.charged, "")
    return f"{code}: {one_line(error.message, limit)}{f' ({paid})' if paid else ''}"
