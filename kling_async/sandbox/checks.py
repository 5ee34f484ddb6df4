"""Checks of one field of a submit, shared by the dialects: each returns the value or raises the refusal."""

from collections.abc import Collection, Mapping
from typing import Any

from kling_async.sandbox.jobs import Refusal

RATIOS = ("16:9", "9:16", "1:1")


def refuse(field: str, message: str, reason: str = "INVALID_PARAMETER") -> Refusal:
    """A refusal of one field with HTTP 400."""
    return Refusal(400, message, reason=reason, field=field)


def text(body: Mapping[str, Any], field: str, limit: int | None = None, reason: str = "INVALID_PARAMETER") -> str:
    """A text that is there, not blank and at most `limit` characters long."""
    value = body.get(field)
    if not isinstance(value, str) or not value.strip():
        raise refuse(field, f"{field} is missing or empty", reason)
    if limit is not None and len(value) > limit:
        raise refuse(field, f"{field} has {len(value)} characters, at most {limit} are allowed", reason)
    return value


def optional_text(body: Mapping[str, Any], field: str, limit: int | None = None) -> None:
    """A text, if the field is there; it may be empty."""
    value = body.get(field, "")
    if not isinstance(value, str):
        raise refuse(field, f"{field} must be a string")
    if limit is not None and len(value) > limit:
        raise refuse(field, f"{field} has {len(value)} characters, at most {limit} are allowed")


def number(
    body: Mapping[str, Any],
    field: str,
    bounds: tuple[float, float],
    default: float,
    *,
    whole: bool = False,
    reason: str = "INVALID_PARAMETER",
) -> float:
    """A JSON number (never a quoted one) within `bounds`; `whole` allows integers only."""
    value = body.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise refuse(field, f"{field} must be {'an integer' if whole else 'a number'}, without quotes", reason)
    low, high = bounds
    if not low <= value <= high:
        raise refuse(field, f"{field} must be between {low} and {high}", reason)
    found: float = value
    return found


def choice(body: Mapping[str, Any], field: str, allowed: Collection[object], default: Any) -> Any:
    """One of the allowed values."""
    value = body.get(field, default)
    if isinstance(value, bool) or not isinstance(value, str | int) or value not in allowed:
        raise refuse(field, f"{field} must be one of {', '.join(str(each) for each in allowed)}")
    return value


def flag(body: Mapping[str, Any], field: str, default: bool = False) -> bool:
    """true or false."""
    value = body.get(field, default)
    if not isinstance(value, bool):
        raise refuse(field, f"{field} must be true or false")
    return value


def url(value: object, field: str) -> str:
    """A public address. It is never fetched."""
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        raise refuse(field, f"{field} must be a public http(s) URL")
    return value


def urls(body: Mapping[str, Any], field: str, bounds: tuple[int, int | None]) -> list[str]:
    """A list of public addresses, empty when the field is absent."""
    if field not in body:
        return []
    return [url(item, field) for item in items(body, field, bounds)]


def items(body: Mapping[str, Any], field: str, bounds: tuple[int, int | None]) -> list[Any]:
    """A list with as many items as `bounds` allows."""
    value = body.get(field)
    low, high = bounds
    if not isinstance(value, list) or len(value) < low or (high is not None and len(value) > high):
        raise refuse(field, f"{field} must be a list of {low} to {high or 'any number of'} items")
    return value


def objects(body: Mapping[str, Any], field: str, bounds: tuple[int, int | None]) -> list[dict[str, Any]]:
    """A list of JSON objects."""
    found = items(body, field, bounds)
    if not all(isinstance(item, dict) for item in found):
        raise refuse(field, f"every item of {field} must be an object")
    return found
