"""The command `kling`. Only click is imported until a command runs, so that help comes at once."""

import sys

NEEDS = "kling needs its extra; install it with: pip install 'kling-async[cli]'"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        import click  # noqa: F401
    except ImportError:
        sys.stderr.write(f"{NEEDS}\n")
        return 2
    from kling_async.cli.app import run

    return run(arguments)
