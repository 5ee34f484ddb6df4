"""Laws of what one account may ask for at all: quotas, keys that are refused, and money."""

import itertools
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_async.errors import AuthenticationError, InsufficientCreditsError, QuotaExhaustedError
from kling_async.flow.account import BROKE_RETRY_SECONDS, QUOTA_LONGEST_SECONDS, QUOTA_RETRY_SECONDS, Account
from kling_async.results import Cost
from kling_async.settings import RetryPolicy


@given(st.none() | st.floats(0, 1e12), st.floats(0, 1e6))
def test_a_used_up_quota_holds_submits_for_a_time_that_ends(asked, now):
    account = Account(RetryPolicy(on_quota="wait"))
    account.exhausted(now, QuotaExhaustedError(retry_after=asked))
    expected = now + min(asked or QUOTA_RETRY_SECONDS, QUOTA_LONGEST_SECONDS)
    assert account.next_submit(now, 0) == expected
    assert account.next_submit(expected + 1, 0) == expected + 1


@given(st.lists(st.tuples(st.floats(0, 1e5), st.none() | st.floats(0, 1e6)), min_size=1, max_size=20))
def test_a_used_up_quota_never_comes_back_sooner_for_being_refused_again(history):
    account, now = Account(RetryPolicy()), 0.0
    for wait, asked in history:
        now += wait
        before = account.quota_until
        account.exhausted(now, QuotaExhaustedError(retry_after=asked))
        assert account.quota_until >= before
        assert account.quota_until <= now + QUOTA_LONGEST_SECONDS


def test_after_a_used_up_quota_one_goes_alone_until_one_is_accepted():
    account = Account(RetryPolicy(on_quota="wait"))
    account.exhausted(0.0, QuotaExhaustedError(retry_after=60.0))
    assert account.next_submit(60.0, 0) == 60.0
    assert account.next_submit(60.0, 1) == math.inf
    account.accepted(sent_at=-1.0)  # it left before the quota was used up
    assert account.next_submit(60.0, 1) == math.inf
    account.accepted(sent_at=60.0)
    assert account.next_submit(60.0, 63) == 60.0


@pytest.mark.parametrize(("on_quota", "fails"), [("fail", True), ("wait", False)])
def test_what_is_asked_for_while_a_quota_is_used_up_fails_or_waits_as_the_user_wants(on_quota, fails):
    account = Account(RetryPolicy(on_quota=on_quota))
    account.exhausted(0.0, QuotaExhaustedError(retry_after=60.0))
    assert (account.objection(None, 59.0) is account.used_up) == fails
    assert account.objection(None, 60.0) is None


@given(st.none() | st.decimals(0, 100, places=2), st.floats(0, 1e9))
def test_a_refused_key_objects_to_everything_for_ever(amount, now):
    account = Account(RetryPolicy())
    account.stopped = AuthenticationError()
    assert account.objects
    account.solvent()
    account.accepted()
    assert account.objection(None if amount is None else Cost(amount), now) is account.stopped


@given(st.integers(1, 6), st.lists(st.floats(0, 400), min_size=1, max_size=40))
def test_an_account_that_could_not_pay_lets_one_try_in_ten_minutes_and_no_more(wants, waits):
    account, now, tried = Account(RetryPolicy()), 0.0, [0.0]
    account.could_not_pay(0.0, InsufficientCreditsError(), None)
    for wait in waits:
        now += wait
        tried += [now for _ in range(wants) if account.objection(Cost(Decimal(1)), now) is None]
    assert all(later - earlier >= BROKE_RETRY_SECONDS for earlier, later in itertools.pairwise(tried))
    assert now - tried[-1] < BROKE_RETRY_SECONDS


def test_a_cheaper_job_in_another_currency_proves_nothing_and_may_not_try():
    account = Account(RetryPolicy())
    account.could_not_pay(0.0, InsufficientCreditsError(), Cost(Decimal(100), "credits"))
    assert account.objection(Cost(Decimal(1), "credits"), 0.0) is None
    assert account.objection(Cost(Decimal(1), "USD"), 0.0) is account.broke


def test_a_sound_account_objects_to_nothing():
    account = Account(RetryPolicy())
    assert not account.objects
    assert account.objection(Cost(Decimal(10**6)), 0.0) is None
    assert account.next_submit(3.0, 63) == 3.0


def test_an_accepted_job_clears_the_failures_in_a_row():
    account = Account(RetryPolicy())
    account.failures = 29
    account.accepted()
    assert (account.failures, account.accepts) == (0, 1)
