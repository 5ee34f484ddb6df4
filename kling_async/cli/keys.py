"""Where the API key comes from, and what is wrong with one that cannot be; no message ever holds it."""

import os
import re
from pathlib import Path

from kling_async.cli.source import UnreadableError, chunks_of
from kling_async.errors import ConfigurationError
from kling_async.secret import Secret

_QUOTES = "\"'`"
_LONGEST = 8192
_LIKE_A_KEY = re.compile(r"[!-~]{16,}")
_LIKE_A_FILE = re.compile(r".*\.[A-Za-z]{1,4}")


def variables(gateway: str) -> tuple[str, str]:
    """Return the environment variables that may hold a gateway's key, the first one first."""
    return f"{gateway.upper().replace('-', '_')}_API_KEY", "KLING_API_KEY"


def found_key(gateway: str) -> tuple[str, str] | None:
    """Return the variable that holds the gateway's key, and what it holds; None where there is none."""
    return next(((name, found.strip()) for name in variables(gateway) if (found := os.environ.get(name))), None)


def key_source(gateway: str, file: str | None) -> str:
    """Return what the key is taken from, in words."""
    if file is not None:
        return f"the file {file}"
    found = found_key(gateway)
    return found[0] if found else "no variable"


def key_problem(key: str) -> str:
    """Return what is wrong with a key, or ""."""
    if not key:
        return "is empty"
    if key[0] in _QUOTES or key[-1] in _QUOTES:
        return "begins or ends with a quotation mark; leave the marks out"
    try:
        Secret(key)
    except ConfigurationError:
        return "cannot be sent: it holds a blank, a line break or a character that is not ASCII, or is too long"
    return ""


def key_for(gateway: str, file: str | None) -> Secret:
    """Return the key. Raises `ConfigurationError`, naming the variable or the file at fault."""
    if file is not None:
        key = _read(file)
    else:
        found = found_key(gateway)
        if found is None:
            names = " or ".join(variables(gateway))
            raise _error(f"no API key for {gateway}: set {names}, or give --api-key-file FILE")
        key = found[1]
    problem = key_problem(key)
    if not problem:
        return Secret(key)
    key, found = "", None  # so that no traceback with locals shows it
    raise _error(f"the API key in {key_source(gateway, file)} {problem}")


def _read(file: str) -> str:
    found = b""
    try:
        for chunk in chunks_of(Path(file)):
            found += chunk[: _LONGEST + 1]
            if len(found) > _LONGEST:  # a device that never ends; such a key is refused for its length
                break
        return found.decode("latin-1").strip()
    except UnreadableError as error:
        reason = str(error)
        found = b""
    raise _error(f"{_shown(file)} {reason}")


def _shown(file: str) -> str:
    """Name the file, unless what was given may be the key itself."""
    if _LIKE_A_KEY.fullmatch(file) and not _LIKE_A_FILE.fullmatch(file) and not _is_placed(file):
        return "--api-key-file takes the name of a file, not a key; what was given"
    return f"the file {file} of --api-key-file"


def _is_placed(file: str) -> bool:
    """Tell whether a file is there, or the directory that it is said to be in."""
    path = Path(file)
    try:
        return path.exists() or (path.name != file and path.parent.is_dir())
    except (OSError, ValueError):  # too long, say
        return False


def _error(words: str) -> ConfigurationError:
    return ConfigurationError(words, field="api_key")
