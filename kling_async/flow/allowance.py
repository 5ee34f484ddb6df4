"""What a gateway's headers say is left of a limit: `X-RateLimit-Remaining` and its kin, read as claims."""

import math
import re
from collections.abc import Mapping

from attrs import frozen

# The IETF's draft for RateLimit header fields, its forerunners in the field, and the two that count requests alone.
_REMAINING = (
    "x-ratelimit-remaining",
    "ratelimit-remaining",
    "x-rate-limit-remaining",
    "x-ratelimit-remaining-requests",
)
_COMBINED = "ratelimit"
_PART = re.compile(r"\b(r|t|remaining|reset)\s*=\s*(\d{1,15})")
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_EPOCH_SECONDS, _EPOCH_MILLISECONDS = 1e9, 1e12
"""A reset from here on is a time since 1970, and not a number of seconds from now."""


@frozen
class Allowance:
    """What is left of a gateway's limit.

    Args:
        remaining: requests, 0 or more.
        reset_after: seconds until there are more, or None where the gateway does not say.
    """

    remaining: float
    reset_after: float | None = None


def allowance(headers: Mapping[str, str], now: float) -> Allowance | None:
    """Read what is left of the gateway's limit, or None.

    Args:
        headers: of an answer, by lower-case name.
        now: Unix time in seconds, for a reset that is a time.
    """
    for name in _REMAINING:
        if name in headers:
            remaining = _number(headers[name])
            reset = headers.get(name.replace("remaining", "reset"))
            return None if remaining is None else Allowance(remaining, _after(reset, now))
    text = headers.get(_COMBINED, "")
    found = [_policy(part) for part in (text.split(",") if ";" in text else [text])]
    return min((each for each in found if each is not None), key=lambda each: each.remaining, default=None)


def _policy(text: str) -> Allowance | None:
    """Read what is left by one policy of a combined header."""
    parts = {"t" if name == "reset" else name[:1]: float(value) for name, value in _PART.findall(text)}
    return Allowance(parts["r"], parts.get("t")) if "r" in parts else None


def _number(text: str) -> float | None:
    """Return a number that is finite and not negative, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _after(text: str | None, now: float) -> float | None:
    """Return seconds until a reset that is said as seconds, as a time since 1970, or like "6m0s"."""
    if text is None:
        return None
    number = _number(text)
    if number is None:
        parts = _SPAN.findall(text)
        whole = "".join(value + unit for value, unit in parts)
        return sum(float(value) * _SECONDS[unit] for value, unit in parts) if parts and whole == text.strip() else None
    if number >= _EPOCH_MILLISECONDS:
        number /= 1000
    return max(0.0, number - now) if number >= _EPOCH_SECONDS else number
