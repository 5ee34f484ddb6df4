"""The command `kling`. Only click is imported until a command runs, so that help comes at once."""

import os
import sys

NEEDS = "kling needs its extra; install it with: pip install 'kling-async[cli]'"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    fill_standard_streams()
    try:
        import click  # noqa: F401
    except ImportError:
        sys.stderr.write(f"{NEEDS}\n")
        return 2
    from kling_async.cli.app import run

    return run(arguments)


def fill_standard_streams() -> None:
    """Put /dev/null on each standard stream that is closed.

    Otherwise the next socket gets its number, and an event loop that finds 0, 1 or 2 there may abort the process.
    `sys.stdout` and the like stay None, so that what cannot be read or written is still found out.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
