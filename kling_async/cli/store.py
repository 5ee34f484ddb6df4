"""Where the journals of runs are kept, and which of them a name means."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from kling_async.cli.places import is_directory, is_file
from kling_async.errors import ConfigurationError

ENDING = ".db"


def default_store() -> Path:
    """Return the directory of journals: KLING_STORE, else below XDG_DATA_HOME or ~/.local/share."""
    named = os.environ.get("KLING_STORE")
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME")
    home = Path(data) if data and Path(data).is_absolute() else Path.home() / ".local" / "share"
    return home / "kling" / "runs"


class Store:
    """The journals that `--store` names: one file, or a directory of them.

    Args:
        given: a journal (an existing file, or a name that ends in .db), a directory, or None for the default one.
    """

    def __init__(self, given: str | None = None) -> None:
        path = Path(given) if given else default_store()
        one = bool(given) and not is_directory(path) and (is_file(path) or path.suffix == ENDING)
        self.file = path if one else None
        self.directory = path.parent if one else path

    def journal_for(self, source: str, gateway: str, content: bytes, *, sandbox: bool, address: str = "") -> Path:
        """Return the journal of a job file: the same file, for the same gateway, has the same one.

        Another address than the gateway's documented one has a journal of its own: it may be a simulation.

        What came on stdin is known by its content.
        """
        if self.file is not None:
            return self.file
        place = "-" if source == "-" else str(Path(source).resolve())
        seed = f"{place}\0{gateway}\0{'sandbox' if sandbox else address}".encode("utf-8", "surrogateescape")
        mark = hashlib.sha256(seed + (content if source == "-" else b"")).hexdigest()[:6]
        stem = "stdin" if source == "-" else re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).stem).strip("-.")[:40]
        return self.directory / f"{stem or 'run'}-{'sandbox-' if sandbox else ''}{mark}{ENDING}"

    def latest_for(self, path: Path) -> Path:
        """Return the journal of the latest run of a job file: `--fresh` numbers those after the first."""
        found, number = path, 2
        while is_file(later := path.with_name(f"{path.stem}-{number}{path.suffix}")):
            found, number = later, number + 1
        return found

    def prepare(self) -> None:
        """Make the directory, for its owner only. Raises `ConfigurationError`."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            words = f"the store {self.directory} cannot be made: {error.strerror or type(error).__name__}"
        else:
            return
        raise ConfigurationError(words, field="store")

    def runs(self) -> list[Path]:
        """Return every journal, the one that changed last first. Raises `ConfigurationError`."""
        if self.file is not None:
            return [self.file] if is_file(self.file) else []
        try:
            found = [path for path in self.directory.iterdir() if path.suffix == ENDING and path.is_file()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            words = f"the store {self.directory} cannot be read: {error.strerror or type(error).__name__}"
        else:
            return sorted(found, key=_changed, reverse=True)
        raise ConfigurationError(words, field="store")

    def find(self, name: str | None) -> Path:
        """Return the journal that a name means: a path, a run's name or the unique beginning of one; None: the latest.

        Raises `ConfigurationError` where there is none, or more than one.
        """
        runs = self.runs()
        if name is None:
            if not runs:
                where = self.file or self.directory
                raise ConfigurationError(f"there is no run in {where}; start one with `kling run FILE`", field="run")
            return runs[0]
        if is_file(Path(name)) and (os.sep in name or Path(name).suffix == ENDING):
            return Path(name)
        matching = [path for path in runs if path.stem == name] or [path for path in runs if path.stem.startswith(name)]
        if len(matching) == 1:
            return matching[0]
        raise ConfigurationError(_which(name, matching or runs, several=bool(matching)), field="run")


def is_begun(path: Path) -> bool:
    """Tell whether a journal is there and holds something."""
    return is_file(path) and path.stat().st_size > 0


def _which(name: str, runs: Sequence[Path], *, several: bool) -> str:
    names = ", ".join(path.stem for path in runs[:10])
    if several:
        return f"{name!r} may mean {names}"
    return f"there is no run {name!r}; there {'is ' + names if names else 'are none'}"


def _changed(path: Path) -> float:
    """Return when a journal was last written; its log is written first."""
    times = [0.0]
    for each in (path, path.with_name(f"{path.name}-wal")):
        try:
            told = each.stat()
        except OSError:
            continue
        if told.st_size:  # who only reads leaves an empty log
            times.append(told.st_mtime)
    return max(times)
