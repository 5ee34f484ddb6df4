"""Which view a run gets: by the flags, and by what stderr is."""

import logging
import os
import sys
from typing import Literal

from attrs import frozen

from kling_async.cli.output import Output, talk
from kling_async.cli.tally import Tally
from kling_async.cli.view import Plain, Silent, View
from kling_async.cli.words import one_line


@frozen(kw_only=True)
class Look:
    """The flags about what is shown.

    Args:
        progress: "auto", "rich", "plain" or "none".
        color: "auto", "always" or "never".
        json: events on stdout.
        quiet: nothing but failures.
        verbose: 1 tells each job's steps, 2 each look at it.
    """

    progress: Literal["auto", "rich", "plain", "none"] = "auto"
    color: Literal["auto", "always", "never"] = "auto"
    json: bool = False
    quiet: bool = False
    verbose: int = 0


def is_terminal(stream: object) -> bool:
    """Tell whether a stream is a terminal; one that is closed or missing is none."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError, OSError):
        return False


def view_for(look: Look, tally: Tally, output: Output) -> View:
    """Return the view for this terminal, and let the output write through it where both share one."""
    kind = look.progress
    if kind == "auto":
        kind = "none" if look.quiet else "rich" if _can_live() and not look.verbose else "plain"
    if look.verbose:
        _log(look.verbose)
    if kind == "rich":
        try:
            return _screen(look, tally, output)
        except ImportError:
            kind = "plain"
    return Plain(tally) if kind == "plain" else Silent()


def _can_live() -> bool:
    return is_terminal(sys.stderr) and os.environ.get("TERM", "") not in ("dumb", "unknown")


def _screen(look: Look, tally: Tally, output: Output) -> View:
    from kling_async.cli.screen import Screen, Terminal

    console = Terminal(
        stderr=True,
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=True if look.progress == "rich" or look.color == "always" else None,
        no_color=True if look.color == "never" else None,
    )
    screen = Screen(tally, console, downloads=not output.urls)
    if is_terminal(sys.stdout):
        output.through = screen.line
    return screen


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        talk(f"{record.levelname.lower()} {one_line(record.getMessage(), 1000)}")


def _log(verbose: int) -> None:
    log = logging.getLogger("kling_async")
    log.setLevel(logging.DEBUG if verbose > 1 else logging.INFO)
    if not any(isinstance(handler, _Lines) for handler in log.handlers):
        log.addHandler(_Lines())
