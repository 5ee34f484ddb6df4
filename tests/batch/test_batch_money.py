"""Money, as the journal keeps it, and the user's limits on it."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kling_async import BudgetExceededError, ConfigurationError, Cost, InsufficientCreditsError
from kling_async.batch.amounts import MICRO, MOST, amount_of, limit_of, micros
from kling_async.batch.limits import JUDGED_FROM, Limits, failure_limit

LONG = st.integers(0, 10**42).map(lambda digits: Decimal(f"{digits}e-30"))
AMOUNTS = st.decimals(0, MOST, allow_nan=False, allow_infinity=False) | LONG
SMALL = st.integers(0, 1000)
BROKE = InsufficientCreditsError("no money")


# Amounts.


@given(st.integers(0, 10**18))
def test_an_amount_comes_back_exactly(micro):
    assert micros(amount_of(micro)) == micro
    assert limit_of("budget", amount_of(micro)) == micro


@given(AMOUNTS)
def test_what_is_reserved_is_rounded_up_and_what_is_allowed_down(amount):
    true = Fraction(amount) * MICRO
    assert true <= micros(amount) < true + 1
    assert true - 1 < limit_of("budget", amount) <= true


@given(st.integers(0, 10**18))
def test_an_amount_is_written_without_zeros_and_without_an_exponent_of_its_own_making(micro):
    text = f"{amount_of(micro):f}"
    assert Fraction(text) == Fraction(micro, MICRO)
    assert not ("." in text and text.endswith("0"))


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_claim_out_of_all_bounds_is_cut_to_what_a_journal_can_hold(amount):
    assert 0 <= micros(amount) <= int(MOST) * MICRO


@given(st.floats(0, 1e9, allow_nan=False))
def test_a_limit_given_as_a_float_means_what_is_written(limit):
    assert limit_of("budget", limit) == int(Decimal(repr(limit)) * MICRO)


@pytest.mark.parametrize("limit", [20_000, "20000", 2e4, Decimal(20_000), Cost(Decimal(20_000))])
def test_a_limit_may_be_any_kind_of_number(limit):
    assert limit_of("budget", limit) == 20_000 * MICRO


@pytest.mark.parametrize(
    "limit",
    [
        *(float("nan"), float("inf"), -1, -0.001, True, False, "much", "", b"5", [5], object()),
        *(10**13, 10**5000, "1e400", Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), MOST + 1),
    ],
    ids=lambda limit: repr(limit)[:20] if not isinstance(limit, int) or limit < 10**100 else "huge",
)
def test_what_is_no_amount_is_no_limit(limit):
    with pytest.raises(ConfigurationError, match="budget must be an amount") as caught:
        limit_of("budget", limit)
    assert caught.value.field == "budget"


def test_no_limit_is_none():
    assert limit_of("budget", None) is None
    assert limit_of("budget", 0) == 0


# Limits.


@given(
    budget=st.none() | SMALL,
    held=SMALL,
    pending=SMALL,
    most=st.none() | SMALL,
    broke=st.none() | SMALL,
    is_broke=st.booleans(),
    estimate=SMALL,
)
def test_the_ceiling_and_the_objection_say_the_same(budget, held, pending, most, broke, is_broke, estimate):
    limits = Limits(budget, held, most, pending=pending)
    if is_broke:
        limits.could_not_pay(BROKE, broke)
    fits = limits.ceiling is None or estimate <= limits.ceiling
    assert (limits.objection(estimate) is None) == fits
    if limits.ceiling is not None:
        assert limits.objection(None) is not None  # nobody knows that an unknown price fits


@pytest.mark.parametrize(
    ("limits", "estimate", "code"),
    [
        (Limits(budget=100, held=60, pending=20), 21, "budget"),
        (Limits(most_per_job=20), 21, "max_cost_per_job"),
        (Limits(budget=100), None, "unknown_price"),
        (Limits(most_per_job=20), None, "unknown_price"),
    ],
)
def test_an_objection_says_which_limit_it_is(limits, estimate, code):
    objection = limits.objection(estimate)
    assert isinstance(objection, BudgetExceededError)
    assert (objection.code, objection.charged) == (code, "no")


def test_without_a_limit_a_price_that_nobody_knows_is_no_objection():
    assert Limits().objection(None) is None


@given(st.lists(st.none() | SMALL, min_size=1), SMALL)
def test_after_a_402_only_what_is_cheaper_than_everything_refused_may_try(refused, estimate):
    limits = Limits()
    for price in refused:
        limits.could_not_pay(BROKE, price)
    cheaper = None not in refused and estimate < min(refused)
    assert (limits.objection(estimate) is None) == cheaper
    assert isinstance(limits.objection(None), InsufficientCreditsError)
    limits.solvent()
    assert limits.objection(estimate) is limits.objection(None) is None


@given(st.integers(1, 30), st.lists(st.booleans(), max_size=60))
def test_a_number_of_failures_ends_the_run_when_it_is_reached(most, ends):
    limits = Limits(failures=most)
    for number, failed in enumerate(ends, 1):
        verdict = limits.judge(failed=failed)
        assert (verdict is not None) == (sum(ends[:number]) >= most)
        assert verdict is None or verdict.code == "max_failures"


@given(st.integers(0, 100), st.lists(st.booleans(), max_size=120))
def test_a_share_of_failures_ends_the_run_when_it_is_exceeded_among_enough_ends(percent, ends):
    _, share = failure_limit(f"{percent}%")
    limits = Limits(share=share)
    for number, failed in enumerate(ends, 1):
        too_many = number >= JUDGED_FROM and sum(ends[:number]) * 100 > percent * number
        assert (limits.judge(failed=failed) is not None) == too_many


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (None, (None, None)),
        (5, (5, None)),
        ("5", (5, None)),
        (" 10% ", (None, 0.1)),
        ("0%", (None, 0.0)),
        ("2.5%", (None, 0.025)),
        ("100%", (None, 1.0)),
    ],
)
def test_max_failures_is_a_number_or_a_share(said, meant):
    assert failure_limit(said) == meant


@pytest.mark.parametrize("said", [0, -1, True, 5.0, 0.05, "0", "-5", "5 %", "%", "101%", "five", "", b"5", "٥", [5]])
def test_what_is_neither_is_refused(said):
    with pytest.raises(ConfigurationError, match="max_failures"):
        failure_limit(said)


class Spending(RuleBasedStateMachine):
    """Jobs are admitted, sent, refused, claimed for, settled and refunded in any order, as a run moves their money."""

    BUDGET = 1000

    def __init__(self):
        super().__init__()
        self.limits = Limits(budget=self.BUDGET)
        self.waiting, self.sent = [], []

    @rule(price=SMALL)
    def admit(self, price):
        if self.limits.objection(price) is None:
            self.limits.pending += price
            self.waiting.append(price)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def send(self, data):
        price = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.limits.held += price
        self.limits.pending -= price
        self.sent.append(price)

    @precondition(lambda self: self.waiting)
    @rule()
    def refuse_unsent(self):
        self.limits.pending -= self.waiting.pop()

    @precondition(lambda self: self.sent)
    @rule(back=st.booleans())
    def take_back(self, back):
        price = self.sent.pop()
        self.limits.held -= price
        if back:
            self.limits.pending += price
            self.waiting.append(price)

    @precondition(lambda self: self.sent)
    @rule(share=st.fractions(0, 1))
    def settle(self, share):
        self.limits.held -= self.sent[-1]
        self.sent[-1] = int(self.sent[-1] * share)
        self.limits.held += self.sent[-1]

    @invariant()
    def the_budget_is_never_overshot(self):
        assert self.limits.held == sum(self.sent)
        assert self.limits.held + self.limits.pending <= self.BUDGET
        assert self.limits.left == self.BUDGET - sum(self.sent) - sum(self.waiting) >= 0


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=40)
