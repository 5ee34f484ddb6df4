"""Lenient readers that the adapters share: what gateways say, in any of the spellings seen in the field."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from kling_async.errors import ProtocolError, bounded
from kling_async.results import Status
from kling_async.wire import JSON, is_task_id, read_json

MAX_AMOUNT = Decimal(1_000_000_000)
MAX_URL = 8192
MAX_URLS = 64
MAX_KEPT = 65_536
"""So much of an answer is kept with the video, in bytes or so."""
TOO_LARGE = "[too large to keep]"
_OK_CODES = (200, 0, "200", "0", "success", "ok", "", None)


def is_ok(code: object) -> bool:
    """Tell whether an envelope's `code` means success; a missing one does."""
    return not isinstance(code, bool) and (code.lower() if isinstance(code, str) else code) in _OK_CODES


_STATUSES = {
    Status.IN_PROGRESS: (
        "submitted pending queued queueing queuing waiting in_queue starting created staged not_started not_start "
        "in_progress processing running generating started"
    ),
    Status.SUCCEEDED: "success succeed succeeded completed complete finished done",
    Status.FAILED: "failed fail failure error rejected cancelled canceled aborted cancel expired timeout timed_out",
}
_STATUS_OF = {word: status for status, words in _STATUSES.items() for word in words.split()}


def status_of(word: object) -> Status | None:
    """Return the status a gateway's word stands for, or None for a word nobody knows."""
    if not isinstance(word, str):
        return None
    return _STATUS_OF.get(word.strip().lower().replace("-", "_").replace(" ", "_"))


def mapping(value: object) -> Mapping[str, Any]:
    """Return the value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def record(value: JSON) -> Mapping[str, Any]:
    """Return the object that an envelope's `data` holds: itself, or the first item of a list."""
    if isinstance(value, list) and value:
        return mapping(value[0])
    return mapping(value)


def ids_in(data: Mapping[str, Any], *names: str) -> list[str]:
    """Return what stands under these names as text, `task_id` and `job_id` if none are given."""
    return [str(data[name]) for name in names or ("task_id", "job_id") if data.get(name)]


def is_named(task_id: str, data: Mapping[str, Any]) -> bool:
    """Tell whether an answer names a task under any of the names that a gateway may have for its id."""
    return task_id in ids_in(data, "task_id", "job_id", "id")


def words(value: object, limit: int = 2048) -> str | None:
    """Return a text as one line of bounded, printable characters; None for anything else and for nothing."""
    text = value.strip() if isinstance(value, str) else ""
    return bounded(" ".join(text[: 2 * limit + 2].splitlines()), limit) if text else None


def _number(value: object) -> Decimal | None:
    """Return a number of 0 or more from a number or numeric text; one of absurd length or fineness is None."""
    if type(value) is int and 0 <= value <= 10**15:
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    text = str(value).strip()
    try:
        number = Decimal(text) if len(text) <= 40 else Decimal("NaN")
    except InvalidOperation:
        return None
    exponent = number.as_tuple().exponent
    return abs(number) if isinstance(exponent, int) and abs(exponent) <= 20 and number >= 0 else None


def amount(value: object) -> Decimal | None:
    """Return an amount of money or credits from 0 to a thousand million; anything else is dropped as None."""
    number = _number(value)
    return number if number is not None and number <= MAX_AMOUNT else None


def seconds(value: object) -> float | None:
    """Return a length in seconds from a number or numeric text, or None."""
    number = amount(value)
    return float(number) if number is not None and number <= 10_000_000 else None


def share(value: object) -> float | None:
    """Return a progress as 0.0 to 1.0 from 45, 45.0, "45" or "45%"; None for anything else."""
    number = amount(value.rstrip("% ") if isinstance(value, str) else value)
    return float(number) / 100 if number is not None and number <= 100 else None


def moment(value: object) -> datetime | None:
    """Return an aware datetime from ISO 8601, Unix seconds or Unix milliseconds; zero times are None."""
    dated = isinstance(value, str) and value[4:5] == "-"
    number = None if dated else _number(value)
    try:
        if number is not None:
            stamp = float(number) / (1000 if number > 100_000_000_000 else 1)
            return datetime.fromtimestamp(stamp, UTC) if stamp > 0 else None
        if not isinstance(value, str):
            return None
        read = datetime.fromisoformat(value.strip())
        read = (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return read if read.year > 1970 else None


def task_id_in(*candidates: object) -> str | None:
    """Return the first sound task id; a whole number counts as its digits.

    Returns None where no candidate says anything. Raises `ProtocolError` (bad_task_id) for an id that could be
    used as a weapon; the raw value is kept, escaped.
    """
    for value in candidates:
        if value is None or value == "":
            continue
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**30:
            return str(value)
        if is_task_id(value):
            return str(value)
        raise ProtocolError(
            "the gateway gave the job an id that cannot be used", code="bad_task_id", raw=bounded(ascii(value), 200)
        )
    return None


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+")
_URL_NAMES = ("url", "video_url", "resource_without_watermark", "resource", "urls", "videos", "video")


def _collect(value: Any, found: dict[str, None], depth: int = 0) -> None:
    if not value or depth > 4 or len(found) >= MAX_URLS:
        return
    if isinstance(value, str):
        text = value.strip()
        if text[:1] in ("[", "{"):
            _collect(document(text), found, depth + 1)
        elif len(text) <= MAX_URL and text.isprintable() and _SCHEME.fullmatch(text):
            found.setdefault(text)
    elif isinstance(value, list):
        for item in value[:MAX_URLS]:
            _collect(item, found, depth + 1)
    elif isinstance(value, dict):
        for name in _URL_NAMES:
            if name in value:
                _collect(value[name], found, depth + 1)


def urls_in(*places: object) -> tuple[str, ...]:
    """Return the URLs in the places where a gateway puts results, in their order, each once.

    A place may be a string, a list, a list of objects, or JSON inside a string. Only what the adapter names is
    searched: an answer echoes the request, and the request holds the caller's own URLs.
    """
    found: dict[str, None] = {}
    for place in filter(None, places):
        _collect(place, found)
    return tuple(found)[:MAX_URLS]


def document(text: str) -> JSON:
    """Return the JSON document that a string holds, or None."""
    try:
        return read_json(text.encode("utf-8", "surrogatepass"))
    except ProtocolError:
        return None


def unwrapped(text: str) -> tuple[str | None, str]:
    """Take a reason out of the JSON document that some gateways put inside the message string.

    Returns (code, message); the code is None where the text is a plain sentence.
    """
    if not text.lstrip().startswith("{"):
        return None, text
    read = mapping(document(text))
    inner = mapping(read.get("error")) or read
    message = words(inner.get("message")) or words(read.get("error"))
    if message is None:
        return None, text
    return words(inner.get("status"), 100) or text_code(inner.get("code")), message


def reason_in(*places: object) -> tuple[str | None, str | None]:
    """Return (code, message) from the first place that holds a reason: text, an object, or a list of them."""
    for place in filter(None, places):
        value = place[0] if isinstance(place, list) else place
        if isinstance(value, str) and value.strip() and value.strip().lower() not in ("success", "succeed", "ok"):
            code, message = unwrapped(value)
            return code, words(message)
        if isinstance(value, dict) and value:
            said = words(value.get("message")) or words(value.get("msg")) or words(value.get("detail"))
            inner, message = unwrapped(said) if said else (None, "")
            code = text_code(value.get("code")) or text_code(value.get("type")) or inner
            if is_ok(code) and not message:
                continue
            return code, words(message)
    return None, None


_HTTP_STATUS = re.compile(r"[1-5][0-9]{2}")


def text_code(value: object) -> str | None:
    """Return a code as text; None for an empty one, for 0 and for one that only repeats an HTTP status."""
    if isinstance(value, bool):
        return None
    text = str(value) if isinstance(value, int) else words(value, 100)
    return None if text is None or text == "0" or _HTTP_STATUS.fullmatch(text) else text


MAX_ECHO = 4096


def echo_in(data: Mapping[str, Any], name: str) -> str | None:
    """Return the beginning of the prompt that an answer repeats under a name; it is compared and never shown."""
    said = mapping(data.get(name)).get("prompt")
    return said[:MAX_ECHO] if isinstance(said, str) else None


def kept(status: Status, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a snapshot keeps of an answer: the last one, as far as it has a sane size; nothing of those before.

    Ten thousand jobs may end at once, and each of their answers may be as large as any that is read. A part that is
    too large is named all the same.
    """
    if not status.terminal:
        return {}
    if _weight(data) <= MAX_KEPT:
        return data
    left, found = MAX_KEPT, dict[str, Any]()
    for name, value in data.items():
        for part in (value, TOO_LARGE):
            weight = _weight({name: part})
            if weight <= left:
                found[name] = part
                left -= weight
                break
    return found


def _weight(value: object) -> int:
    """Return about how many bytes of memory a value takes, counted no further than is needed."""
    weight, waiting = 0, [value]
    while waiting and weight <= MAX_KEPT:
        item = waiting.pop()
        weight += 64 + (len(item) if isinstance(item, str) else 0)
        if isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
    return weight


def judged(word: object, urls: tuple[str, ...], reason: tuple[str | None, str | None]) -> tuple[Status, str | None]:
    """Return the status, and the failure's code, that a gateway's status word stands for.

    An unknown word is not final: it is a success where a result is there already, else the job goes on.
    A failed job without a code gets its status word as one: FAILED, CANCELLED, EXPIRED.
    """
    status = status_of(word)
    if status is None:
        return (Status.SUCCEEDED if urls else Status.IN_PROGRESS), reason[0]
    if status is Status.FAILED:
        return status, reason[0] or str(word).strip().upper()[:100]
    return status, reason[0]
