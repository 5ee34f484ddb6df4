"""A test aid: `KLING_FAILPOINT=name` kills this process, as by `kill -9`, where a job reaches that point.

`KLING_FAILPOINT=name:3` kills it the third time. docs/testing.md lists the names. Unset, a point costs one look at
a variable of this module.
"""

import os
import signal

POINTS = (
    "plan.before-insert",
    "plan.committed",
    "intent.before-commit",
    "intent.committed",
    "submit.waiting",
    "submit.answered",
    "accepted.committed",
    "look.answered",
    "succeeded.committed",
    "download.named",
    "download.half",
    "download.checked",
    "download.renamed",
    "downloaded.committed",
    "migrate.middle",
    "checkpoint.before",
)
"""Every point, in the order of a job's life."""


def _armed() -> tuple[str, int]:
    name, _, times = os.environ.get("KLING_FAILPOINT", "").partition(":")
    return name, int(times) if times.isdecimal() else 1


_name, _left = _armed()


def reach(name: str) -> None:
    """Die here if this point is armed, and it is the time for it."""
    global _left  # noqa: PLW0603 - the one count of this process
    if name != _name:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


def armed(name: str) -> bool:
    """Tell whether this point is armed."""
    return name == _name
