"""What stands at a path that somebody named. One that the system does not let us look at is an error, not nothing."""

import stat
from pathlib import Path

from kling_async.errors import ConfigurationError


def is_file(path: Path) -> bool:
    """Tell whether a file stands there. Raises `ConfigurationError`."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_directory(path: Path) -> bool:
    """Tell whether a directory stands there. Raises `ConfigurationError`."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_used(path: Path) -> bool:
    """Tell whether anything stands there, be it a link to nowhere. Raises `ConfigurationError`."""
    return _mode(path, follow=False) is not None


def _mode(path: Path, *, follow: bool = True) -> int | None:
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        words = error.strerror or type(error).__name__
    except ValueError:  # a NUL, or half of a pair
        words = "it is no name of a file"
    raise ConfigurationError(f"{path} cannot be looked at: {words}", field="path", stage="validate")
