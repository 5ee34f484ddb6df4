"""The command's root: near misses are named, and every error becomes one line and an exit code."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import click

INTERRUPTED = 130
USAGE = 2


class KlingGroup(click.Group):
    """A group that knows what its commands may raise."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; an unknown one is refused with the nearest that exists."""
        found = super().get_command(ctx, cmd_name)
        if found is None and not ctx.resilient_parsing and not cmd_name.startswith("-"):
            near = get_close_matches(cmd_name, self.commands, n=1)
            ctx.fail(f"No such command {cmd_name[:60]!r}.{f' Did you mean {near[0]!r}?' if near else ''}")
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command and turn what it raises into an exit code."""
        with _as_exit_codes(ctx):
            return super().invoke(ctx)


@contextlib.contextmanager
def _as_exit_codes(ctx: click.Context) -> Iterator[None]:
    """Say what went wrong in a line, without a traceback; only a bug leaves one."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted; nothing was sent.", err=True)
        ctx.exit(INTERRUPTED)
    except (click.ClickException, click.exceptions.Exit):
        raise
    except Exception as error:
        from kling_async.errors import KlingError

        if not isinstance(error, KlingError):
            raise
        from kling_async.cli.codes import code_of_error
        from kling_async.cli.output import talk
        from kling_async.cli.words import one_line

        talk(f"kling: {one_line(error, 500)}")
        ctx.exit(code_of_error(error))


def told_of_stdout(error: OSError) -> bool:
    """Say that stdout cannot be written, if that is what the error is about: help and version, which click writes."""
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    if "echo" not in frames:
        return False
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())  # so that the interpreter's last flush does not complain
        os.close(nothing)
    click.echo(f"stdout cannot be written: {error.strerror or type(error).__name__}", err=True)
    return True
