"""Keeps what is logged, as a handler that prints would show it and as one that reports crashes would."""

import logging

from canary import leaks, leaks_of


class Records(logging.Handler):
    """Keeps everything that is logged, and says where in it the key is."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def leaks(self) -> list[str]:
        """Return what a handler that prints, or one that reports crashes with their locals, would tell of the key."""
        plain = logging.Formatter("%(asctime)s %(name)s %(levelname)s %(pathname)s %(funcName)s %(message)s")
        found = []
        for record in self.records:
            hits = leaks(plain.format(record)) + leaks(repr((record.msg, record.args)))
            if record.exc_info and record.exc_info[1] is not None:
                hits += [f"{way}: {each}" for way, forms in leaks_of(record.exc_info[1]).items() for each in forms]
            if hits:
                found.append(f"{record.levelname} {record.name} {record.msg!r}: {sorted(set(hits))}")
        return found

    def lines(self, level: int = logging.DEBUG) -> list[str]:
        """Return what was logged from a level on, tracebacks too, without the time."""
        plain = logging.Formatter("%(levelname)s %(name)s %(message)s")
        return [plain.format(record) for record in self.records if record.levelno >= level]
