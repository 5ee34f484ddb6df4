"""Requests from plain rows of JSON or CSV, and back. Strict: what is not understood is refused, by name."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache, lru_cache
from itertools import islice
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from attrs import fields, has
from cattrs import ClassValidationError, Converter, transform_error
from cattrs.errors import ForbiddenExtraKeysError

from kling_async.errors import Fault, InvalidRequestError, bounded, shown
from kling_async.requests import KINDS, MAX_ITEMS, Request, said

NAMING = ("id", "key")
DEFAULT_KIND = "text-to-video"
MOST_UNKNOWN = 20
"""Unknown columns of one row that are named."""
MOST_GUESSED = 5
"""Of them, those for which a known one is suggested: that takes much longer than all else about a row."""

_converter = Converter(forbid_extra_keys=True, unstructure_fallback_factory=lambda _: lambda value: value)
for _plain in (str, int, float, bool):
    # The classes themselves check every type; cattrs would turn 5 into "5" and "no" into True.
    _converter.register_structure_hook(_plain, lambda value, _: value)
# And a text, or the names of an object, into a list.
_converter.register_structure_hook_func(lambda hint: hint == tuple[str, ...], lambda value, _: value)


def request_from(row: Mapping[str, Any], *, text: bool = False) -> Request:
    """Read one row strictly.

    Args:
        row: `type` is "text-to-video" (the default), "image-to-video", "reference-to-video" or "video-edit"; the
            other columns are named as the fields of that request; `id` or `key` names the row and is not read here.
        text: the values are cells of a CSV file: numbers and booleans are read from text, an empty cell is a field
            that is left out. Lists may always be given as text: JSON, or separated by blanks.

    Raises:
        InvalidRequestError: with `faults`, one for everything that is wrong, and a readable line for each.
    """
    if not isinstance(row, Mapping):
        raise InvalidRequestError.of([Fault("row", "INVALID_PARAMETER", f"{shown(row)} is not an object")])
    cells = {name: value for name, value in row.items() if not (text and value in ("", None))}
    kind = cells.pop("type", DEFAULT_KIND)
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidRequestError.of([Fault("type", "INVALID_TYPE", f"{shown(kind)} is not one of {', '.join(KINDS)}")])
    model = KINDS[kind]
    faults = list(islice(_unknown(cells, kind, model), MOST_UNKNOWN))
    values = {}
    for attribute in fields(model):
        if attribute.name not in cells:
            continue
        value = cells[attribute.name]
        hint = _hints(kind)[attribute.name]
        try:
            values[attribute.name] = _structured(_from_text(value, hint, every=text), hint)
        except _Unreadable as wrong:
            faults += [Fault(attribute.name, code, message) for code, message in wrong.problems]
    try:
        request = model(**values)
    except InvalidRequestError as error:
        seen = {fault.field for fault in faults}
        faults += [fault for fault in error.faults if fault.field not in seen]
    if faults:
        raise InvalidRequestError.of(faults)
    return request


def request_to(request: Request) -> dict[str, Any]:
    """Return the request as a plain JSON row: `type`, `prompt`, and every field that is not at its default."""
    return {"type": request.kind, **{name: _plain_json(value) for name, value in said(request).items()}}


def row_key(row: Mapping[str, Any]) -> str | None:
    """Return the name that a row gives itself in `key` or `id`, as text, or None.

    Raises `InvalidRequestError` for a name that is not text or a whole number, or holds control characters.
    """
    for column in ("key", "id"):
        name = row.get(column)
        if name is None or name == "":
            continue
        if isinstance(name, int) and not isinstance(name, bool) and abs(name) < 10**18:
            return str(name)
        if not isinstance(name, str) or not name.isprintable() or len(name) > 200:
            what = f"{shown(name)} is not a name of at most 200 printable characters"
            raise InvalidRequestError.of([Fault(column, "INVALID_PARAMETER", what)])
        return name
    return None


def _plain_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain_json(item) for item in value]
    return _converter.unstructure(value) if has(type(value)) else value


@cache
def _hints(kind: str) -> dict[str, Any]:
    return get_type_hints(KINDS[kind])


def _unknown(cells: Mapping[str, Any], kind: str, model: type[Request]) -> Iterator[Fault]:
    known = {attribute.name for attribute in fields(model)} | set(NAMING)
    everywhere = {attribute.name for other in KINDS.values() for attribute in fields(other)} | {"type"}
    guessed = 0
    for name in cells:
        if name in known:
            continue
        if name in everywhere:
            yield Fault(name, "INVALID_PARAMETER", f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} has no {name}")
            continue
        column = bounded(name, 60) if isinstance(name, str) and name.strip() else "(no name)"
        guessed += 1
        near = _nearest(str(name).lower()[:60], frozenset(known | {"type"})) if guessed <= MOST_GUESSED else ""
        yield Fault(column, "INVALID_PARAMETER", f"unknown column{f'; did you mean {near!r}?' if near else ''}")


@lru_cache(maxsize=1024)
def _nearest(name: str, known: frozenset[str]) -> str:
    return next(iter(get_close_matches(name, sorted(known), n=1)), "")


class _Unreadable(Exception):  # noqa: N818 - never leaves this room
    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__(*problems)
        self.problems = problems


def _unreadable(message: str) -> _Unreadable:
    return _Unreadable(("INVALID_PARAMETER", message))


def _structured(value: Any, hint: Any) -> Any:
    """Build the `Shot`s and `Subject`s of a list; every other value is left for the request to check."""
    inner = _item_of(hint)
    if inner is None or not has(inner) or not isinstance(value, (list, tuple)) or len(value) > MAX_ITEMS:
        return value
    built, problems = [], []
    for number, item in enumerate(value, 1):
        if not isinstance(item, Mapping):
            built.append(item)
            continue
        try:
            built.append(_converter.structure(item, inner))
        except (ClassValidationError, InvalidRequestError) as error:
            name = inner.__name__.lower()
            problems += [(code, f"{name} {number}: {message}") for code, message in _reasons(error)]
    if problems:
        raise _Unreadable(*problems)
    return tuple(built)


def _reasons(error: BaseException) -> Iterable[tuple[str, str]]:
    """Say what cattrs, or the class it was building, found: a code and a line for each thing."""
    if isinstance(error, InvalidRequestError):
        return [(fault.code, f"{fault.field}: {fault.message}") for fault in error.faults]
    if isinstance(error, ForbiddenExtraKeysError):
        return [("INVALID_PARAMETER", f"unknown name {shown(name)}") for name in sorted(map(str, error.extra_fields))]
    if isinstance(error, ClassValidationError):
        return [reason for inner in error.exceptions for reason in _reasons(inner)]
    if isinstance(error, KeyError):
        return [("INVALID_PARAMETER", f"{error.args[0]} is missing")]
    return [("INVALID_PARAMETER", transform_error(error)[0].removesuffix(" @ $"))]


def _item_of(hint: Any) -> type | None:
    return get_args(hint)[0] if get_origin(hint) is tuple else None


def _scalar_of(hint: Any) -> Any:
    if isinstance(hint, UnionType):
        return next(kind for kind in get_args(hint) if kind is not type(None))
    return hint


_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


def _from_text(value: Any, hint: Any, *, every: bool) -> Any:
    if not isinstance(value, str):
        return value
    if get_origin(hint) is tuple:
        return _listed(value, plain=_item_of(hint) is str)
    kind = _scalar_of(hint)
    if get_origin(kind) is not None or kind is Mapping:
        return _parsed(value, "an object")
    if not every or kind is str:
        return value
    return _cell(value.strip(), kind)


def _cell(value: str, kind: type) -> Any:
    if kind is bool:
        if value.lower() in _TRUE + _FALSE:
            return value.lower() in _TRUE
        raise _unreadable(f"{shown(value)} is not true or false")
    pattern = r"[+-]?\d{1,15}" if kind is int else r"[+-]?(\d{1,15}(\.\d{0,15})?|\.\d{1,15})"
    if not re.fullmatch(pattern, value, re.ASCII):
        what = "a whole number" if kind is int else "a number"
        raise _unreadable(f"{shown(value)} is not {what}")
    return kind(value)


def _listed(value: str, *, plain: bool) -> Any:
    if plain and not value.lstrip().startswith("["):
        return tuple(value.split())
    return _parsed(value, "a list")


def _parsed(value: str, what: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise _unreadable(f"{shown(value)} is not {what} in JSON") from None
