"""Requests from plain rows of JSON or CSV, and back. Strict: what is not understood is refused, by name."""

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from attrs import fields, has
from cattrs import ClassValidationError, Converter, transform_error
from cattrs.errors import ForbiddenExtraKeysError

from kling_async.errors import Fault, InvalidRequestError, bounded
from kling_async.requests import KINDS, Request, said

NAMING = ("id", "key")
DEFAULT_KIND = "text-to-video"

_converter = Converter(forbid_extra_keys=True, unstructure_fallback_factory=lambda _: lambda value: value)
for _plain in (str, int, float, bool):
    # The classes themselves check every type; cattrs would turn 5 into "5" and "no" into True.
    _converter.register_structure_hook(_plain, lambda value, _: value)


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
        raise InvalidRequestError.of([Fault("row", "INVALID_PARAMETER", f"{bounded(repr(row), 80)} is not an object")])
    cells = {name: value for name, value in row.items() if not (text and value in ("", None))}
    kind = cells.pop("type", DEFAULT_KIND)
    if kind not in KINDS:
        names = ", ".join(KINDS)
        raise InvalidRequestError.of(
            [Fault("type", "INVALID_TYPE", f"{bounded(repr(kind), 80)} is not one of {names}")]
        )
    model = KINDS[kind]
    faults = list(_unknown(cells, kind, model))
    values = {}
    for attribute in fields(model):
        if attribute.name not in cells:
            continue
        value = cells[attribute.name]
        hint = _hints(model)[attribute.name]
        try:
            values[attribute.name] = _structured(_from_text(value, hint, every=text), hint)
        except _Unreadable as wrong:
            faults.append(Fault(attribute.name, wrong.code, wrong.message))
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
        if isinstance(name, int) and not isinstance(name, bool):
            return str(name)
        if not isinstance(name, str) or not name.isprintable() or len(name) > 200:
            shown = bounded(repr(name), 80)
            raise InvalidRequestError.of(
                [Fault(column, "INVALID_PARAMETER", f"{shown} is not a name of at most 200 printable characters")]
            )
        return name
    return None


def _plain_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain_json(item) for item in value]
    return _converter.unstructure(value) if has(type(value)) else value


def _hints(model: type[Request]) -> dict[str, Any]:
    return get_type_hints(model)


def _unknown(cells: Mapping[str, Any], kind: str, model: type[Request]) -> Iterator[Fault]:
    known = {attribute.name for attribute in fields(model)} | set(NAMING)
    everywhere = {attribute.name for other in KINDS.values() for attribute in fields(other)} | {"type"}
    for name in cells:
        if name in known:
            continue
        if name in everywhere:
            yield Fault(name, "INVALID_PARAMETER", f"a {kind} has no {name}")
            continue
        shown = bounded(str(name), 60) if name is not None else "(no name)"
        near = get_close_matches(str(name).lower(), sorted(known | {"type"}), n=1)
        yield Fault(shown, "INVALID_PARAMETER", f"unknown column{f'; did you mean {near[0]!r}?' if near else ''}")


class _Unreadable(Exception):  # noqa: N818 - never leaves this room
    def __init__(self, message: str, code: str = "INVALID_PARAMETER") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def _structured(value: Any, hint: Any) -> Any:
    """Build the `Shot`s and `Subject`s of a list; every other value is left for the request to check."""
    inner = _item_of(hint)
    if inner is None or not has(inner) or not isinstance(value, (list, tuple)):
        return value
    return tuple(_one(item, inner) for item in value)


def _one(item: Any, kind: type) -> Any:
    if not isinstance(item, Mapping):
        return item
    try:
        return _converter.structure(item, kind)
    except (ClassValidationError, InvalidRequestError) as error:
        message, code = _reason(error)
    raise _Unreadable(message, code)


def _reason(error: Exception) -> tuple[str, str]:
    """Say in one line what cattrs, or the class it was building, found."""
    if isinstance(error, InvalidRequestError):
        return error.message, error.code or "INVALID_PARAMETER"
    if isinstance(error, ForbiddenExtraKeysError):
        return f"unknown name {', '.join(sorted(map(str, error.extra_fields)))}", "INVALID_PARAMETER"
    if isinstance(error, ClassValidationError) and error.exceptions:
        return _reason(error.exceptions[0])
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing", "INVALID_PARAMETER"
    return transform_error(error)[0].removesuffix(" @ $"), "INVALID_PARAMETER"


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
        raise _Unreadable(f"{bounded(repr(value), 60)} is not true or false")
    pattern = r"[+-]?\d{1,15}" if kind is int else r"[+-]?\d{1,15}(\.\d{0,15})?"
    if not re.fullmatch(pattern, value, re.ASCII):
        what = "a whole number" if kind is int else "a number"
        raise _Unreadable(f"{bounded(repr(value), 60)} is not {what}")
    return kind(value)


def _listed(value: str, *, plain: bool) -> Any:
    if plain and not value.lstrip().startswith("["):
        return tuple(value.split())
    return _parsed(value, "a list")


def _parsed(value: str, what: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise _Unreadable(f"{bounded(repr(value), 60)} is not {what} in JSON") from None
