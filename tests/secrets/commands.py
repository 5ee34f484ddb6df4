"""The command `kling` in this process, and settings that let a run end at once."""

from click.testing import CliRunner

from kling_async.cli.app import kling

QUICK = (
    *("--rate", "none", "--poll-min", "0.02", "--poll-max", "0.05", "--timeout", "2"),
    *("-j", "none", "--submit-timeout", "5"),
)


def run(*arguments: str, **settings: str) -> str:
    """Run a command and return all that it printed."""
    done = CliRunner(env=settings).invoke(kling, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout + done.stderr
