"""How an exception that nobody foresaw is logged: what it is and where it arose, in a line, and nothing that it holds.

Its text may quote what a gateway said, and the locals of its frames hold that; a handler that reports crashes would
send them off. So no exception is handed to the log: its text is told at DEBUG, with the key masked.
"""

import logging
from pathlib import PurePath
from traceback import walk_tb

from kling_async.errors import on_one_line, scrub
from kling_async.secret import Secret
from kling_async.traces import unsigned

log = logging.getLogger("kling_async")

FRAMES = 8
LONGEST = 2000


def tell_mishap(what: str, error: BaseException, gateway: object) -> None:
    """Log an exception.

    Args:
        what: the beginning of the line, as in "the adapter kling3api failed".
        error: what was raised.
        gateway: the adapter whose key must not be in the log.
    """
    places = [f"{PurePath(frame.f_code.co_filename).name}:{line}" for frame, line in walk_tb(error.__traceback__)]
    log.error("%s: %s at %s", what, type(error).__name__, " > ".join(places[-FRAMES:]) or "an unknown place")
    if log.isEnabledFor(logging.DEBUG):
        key = getattr(gateway, "api_key", None)
        words = scrub(unsigned(_words(error)[:LONGEST]), key.reveal() if isinstance(key, Secret) else key or "")
        log.debug("%s: %s", what, on_one_line(words, 500))


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - of a stranger's exception
        return "without words"
