"""How long to wait before trying again."""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from kling_async.settings import RetryPolicy

SHORTEST = 0.05


def backoff(policy: RetryPolicy, failures: int, jitter: float) -> float:
    """Return seconds to wait after `failures` in a row (1 or more): exponential, with full jitter.

    Args:
        policy: its `initial` and `maximum` bound the wait.
        failures: how often it failed in a row.
        jitter: a random number from 0 to 1.

    Full jitter draws from 0 to the whole delay; below 50 ms it would be a busy loop.
    """
    ceiling = min(policy.maximum, policy.initial * 2.0 ** min(max(failures, 1) - 1, 60))
    return max(min(SHORTEST, ceiling), ceiling * jitter)


def retry_after(text: str | None, now: float) -> float | None:
    """Read a `Retry-After` header (RFC 9110, 10.2.3): seconds, or an HTTP date relative to `now` in Unix seconds.

    Returns None for a header that is missing, negative, not finite or not understood, and for a date that has passed.
    """
    if text is None:
        return None
    text = text.strip()
    try:
        delay = float(text)
    except ValueError:
        delay = _until(text, now)
    return delay if math.isfinite(delay) and delay >= 0 else None


def _until(text: str, now: float) -> float:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return math.nan
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    left = (aware - datetime.fromtimestamp(now, UTC)).total_seconds()
    return left if left > 0 else math.nan
