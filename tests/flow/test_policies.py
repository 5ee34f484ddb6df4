"""Laws of backoff, poll plan and the account."""

import itertools
import math
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from inspect import isclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_async import errors
from kling_async.errors import (
    InsufficientCreditsError,
    KlingError,
    QuotaExhaustedError,
)
from kling_async.flow.account import Account
from kling_async.flow.backoff import SHORTEST, backoff, retry_after
from kling_async.results import Cost
from kling_async.settings import PollPlan, RetryPolicy

CLASSES = [kind for kind in vars(errors).values() if isclass(kind) and issubclass(kind, KlingError)]
policies = st.builds(RetryPolicy, initial=st.floats(0.01, 5), maximum=st.floats(0.1, 100))
plans = st.builds(
    lambda minimum, more, price: PollPlan(minimum=minimum, maximum=minimum + more, price=price),
    st.floats(0.1, 10),
    st.floats(0, 100),
    st.floats(0.01, 100),
)


@given(policies, st.integers(0, 10_000), st.floats(0, 1))
def test_backoff_lies_between_a_busy_loop_and_its_maximum(policy, failures, jitter):
    wait = backoff(policy, failures, jitter)
    assert min(SHORTEST, policy.initial, policy.maximum) <= wait <= policy.maximum
    assert math.isfinite(wait)


@given(policies, st.integers(1, 30))
def test_backoff_doubles_its_ceiling(policy, failures):
    ceiling = backoff(policy, failures, 1.0)
    assert ceiling == pytest.approx(min(policy.maximum, policy.initial * 2 ** (failures - 1)))


@given(st.floats(0, 1e6))
def test_retry_after_in_seconds_is_read(seconds):
    assert retry_after(f" {seconds!r} ", 0.0) == seconds


@given(st.integers(1, 100_000), st.integers(0, 2_000_000_000))
def test_retry_after_as_a_date_is_relative_to_now(ahead, now):
    date = format_datetime(datetime.fromtimestamp(now + ahead, UTC), usegmt=True)
    assert retry_after(date, now) == ahead


@given(st.text())
def test_retry_after_never_raises_and_never_returns_nonsense(text):
    wait = retry_after(text, 1_700_000_000.0)
    assert wait is None or (math.isfinite(wait) and wait >= 0)


@pytest.mark.parametrize(
    "junk", ["-1", "nan", "inf", "-inf", "", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", None, "1e400"]
)
def test_retry_after_that_says_nothing_is_none(junk):
    assert retry_after(junk, 1_700_000_000.0) is None


costs = st.none() | st.builds(Cost, st.decimals(0, 10_000, allow_nan=False, allow_infinity=False, places=2))


@given(costs, costs)
def test_after_a_402_only_what_is_surely_cheaper_may_try(refused, cost):
    account = Account(RetryPolicy())
    account.could_not_pay(0.0, InsufficientCreditsError(), refused)
    allowed = account.objection(cost, 0.0) is None
    assert allowed == (refused is not None and cost is not None and cost.amount < refused.amount)
    account.solvent()
    assert account.objection(cost, 0.0) is None


@given(st.lists(costs, min_size=2, max_size=6))
def test_the_cheapest_refusal_counts(refusals):
    account = Account(RetryPolicy())
    for cost in refusals:
        account.could_not_pay(0.0, InsufficientCreditsError(), cost)
    for one, other in itertools.pairwise(refusals):
        assert account.objection(one, 0.0) is not None
        assert account.objection(other, 0.0) is not None


def test_after_a_while_one_job_may_try_whether_the_account_was_topped_up():
    account = Account(RetryPolicy())
    account.could_not_pay(0.0, InsufficientCreditsError(), None)
    assert account.objection(None, 599.0) is not None
    assert account.objection(None, 600.0) is None
    assert account.objection(None, 600.0) is not None


def test_a_quota_that_claims_to_last_for_ever_is_asked_again_after_a_day():
    account = Account(RetryPolicy())
    account.exhausted(0.0, QuotaExhaustedError(retry_after=1e15))
    assert account.quota_until == 86_400


def test_a_job_as_dear_as_the_refused_one_that_was_sent_later_and_accepted_shows_that_there_is_money():
    account = Account(RetryPolicy())
    dear = Cost(Decimal(200))
    account.could_not_pay(10.0, InsufficientCreditsError(), dear)
    account.accepted(dear, sent_at=9.9)  # its answer was only later than the refusal
    account.accepted(Cost(Decimal(100)), sent_at=11.0)
    assert account.objection(dear, 12.0) is not None
    account.accepted(dear, sent_at=11.0)
    assert account.objection(dear, 12.0) is None
