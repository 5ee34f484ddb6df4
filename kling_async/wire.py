"""Plain values of HTTP: what is asked, what is answered, and a conversation made of both. Nothing here does I/O."""

import json
import math
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, NoReturn, TypeAlias, TypeVar
from urllib.parse import quote

from attrs import field, frozen

from kling_async.errors import ProtocolError, bounded

T = TypeVar("T")

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

MAX_DEPTH = 32
MAX_DIGITS = 30


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@frozen
class Part:
    """One file of a multipart form."""

    name: str
    filename: str
    content_type: str
    data: bytes = field(repr=False)


class Headers(Mapping[str, str]):
    """Header fields that are sent and not shown, since credentials are among them: the repr names them only.

    They are not pickled either.
    """

    __slots__ = ("_told",)

    def __init__(self, fields: Mapping[str, str]) -> None:
        held = dict(fields)
        self._told: Callable[[], dict[str, str]] = lambda: held

    def __getitem__(self, name: str) -> str:
        return self._told()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._told())

    def __len__(self) -> int:
        return len(self._told())

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("header fields are not pickled: credentials may be among them")

    def __copy__(self) -> "Headers":
        return self

    def __deepcopy__(self, memo: Any) -> "Headers":
        return self


@frozen
class HttpRequest:
    """One request, relative to the gateway's base URL; it holds no secret until `Gateway.authorize` adds one.

    Args:
        method: "GET" or "POST".
        path: the documented path, version included; ids in it are percent-encoded with `segment`.
        query: parameters, encoded when the URL is built.
        json: the body, or None for a request without one.
        parts: files of a multipart form, instead of `json`.
        headers: header fields; `authorize` puts the credentials here, so nothing shows what they hold.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(factory=dict)
    json: Mapping[str, Any] | None = None
    parts: tuple[Part, ...] = ()
    headers: Mapping[str, str] = field(factory=dict, converter=Headers, repr=False)

    def url(self, base_url: str) -> str:
        """Return the full URL under `base_url`, with the query percent-encoded."""
        address = base_url.rstrip("/") + self.path
        return f"{address}?{self.query_string()}" if self.query else address

    def query_string(self) -> str:
        """Return the query percent-encoded, without its question mark."""
        return "&".join([f"{segment(name)}={segment(str(value))}" for name, value in self.query.items()])

    def body(self) -> bytes | None:
        """Return the JSON body as UTF-8, or None."""
        if self.json is None:
            return None
        return _ENCODER.encode(self.json).encode()


@frozen
class HttpResponse:
    """One answer.

    Args:
        status: the real HTTP status.
        headers: header fields by lower-case name; left out of the repr, since some echo what was sent.
        body: the bytes, bounded and decompressed.
        retry_after: seconds to wait, from `Retry-After` in either of its forms, or None.
    """

    status: int
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    retry_after: float | None = None

    def json(self) -> JSON:
        """Read the body as JSON; see `read_json`."""
        return read_json(self.body)

    def excerpt(self, limit: int = 512) -> str:
        """Return the beginning of the body as printable text, for error messages."""
        return bounded(self.body[: limit * 4].decode("utf-8", "replace"), limit)


Exchange: TypeAlias = Generator[HttpRequest, HttpResponse, T]
"""A conversation: it yields requests, is sent responses, and returns a value."""


def talk(exchange: Exchange[T], answer: Callable[[HttpRequest], HttpResponse]) -> T:
    """Drive a conversation with a plain function: what a test or a blocking client needs."""
    try:
        request = next(exchange)
        while True:
            request = exchange.send(answer(request))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


_UNRESERVED = re.compile(r"[A-Za-z0-9_.~\-]*")


def segment(text: str) -> str:
    """Return `text` percent-encoded so that it is one segment of a path and nothing else."""
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="")


_TASK_ID = re.compile(r"[A-Za-z0-9\-._~:@!$&'()*+,;=]{1,128}")


def is_task_id(value: object) -> bool:
    """Tell whether a value is a sound task id.

    Letters, digits and ``-._~:@!$&'()*+,;=``, at most 128 of them, and neither "." nor "..".
    """
    return isinstance(value, str) and bool(_TASK_ID.fullmatch(value)) and value not in (".", "..")


# The closing quote is optional and nothing is given back, so that a text without an end is read once, not once a quote.
_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_ALIKE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _too_deep(body: bytes) -> bool:
    """Tell whether brackets are nested too deeply, at the speed of C: a mebibyte of them would hold the loop up."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    left = _TEXTS.sub(b"", body).translate(_ALIKE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):  # each turn takes the innermost level away
        before, left = len(left), left.replace(b"[]", b"")
        if len(left) == before:
            break
    return b"[]" in left or left.count(b"[") > MAX_DEPTH


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> int | None:
    return int(text) if len(text) <= MAX_DIGITS else None


_DECODER = json.JSONDecoder(parse_float=_finite, parse_int=_whole, parse_constant=lambda _: None)


_HALF = re.compile("[\ud800-\udfff]")


def _paired(value: JSON) -> JSON:
    """Return the value with halves of surrogate pairs as their escapes: no UTF-8 holds them."""
    if isinstance(value, str):
        return _HALF.sub(lambda found: ascii(found[0])[1:-1], value)
    if isinstance(value, list):
        return [_paired(item) for item in value]
    if isinstance(value, dict):
        return {_HALF.sub(lambda found: ascii(found[0])[1:-1], name): _paired(item) for name, item in value.items()}
    return value


def read_json(body: bytes) -> JSON:
    """Read JSON that may be hostile: UTF-8 only, at most 32 levels deep, and nothing that could not be written again.

    Numbers that are not finite, or longer than 30 digits, are read as null: a number is a claim, and one absurd
    number must not cost the sound task id beside it. Half of a surrogate pair is read as the six characters that
    stood for it. Of two members of one name the last counts. Raises `ProtocolError` for anything that is not JSON.
    """
    if _too_deep(body):
        raise ProtocolError("the answer is nested too deeply", code="too_deep")
    try:
        value: JSON = _DECODER.decode(body.removeprefix(BOM_UTF8).decode())
        if b"\\ud" in body or b"\\uD" in body:
            value = _paired(value)
    except (ValueError, RecursionError):
        value, readable = None, False
    else:
        readable = True
    if not readable:
        raise ProtocolError(
            "the answer is not JSON", code="not_json", raw=bounded(body[:1024].decode("utf-8", "replace"), 256)
        )
    return value
