"""The small frozen values a session is set up with. Every time is in seconds."""

import re
from collections.abc import Iterable
from typing import Any, Literal

from attrs import field, frozen

from kling_async.errors import ConfigurationError, shown

_UNITS = {
    1.0: "s sec secs second seconds",
    60.0: "m min mins minute minutes",
    3600.0: "h hour hours",
    86400.0: "d day days",
}
_PERIODS = {unit: period for period, units in _UNITS.items() for unit in units.split()}
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)?\s*([a-z]+)\s*", re.IGNORECASE)

_ENDLESS = 1e15


def _number(
    low: float, high: float = _ENDLESS, *, above: bool = False, optional: bool = False, whole: bool = False
) -> Any:
    """Return an attrs validator for a number in a range; a bool, NaN, infinity or text is never a number."""

    def check(instance: Any, attribute: Any, value: Any) -> None:
        if value is None and optional:
            return
        kinds = int if whole else (int, float)
        fits = isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high
        if not fits or (above and value <= low):
            bound = f"above {low:g}" if above else f"{low:g} or more"
            limit = "" if high == _ENDLESS else f" and at most {high:g}"
            kind = "a whole number" if whole else "a number"
            raise ConfigurationError(
                f"{type(instance).__name__}.{attribute.name} must be {kind} {bound}{limit}, not {shown(value)}",
                field=attribute.name,
                stage="validate",
            )

    return check


@frozen
class PollPlan:
    """When to look at a running job.

    Args:
        first: seconds from acceptance to the first look; None (default) lets the library judge.
        minimum: never two looks at one job closer than this (default 1.0).
        maximum: never two looks further apart than this (default 30.0).
        price: how many seconds of waiting one poll is worth (default 1.0); a smaller price looks more often.
    """

    first: float | None = field(default=None, validator=_number(0, optional=True))
    minimum: float = field(default=1.0, validator=_number(0, above=True))
    maximum: float = field(default=30.0, validator=_number(0, above=True))
    price: float = field(default=1.0, validator=_number(0, above=True))

    def __attrs_post_init__(self) -> None:
        if self.maximum < self.minimum:
            raise ConfigurationError(
                f"PollPlan.maximum ({self.maximum:g}) is below PollPlan.minimum ({self.minimum:g})",
                field="maximum",
                stage="validate",
            )


@frozen
class Timeouts:
    """How long to wait for what.

    Args:
        connect: seconds to reach the gateway (default 10).
        submit: the POST's hard deadline, from the first byte to the whole answer (default 90).
        poll: seconds for one look (default 30).
        generation: seconds from acceptance until we stop looking (default 3600); None for no end.
    """

    connect: float = field(default=10.0, validator=_number(0, above=True))
    submit: float = field(default=90.0, validator=_number(0, above=True))
    poll: float = field(default=30.0, validator=_number(0, above=True))
    generation: float | None = field(default=3600.0, validator=_number(0, above=True, optional=True))


@frozen
class RetryPolicy:
    """How stubborn to be where trying again cannot cost twice.

    Args:
        attempts: tries of one request that surely was not accepted, with nothing of the account accepted in
            between, before it fails (default 5).
        initial: seconds of the first backoff; it doubles each time and is drawn with full jitter (default 0.5).
        maximum: the longest backoff in seconds (default 20).
        retry_after_cap: the longest `Retry-After` that is obeyed, in seconds (default 120).
        budget: refused tries in a row that the whole account may spend before everything queued fails
            (default 30).
        on_quota: "fail" (default) ends jobs with `QuotaExhaustedError` when a day's quota is used up, "wait"
            waits for the reset.
    """

    attempts: int = field(default=5, validator=_number(1, 1000, whole=True))
    initial: float = field(default=0.5, validator=_number(0, above=True))
    maximum: float = field(default=20.0, validator=_number(0, above=True))
    retry_after_cap: float = field(default=120.0, validator=_number(0))
    budget: int = field(default=30, validator=_number(1, 1_000_000, whole=True))
    on_quota: Literal["fail", "wait"] = field(default="fail")

    @on_quota.validator
    def _known(self, attribute: Any, value: Any) -> None:
        if value not in ("fail", "wait"):
            raise ConfigurationError(
                f"RetryPolicy.on_quota must be 'fail' or 'wait', not {shown(value)}", field="on_quota"
            )


def _hosts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(
            f"allow_private_hosts is a list of hosts, not {shown(value)}", field="allow_private_hosts"
        )
    hosts = tuple(value)
    for host in hosts:
        if not isinstance(host, str) or not host.strip() or "/" in host:
            raise ConfigurationError(
                f"allow_private_hosts takes 'host' or 'host:port', not {shown(host)}", field="allow_private_hosts"
            )
    return tuple(host.strip().lower() for host in hosts)


@frozen
class DownloadPolicy:
    """What a download may do.

    Args:
        stall: seconds without a byte before the transfer is taken up again (default 30).
        minimum_speed: bytes per second, on average over `stall` seconds, below which a transfer is too slow
            (default 4096; 0 for no limit).
        max_bytes: the largest file that is accepted (default 4 GiB).
        max_redirects: redirects that are followed, each checked (default 5).
        allow_private_hosts: hosts ("host" or "host:port") that may resolve to addresses that are not public;
            the host and port of `base_url` are allowed by themselves.
    """

    stall: float = field(default=30.0, validator=_number(0, above=True))
    minimum_speed: float = field(default=4096.0, validator=_number(0))
    max_bytes: int = field(default=4 * 1024**3, validator=_number(1, whole=True))
    max_redirects: int = field(default=5, validator=_number(0, 50, whole=True))
    allow_private_hosts: tuple[str, ...] = field(default=(), converter=_hosts)


@frozen
class RateLimit:
    """At most `count` requests in `per` seconds.

    In any window of `per` seconds there are never more than `count` requests beyond the burst.
    A limit for an hour or longer without a burst of its own is a quota: its requests are not spread evenly over the
    window, and any window holds at most `count`.

    Args:
        count: requests per window, above 0.
        per: the window in seconds, above 0 (default 1.0).
        burst: requests that may leave at once after a pause, at least 1; None (default) is a tenth of a
            second's worth, at least 1. The bucket starts with one token.
    """

    count: float = field(validator=_number(0, above=True))
    per: float = field(default=1.0, validator=_number(0, above=True))
    burst: float | None = field(default=None, validator=_number(1, optional=True))

    @property
    def rate(self) -> float:
        """Requests per second in the long run."""
        return self.count / self.per

    @property
    def depth(self) -> float:
        """The burst in force."""
        return max(1.0, self.rate / 10) if self.burst is None else self.burst

    @classmethod
    def parse(cls, text: str) -> "RateLimit":
        """Read "10/s", "30/min", "1000/day" or "20/10s". Raises `ConfigurationError`."""
        match = _RATE.fullmatch(text) if isinstance(text, str) else None
        period = _PERIODS.get(match[3].lower()) if match else None
        if not match or not period or float(match[1]) <= 0 or (match[2] and float(match[2]) <= 0):
            raise ConfigurationError(
                f"{shown(text)} is not a rate; write it as '10/s', '30/min' or '1000/day'",
                field="rate",
                stage="validate",
            )
        return cls(float(match[1]), period * float(match[2] or 1))


Rate = str | RateLimit | Iterable[str | RateLimit] | None


def rate_limits(rate: Rate) -> tuple[RateLimit, ...]:
    """Return the limits that a `rate` argument stands for: none for None, and none of the user's for "auto".

    Raises `ConfigurationError` for anything that is not a rate.
    """
    if rate is None:
        return ()
    if isinstance(rate, str):
        return () if rate == "auto" else (RateLimit.parse(rate),)
    if isinstance(rate, RateLimit):
        return (rate,)
    if isinstance(rate, Iterable) and not isinstance(rate, (bytes, bytearray)):
        return tuple(limit for item in rate for limit in rate_limits(item))
    raise ConfigurationError(f"rate takes '10/s', a RateLimit, a list of them or None, not {shown(rate)}", field="rate")


def positive_seconds(name: str, value: Any) -> float | None:
    """Return a number of seconds above 0, or None. Raises `ConfigurationError` for anything else."""
    sound = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    if value is None or (sound and (value <= _ENDLESS or value == float("inf"))):
        return None if value is None else float(value)
    raise ConfigurationError(f"{name} must be a number of seconds above 0 or None, not {value!r}", field=name)


def slot_limit(concurrency: Any) -> int | None:
    """Return the number of slots that a `concurrency` argument stands for; None for no limit of the user's.

    Raises `ConfigurationError` for anything but a whole number above 0.
    """
    if concurrency is None or concurrency == "auto":
        return None
    if isinstance(concurrency, int) and not isinstance(concurrency, bool) and concurrency >= 1:
        return concurrency
    raise ConfigurationError(
        f"concurrency takes a whole number above 0, 'auto' or None, not {shown(concurrency)}", field="concurrency"
    )
