"""The small values a session is set up with: what they take, and what they refuse by name."""

import math
from typing import Any

import attrs
import pytest

from kling_async.errors import ConfigurationError
from kling_async.settings import (
    DownloadPolicy,
    PollPlan,
    RateLimit,
    RetryPolicy,
    Timeouts,
    rate_limits,
    slot_limit,
)

KINDS = (PollPlan, Timeouts, RetryPolicy, DownloadPolicy, RateLimit)
NUMBERS = [
    (kind, attribute.name)
    for kind in KINDS
    for attribute in attrs.fields(kind)
    if attribute.name not in ("on_quota", "allow_private_hosts")
]
NEVER = [True, False, "5", b"5", math.nan, math.inf, -math.inf, -1, [5], {}, 10**400, 10**5000, object(), 1j]


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_a_number_that_is_none_is_refused_by_name(kind: type[Any], name: str) -> None:
    needed = {} if kind is not RateLimit else {"count": 10}
    for wrong in NEVER:
        with pytest.raises(ConfigurationError) as caught:
            kind(**{**needed, name: wrong})
        assert caught.value.field == name
        assert f"{kind.__name__}.{name}" in caught.value.message
        assert len(caught.value.message) < 300


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_none_is_taken_only_where_it_means_something(kind: type[Any], name: str) -> None:
    needed = {} if kind is not RateLimit else {"count": 10}
    if (kind, name) in ((PollPlan, "first"), (Timeouts, "generation"), (RateLimit, "burst")):
        assert getattr(kind(**{**needed, name: None}), name) is None
    else:
        with pytest.raises(ConfigurationError):
            kind(**{**needed, name: None})


@pytest.mark.parametrize("name", ["attempts", "budget"])
def test_a_count_is_whole_and_at_least_one(name: str) -> None:
    for wrong in (0, 1.5, 5.0):
        with pytest.raises(ConfigurationError):
            RetryPolicy(**{name: wrong})
    assert getattr(RetryPolicy(**{name: 1}), name) == 1


def test_the_defaults_are_the_documented_ones() -> None:
    assert PollPlan() == PollPlan(first=None, minimum=1.0, maximum=30.0, price=1.0)
    assert Timeouts() == Timeouts(connect=10, submit=90, poll=30, generation=3600)
    retry = RetryPolicy()
    assert (retry.attempts, retry.initial, retry.maximum, retry.retry_after_cap) == (5, 0.5, 20, 120)
    assert retry.on_quota == "fail"
    download = DownloadPolicy()
    assert (download.stall, download.max_redirects, download.allow_private_hosts) == (30, 5, ())


def test_the_settings_are_frozen() -> None:
    for kind in KINDS:
        value = kind(10) if kind is RateLimit else kind()
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, attrs.fields(kind)[0].name, 1)


def test_a_plan_whose_longest_gap_is_below_its_shortest_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="maximum"):
        PollPlan(minimum=5, maximum=4)
    assert PollPlan(minimum=5, maximum=5).maximum == 5


@pytest.mark.parametrize("wrong", ["Wait", "", None, True, 5, ["wait"]])
def test_a_quota_policy_nobody_knows_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RetryPolicy(on_quota=wrong)
    assert caught.value.field == "on_quota"


def test_hosts_are_kept_in_lower_case() -> None:
    policy = DownloadPolicy(allow_private_hosts=["LOCALHOST:8080", " cdn.internal "])
    assert policy.allow_private_hosts == ("localhost:8080", "cdn.internal")


@pytest.mark.parametrize("wrong", ["localhost", 5, None, [5], [""], ["http://localhost"], [b"localhost"], [None]])
def test_hosts_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DownloadPolicy(allow_private_hosts=wrong)
    assert caught.value.field == "allow_private_hosts"


def test_a_number_of_too_many_digits_to_show_is_refused_all_the_same() -> None:
    for refuse in (rate_limits, slot_limit, RateLimit.parse, lambda value: RetryPolicy(on_quota=value)):
        with pytest.raises(ConfigurationError):
            refuse(-(10**5000))


# ---- rates


@pytest.mark.parametrize(
    ("text", "count", "per"),
    [
        ("10/s", 10, 1),
        ("30/min", 30, 60),
        ("1000/day", 1000, 86400),
        ("20/10s", 20, 10),
        ("0.5/s", 0.5, 1),
        ("5/h", 5, 3600),
        (" 10 / s ", 10, 1),
        ("10/S", 10, 1),
        ("10/seconds", 10, 1),
        ("10/2 minutes", 10, 120),
        ("7/1.5h", 7, 5400),
        ("3/d", 3, 86400),
        ("3/days", 3, 86400),
        ("3/m", 3, 60),
    ],
)
def test_a_rate_is_read(text: str, count: float, per: float) -> None:
    assert RateLimit.parse(text) == RateLimit(count, per)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "10/",
        "/s",
        "ten/s",
        "10/fortnight",
        "10/ms",
        "10/us",
        "10/ss",
        "10/ds",
        "0/s",
        "-1/s",
        "10/0s",
        "1e3/s",
        "nan/s",
        "inf/s",
        "9" * 400 + "/s",
        "10/s; 5/min",
        "10/s\n30/min",
        None,
        5,
        b"10/s",
        ["10/s"],
    ],
)
def test_what_is_no_rate_is_refused(text: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RateLimit.parse(text)
    assert len(caught.value.message) < 200


def test_the_default_burst_is_a_tenth_of_a_second_and_at_least_one() -> None:
    assert RateLimit(5).depth == 1
    assert RateLimit(100).depth == 10
    assert RateLimit(6000, 60).depth == 10
    assert RateLimit(100, burst=3).depth == 3
    assert RateLimit(30, 60).rate == 0.5


@pytest.mark.parametrize(
    ("rate", "limits"),
    [
        (None, ()),
        ("auto", ()),
        ("10/s", (RateLimit(10),)),
        (RateLimit(7), (RateLimit(7),)),
        (["10/s", RateLimit(1000, 86400)], (RateLimit(10), RateLimit(1000, 86400))),
        ([], ()),
    ],
)
def test_a_rate_may_be_said_in_several_ways(rate: Any, limits: tuple[RateLimit, ...]) -> None:
    assert rate_limits(rate) == limits


@pytest.mark.parametrize("rate", [10, 0.5, True, b"10/s", bytearray(b"10/s"), [10], ["10/s", 5], object()])
def test_what_stands_for_no_rate_is_refused(rate: Any) -> None:
    with pytest.raises(ConfigurationError):
        rate_limits(rate)


@pytest.mark.parametrize(("said", "slots"), [(None, None), ("auto", None), (1, 1), (100_000, 100_000)])
def test_concurrency(said: Any, slots: int | None) -> None:
    assert slot_limit(said) == slots


@pytest.mark.parametrize("said", [0, -1, True, False, 1.0, math.nan, "20", b"auto", [], [20], object()])
def test_what_is_no_concurrency_is_refused(said: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        slot_limit(said)
    assert caught.value.field == "concurrency"
