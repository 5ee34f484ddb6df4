"""Laws of backoff, poll plan, fate and the account."""

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
    CapacityError,
    ConnectionFailedError,
    GatewayUnavailableError,
    InsufficientCreditsError,
    KlingError,
    QuotaExhaustedError,
    RateLimitError,
    SubmissionInDoubtError,
)
from kling_async.flow.account import Account
from kling_async.flow.backoff import SHORTEST, backoff, retry_after
from kling_async.flow.fate import Fate, fate_of
from kling_async.flow.polling import first_look, hazard, next_look, spread
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


@given(plans, st.floats(0, 1e5), st.none() | st.floats(0, 1), st.none() | st.floats(-1e4, 1e4), st.integers(0, 500))
def test_looks_keep_their_bounds(plan, age, progress, eta, missed):
    wait = next_look(plan, age, progress=progress, eta=eta, missed=missed)
    assert plan.minimum <= wait <= plan.maximum
    assert plan.minimum <= first_look(plan, eta) <= plan.maximum
    for jitter in (0.0, 0.5, 1.0):
        assert plan.minimum <= spread(plan, wait, jitter) <= plan.maximum


def test_the_first_look_is_the_users_where_it_is_given():
    assert first_look(PollPlan(first=3), eta=20) == 3
    assert first_look(PollPlan(first=0)) == 0


@given(st.floats(0.01, 10), st.floats(1, 1000))
def test_a_cheaper_look_comes_sooner(price, age):
    wide = {"minimum": 0.001, "maximum": 1e6}
    assert next_look(PollPlan(price=price, **wide), age) <= next_look(PollPlan(price=2 * price, **wide), age)


def test_the_estimate_and_the_progress_of_the_gateway_are_believed_within_bounds():
    plan = PollPlan(minimum=1, maximum=60)
    assert next_look(plan, 30, eta=12) == 12
    assert next_look(plan, 30, progress=0.5) == 30
    assert next_look(plan, 30, eta=-5, progress=0.9) == pytest.approx(30 / 9)
    assert hazard(90) == pytest.approx(1 / 90)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("dedupes", [False, True])
def test_what_may_have_been_accepted_is_never_sent_again_without_a_key(kind, dedupes):
    error = kind("x", charged="unknown")
    fate = fate_of(error, sent=True, dedupes=dedupes)
    if fate is Fate.AGAIN:
        assert dedupes or kind in (RateLimitError, CapacityError)
    if kind in (errors.ResponseLostError, errors.ProtocolError, GatewayUnavailableError, SubmissionInDoubtError):
        assert fate is (Fate.AGAIN if dedupes else Fate.IN_DOUBT)


@pytest.mark.parametrize("kind", CLASSES)
def test_what_was_not_sent_is_never_in_doubt(kind):
    assert fate_of(kind("x"), sent=False, dedupes=False) is not Fate.IN_DOUBT


def test_a_connection_that_failed_is_tried_again_but_not_a_certificate():
    assert fate_of(ConnectionFailedError(code="refused"), sent=False, dedupes=False) is Fate.AGAIN
    assert fate_of(ConnectionFailedError(code="tls"), sent=False, dedupes=False) is Fate.REJECTED


def test_documented_as_not_executed_is_sent_again():
    assert fate_of(GatewayUnavailableError(charged="no"), sent=True, dedupes=False) is Fate.AGAIN


def test_an_indeterminate_result_or_a_contradiction_is_in_doubt_even_with_a_key():
    for code in ("idempotency_result_indeterminate", "contradiction"):
        assert fate_of(GatewayUnavailableError(code=code), sent=True, dedupes=True) is Fate.IN_DOUBT


def test_refusals_of_one_epoch_count_once():
    account = Account(RetryPolicy())
    for _ in range(64):
        account.refused(10.0, 9.9, RateLimitError(), running=0, jitter=1.0)
    assert account.failures == 1
    assert account.paused_until == 10.5


@given(st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(0, 1e9)), max_size=50))
def test_pauses_only_grow_and_are_bounded(events):
    account = Account(RetryPolicy())
    now, paused = 0.0, -math.inf
    for gap, wait in events:
        now += gap
        account.refused(now, now, RateLimitError(retry_after=wait), running=0, jitter=0.5)
        assert account.paused_until >= paused
        assert account.paused_until <= now + 120
        paused = account.paused_until


def test_after_two_refusals_in_a_row_one_probe_goes_alone():
    account = Account(RetryPolicy())
    for at in (1.0, 5.0):
        account.refused(at, at, RateLimitError(), running=0, jitter=0.0)
    assert account.may_submit(100.0, 0, 0)
    assert not account.may_submit(100.0, 1, 0)
    account.accepted(1)
    assert account.may_submit(100.0, 5, 1)


def test_a_429_that_comes_back_while_jobs_run_means_capacity():
    account = Account(RetryPolicy())
    for at in (1.0, 5.0):
        account.refused(at, at, RateLimitError(), running=4, jitter=0.0)
    assert account.level == 4
    assert not account.may_submit(10.0, 0, 4)
    assert account.may_submit(10.0, 0, 3)
    assert not account.may_submit(10.0, 1, 3)
    assert account.may_submit(36.0, 0, 4)


def test_a_gateway_that_says_how_long_to_wait_minds_the_pace():
    account = Account(RetryPolicy())
    for at in (1.0, 5.0):
        account.refused(at, at, RateLimitError(retry_after=1), running=4, jitter=0.0)
    assert account.level is None


def test_probes_that_are_accepted_refute_that_the_gateway_is_full():
    account = Account(RetryPolicy())
    account.refused(1.0, 1.0, CapacityError(), running=4, jitter=0.0)
    assert account.level == 4
    for running in (5, 6, 7):
        account.accepted(running)
    assert account.level is None


def test_probes_at_a_full_gateway_come_less_and_less_often():
    account = Account(RetryPolicy())
    now, probes = 0.0, []
    for _ in range(5):
        account.refused(now, now, CapacityError(), running=4, jitter=0.0)
        probes.append(account.full_until - now)
        now = account.full_until
    assert probes == [30, 60, 120, 120, 120]


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
    assert account.submits_paused_until == 86_400


def test_a_job_as_dear_as_the_refused_one_that_was_sent_later_and_accepted_shows_that_there_is_money():
    account = Account(RetryPolicy())
    dear = Cost(Decimal(200))
    account.could_not_pay(10.0, InsufficientCreditsError(), dear)
    account.accepted(1, dear, sent_at=9.9)  # its answer was only later than the refusal
    account.accepted(2, Cost(Decimal(100)), sent_at=11.0)
    assert account.objection(dear, 12.0) is not None
    account.accepted(3, dear, sent_at=11.0)
    assert account.objection(dear, 12.0) is None
