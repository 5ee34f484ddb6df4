"""A key that is easy to find, every form in which it could leak, and every way in which an object could show it."""

import copy
import html
import io
import json
import logging
import pickle
import pprint
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import asdict as plain_dict
from dataclasses import is_dataclass
from typing import Any
from urllib.parse import quote

import attrs
import rich.console
import rich.pretty
import rich.traceback

KEY = 'kAnari3-Vogel/+q7"&<\\Zz-0123456789='
"""A sound key: each of its odd characters is escaped by somebody, in a URL, in JSON, in HTML or in a repr."""
PROMPT = "a paper boat sails down the gutter past the confidential marzipan factory"
"""A prompt of which nothing but the first six words may be in a name."""
PRIVATE = "confidential marzipan"
SIGNATURE = "SECRETSIG-4f1c9a77e2"
"""What makes a signed URL a secret."""


def forms(key: str = KEY) -> dict[str, str]:
    """Return every form of a key that must be nowhere, each under its name."""
    told = {
        "plain": key,
        "its first 8 characters": key[:8],
        "upper case": key.upper(),
        "lower case": key.lower(),
        "percent-encoded": quote(key, safe=""),
        "percent-encoded in lower case": quote(key, safe="").replace("%2B", "%2b").replace("%2F", "%2f"),
        "percent-encoded twice": quote(quote(key, safe=""), safe=""),
        "percent-encoded throughout": "".join(f"%{ord(char):02X}" for char in key),
        "in JSON": json.dumps(key)[1:-1],
        "in JSON within JSON": json.dumps(json.dumps(key))[1:-1],
        "in escapes of JSON": "".join(f"\\u{ord(char):04x}" for char in key),
        "in a repr": repr(key)[1:-1],
        "in HTML": html.escape(key),
        "in entities": "".join(f"&#{ord(char)};" for char in key),
        "in hexadecimal entities": "".join(f"&#x{ord(char):x};" for char in key),
        "as bytes of a repr": "".join(f"\\x{ord(char):02x}" for char in key),
        "hex": key.encode().hex(),
        "HEX": key.encode().hex().upper(),
    }
    for before in ("", "Bearer ", "user:", ":", "x" * 40, "x" * 41):
        for name, encode in (("Base64", b64encode), ("URL-safe Base64", urlsafe_b64encode)):
            told[f"{name} after {before[:7]!r}, {len(before)}"] = encode(f"{before}{key}".encode()).decode()
    return told


def _needles(key: str) -> dict[str, str]:
    """Return what is looked for: the first 8 characters, in every spelling that has one for each character."""
    first = key[:8]
    return {
        "its first 8 characters": first,
        "hex": first.encode().hex(),
        "percent-encoded": "".join(f"%{ord(char):02x}" for char in first),
        "in escapes of JSON": "".join(f"\\u{ord(char):04x}" for char in first),
        "in escapes of a repr": "".join(f"\\x{ord(char):02x}" for char in first),
        "in entities": "".join(f"&#{ord(char)};" for char in first),
        "in hexadecimal entities": "".join(f"&#x{ord(char):x};" for char in first),
    }


def _sure_base64(key: str) -> dict[str, str]:
    """Return what Base64 says of the first 8 characters, at each of the three places where they may begin."""
    found = {}
    for before in range(3):
        text = b64encode(b"\0" * before + key[:8].encode()).decode()
        sure = text[(before * 8 + 5) // 6 : (before + 8) * 8 // 6]
        found[f"Base64, shifted by {before}"] = sure
        found[f"URL-safe Base64, shifted by {before}"] = sure.replace("+", "-").replace("/", "_")
    return found


def leaks(text: str | bytes, key: str = KEY) -> list[str]:
    """Return the forms in which a text holds the key: an empty list is what every test wants."""
    told = text.decode("latin-1") if isinstance(text, bytes) else text
    lower = told.lower()
    found = [name for name, needle in _needles(key).items() if needle.lower() in lower]
    return found + [name for name, needle in _sure_base64(key).items() if needle in told]


def _pickled(value: Any) -> str:
    """Return what the pickles of a value hold; one that is not pickled holds nothing, if its refusal does not."""
    told = []
    for protocol in (0, pickle.HIGHEST_PROTOCOL):
        try:
            told.append(pickle.dumps(value, protocol).decode("latin-1"))
        except Exception as error:
            told.append(f"{error!r} {error}")
    return "".join(told)


def _copied(value: Any) -> str:
    told = []
    for way in (copy.copy, copy.deepcopy):
        try:
            told.append(repr(way(value)))
        except Exception as error:
            told.append(f"{error!r}")
    return "".join(told)


def _as_plain_data(value: Any) -> str:
    told = []
    if attrs.has(type(value)):
        told += [attrs.asdict(value), attrs.astuple(value), attrs.asdict(value, recurse=False)]
    if is_dataclass(value) and not isinstance(value, type):
        told.append(plain_dict(value))
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        told.append(value._asdict())
    if hasattr(value, "to_dict") and not isinstance(value, type):
        told.append(value.to_dict())
    return "".join(_of_containers(each) for each in told)


def _of_containers(value: Any) -> str:
    return f"{value!r} {json.dumps(value, default=str, skipkeys=True)} {pprint.pformat(value)}"


def _variables(value: Any) -> str:
    """Return the variables and slots of a value, private ones too, as `vars` and debuggers show them."""
    told = [repr(getattr(value, "__dict__", {}))]
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else slots
        told += [repr(getattr(value, name, None)) for name in names]
    return "".join(told)


def console() -> rich.console.Console:
    """Return a wide console that writes into a text."""
    return rich.console.Console(file=io.StringIO(), width=2000, color_system=None, legacy_windows=False)


def _printed(show: Callable[[rich.console.Console], object]) -> str:
    into = console()
    show(into)
    return into.file.getvalue()  # type: ignore[attr-defined]


def _inspected(value: Any) -> str:
    return _printed(lambda into: rich.inspect(value, console=into, all=True, help=True))


WAYS: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": lambda value: f"{value} {value!s} {value!r} {value!a} {[value]} {[{1: value}]}",
    "percent": lambda value: "%s %r %a" % ((value,) * 3),
    "str.format": "{0} {0!r}".format,
    "json": lambda value: json.dumps({"x": value}, default=str),
    "logging": lambda value: logging.makeLogRecord({"msg": "%s %r", "args": (value, value)}).getMessage(),
    "pickle": _pickled,
    "copy": _copied,
    "plain data": _as_plain_data,
    "variables": _variables,
    "pprint": lambda value: pprint.pformat({"x": value}, width=200),
    "rich.pretty": lambda value: rich.pretty.pretty_repr(value, max_width=400),
    "rich print": lambda value: _printed(lambda into: into.print(value, [value], markup=False)),
    "rich.inspect": _inspected,
}


def shown(value: Any, *, live: bool = False) -> dict[str, list[str]]:
    """Return the ways in which a value shows the key; nobody copies a live one, with its loop and its sockets."""
    found = {name: leaks(way(value)) for name, way in WAYS.items() if not (live and name == "copy")}
    return {name: hits for name, hits in found.items() if hits}


def told_by(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield everything that a traceback, a crash reporter or a logger could show of an exception."""
    kind, trace = type(error), error.__traceback__
    full = traceback.TracebackException(kind, error, trace, capture_locals=True, max_group_width=10**6)
    yield "a traceback with locals", "".join(full.format(chain=True))
    yield "a rich traceback with locals", _rich(kind, error, trace)
    for each in chained(error):
        for name in OF_ERRORS:
            yield f"{name} of {type(each).__name__}", WAYS[name](each)
        yield f"args and notes of {type(each).__name__}", repr((each.args, getattr(each, "__notes__", ())))


OF_ERRORS = ("repr", "str", "json", "pickle", "plain data", "variables", "rich.pretty")


def _rich(kind: type[BaseException], error: BaseException, trace: Any) -> str:
    """Return what `rich` shows of the frames and their locals, without the colours of the code, which take long."""
    shown = rich.traceback.Traceback.extract(
        kind,
        error,
        trace,
        show_locals=True,
        locals_max_length=10_000,
        locals_max_string=10**6,
        locals_hide_dunder=False,
    )
    told = []
    for stack in shown.stacks:
        told += [stack.exc_value, *stack.notes]
        for frame in stack.frames:
            told += [f"{name} = {node}" for name, node in (frame.locals or {}).items()]
    return "\n".join(map(str, told))


def chained(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and all that hang on it: cause, context, the members of a group."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def leaks_of(error: BaseException, key: str = KEY) -> dict[str, list[str]]:
    """Return the ways in which an exception, its frames or its chain hold the key."""
    found = {name: leaks(text, key) for name, text in told_by(error)}
    return {name: hits for name, hits in found.items() if hits}
