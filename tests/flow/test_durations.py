"""Laws of the laws of durations, and of learning them."""

import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.flow.durations import (
    BINS,
    EDGES,
    GAP,
    GAP_OF_AGE,
    KINDS,
    MEMORY,
    PRIOR_MEDIAN,
    SURELY,
    Cells,
    Durations,
    Law,
    Learner,
    of_request,
)
from kling_async.flow.polling import Sight, first_look, next_look
from kling_async.requests import TextToVideo
from kling_async.settings import PollPlan

HORIZON = EDGES[-1]
PRICES = st.floats(math.log(0.01), math.log(1000)).map(math.exp)
AGES = st.floats(0, 3) | st.floats(0, math.log(HORIZON * 0.99)).map(math.exp)


def some_law(seed):
    """Return a law of any shape: gaps without an end, peaks, long tails."""
    random = Random(seed)
    level = 10 ** random.uniform(-4, -1)
    hazards = []
    for _ in range(BINS):
        if random.random() < 0.2:
            level = 10 ** random.uniform(-5, -0.5)
        hazards.append(0.0 if random.random() < 0.1 else level)
    return Law(hazards)


laws = st.integers(0, 1_000_000).map(some_law)


def unnoticed(law, seen, age, steps=4000):
    """Return the expected seconds of being ended unnoticed at this age, for a job seen running, by quadrature."""
    step = (age - seen) / steps
    base = law.done(seen)
    whole = sum(law.done(seen + step * (number + 0.5)) - base for number in range(steps)) * step
    return whole / (1 - base)


# A law.


@given(laws, st.lists(AGES | st.floats(0, 1e6), min_size=2))
def test_the_chance_to_have_ended_only_grows_and_is_a_chance(law, ages):
    chances = [law.done(age) for age in sorted(ages)]
    assert chances == sorted(chances)
    assert law.done(0.0) == 0.0
    assert all(0 <= chance <= 1 for chance in chances)


@given(laws, st.floats(0, 1))
def test_the_age_of_a_chance_has_that_chance(law, chance):
    age = law.age_at(chance)
    assert 0 <= age <= HORIZON
    assert law.done(age) == pytest.approx(min(chance, law.done(HORIZON)), abs=1e-6)


@given(laws, AGES, PRICES)
def test_a_look_is_due_after_the_last_one(law, seen, price):
    assert seen <= law.due_at_most(seen, price) <= law.due(seen, price)
    if law.done(seen) < 1 - 1e-5:
        assert law.due(seen, price) <= HORIZON


@given(laws, AGES, PRICES, st.floats(1, 100))
def test_a_dearer_look_is_due_later(law, seen, price, factor):
    assert law.due(seen, price) <= law.due(seen, price * factor) + 1e-6
    assert law.due_at_most(seen, price) <= law.due_at_most(seen, price * factor) + 1e-6


@given(laws, AGES, st.floats(1, 3), PRICES)
def test_who_was_seen_running_later_is_due_later(law, seen, factor, price):
    later = min(seen * factor, HORIZON)
    if law.done(later) > 1 - 1e-5:
        return  # nobody takes so long: it is looked at at once
    assert law.due(seen, price) <= law.due(later, price) + 1e-6 * HORIZON


@settings(max_examples=60)
@given(laws, AGES, PRICES)
def test_a_look_is_due_when_the_expected_time_of_being_ended_unnoticed_reaches_the_price(law, seen, price):
    due = law.due(seen, price)
    if 1 - law.done(seen) < 1e-4:
        return
    if due >= HORIZON * (1 - 1e-9):
        assert unnoticed(law, seen, due) <= price * 1.01 + 1e-6
    else:
        assert unnoticed(law, seen, due) == pytest.approx(price, rel=0.01)


@given(laws, AGES, PRICES)
def test_a_law_that_may_be_wrong_is_looked_at_when_nine_of_ten_have_ended_or_a_gap_later(law, seen, price):
    assert law.due_at_most(seen, price) <= max(law.age_at(SURELY), seen + max(GAP, GAP_OF_AGE * seen))


@given(laws, PRICES, st.floats(1, 100), st.floats(0.1, 5))
def test_a_dearer_look_is_taken_less_often(law, price, factor, shortest):
    looks, dearer = law.looks(price, shortest), law.looks(price * factor, shortest)
    assert dearer <= looks + 1e-6
    assert dearer >= 1


@given(laws, PRICES, st.floats(0.1, 5), st.floats(1, 10))
def test_looks_that_may_not_be_close_are_fewer(law, price, shortest, factor):
    assert law.looks(price, shortest * factor) <= law.looks(price, shortest) + 1e-6


def exponential(mean):
    return Law([1 / mean] * BINS)


@given(st.floats(5, 500), st.floats(0.02, 0.5))
def test_jobs_without_a_memory_are_looked_at_in_equal_gaps_of_the_root_of_twice_the_price(mean, part):
    law, price = exponential(mean), part * mean / 20
    gap = math.sqrt(2 * price * mean)
    for seen in (0.0, mean / 2, mean):
        assert law.due(seen, price) - seen == pytest.approx(gap, rel=0.2)


def test_what_nobody_does_is_not_waited_for():
    law = Law([0.0] * BINS)
    assert law.due(0.0, 1.0) == HORIZON
    assert law.age_at(0.5) == HORIZON
    assert law.looks(1.0, 1.0) >= 1


@given(laws | st.just(Law([1e-5] * BINS)), st.floats(HORIZON, 1e7), PRICES)
def test_beyond_the_horizon_a_look_is_due_a_gap_later(law, seen, price):
    assert law.due_at_most(seen, price) == pytest.approx(seen + max(GAP, GAP_OF_AGE * seen))


# Learning.


def drawn(kind, seed):
    """Return a function that draws durations, and their median."""
    random = Random(seed)
    if kind == "lognormal":
        return lambda: random.lognormvariate(math.log(90), 0.35), 90.0
    if kind == "exponential":
        return lambda: random.expovariate(1 / 60), 60 * math.log(2)
    if kind == "narrow":
        return lambda: random.uniform(115, 125), 120.0
    return lambda: random.lognormvariate(math.log(40 if random.random() < 0.7 else 300), 0.2), 44.5


def watch(learner, draw, jobs, *, price=1.0, exact=False, start=0.0, waits=None):
    """Look at so many jobs as the policy says, one after another; return the time."""
    plan, now = PollPlan(price=price), start
    for _ in range(jobs):
        lasts, seen, missed = draw(), 0.0, 0
        now += 1.0
        age = first_look(plan, Sight(learner.law(now), learner.jobs > 10, price))
        while age < lasts:
            learner.running(seen, age)
            seen = age
            age += next_look(plan, Sight(learner.law(now), learner.jobs > 10, price), age, missed)
        learner.ended(seen, age, lasts if exact else None)
        if waits is not None:
            waits.append(age - lasts)
    return now


@settings(max_examples=8)
@given(st.sampled_from(["lognormal", "exponential", "bimodal"]), st.booleans(), st.integers(0, 10_000))
def test_looks_by_the_policy_itself_teach_how_long_jobs_take(kind, exact, seed):
    learner = Learner()
    draw, _ = drawn(kind, seed)
    seen = []
    now = watch(learner, lambda: seen.append(draw()) or seen[-1], 300, exact=exact)

    law, seen = learner.law(now + 10), sorted(seen)
    for chance in (0.25, 0.5, 0.85):
        age = law.age_at(chance)
        assert sum(lasted <= age * 1.1 for lasted in seen) / 300 >= chance - 0.04
        assert sum(lasted <= age / 1.1 for lasted in seen) / 300 <= chance + 0.04


@pytest.mark.parametrize("kind", ["lognormal", "exponential", "bimodal", "narrow"])
def test_the_median_is_learned_within_a_tenth(kind):
    for seed in range(3):
        learner = Learner()
        draw, median = drawn(kind, seed)
        seen = []
        now = watch(learner, lambda draw=draw, seen=seen: seen.append(draw()) or seen[-1], 300)
        assert learner.law(now + 10).age_at(0.5) == pytest.approx(sorted(seen)[150], rel=0.1)
        assert sorted(seen)[150] == pytest.approx(median, rel=0.25)


@pytest.mark.parametrize("kind", ["lognormal", "exponential", "bimodal"])
def test_exact_times_and_intervals_agree(kind):
    told, guessed = Learner(), Learner()
    now = watch(told, drawn(kind, 1)[0], 300, exact=True)
    watch(guessed, drawn(kind, 1)[0], 300)
    for chance in (0.25, 0.5, 0.75):
        age = told.law(now + 10).age_at(chance)
        assert guessed.law(now + 10).age_at(chance) == pytest.approx(age, rel=0.12)


def test_what_was_learned_makes_waits_shorter_for_no_more_looks():
    learner, waits = Learner(), []
    draw, _ = drawn("lognormal", 5)
    watch(learner, draw, 400, waits=waits)
    first, last = waits[:20], waits[-200:]
    assert sum(last) / 200 < sum(first) / 20
    assert learner.law(1e6).looks(1.0, 1.0) < 9


def test_a_gateway_that_changes_is_followed():
    learner = Learner()
    random = Random(3)
    now = watch(learner, lambda: random.uniform(50, 70), 500)
    now = watch(learner, lambda: random.uniform(180, 220), 2 * int(MEMORY), start=now)
    assert 170 <= learner.law(now + 10).age_at(0.5) <= 220
    now = watch(learner, lambda: random.uniform(18, 22), 2 * int(MEMORY), start=now)
    assert 17 <= learner.law(now + 10).age_at(0.5) <= 24


looks = st.lists(st.tuples(AGES, st.floats(1, 3), st.booleans(), st.none() | st.floats(0, 1e5)), max_size=60)


@given(looks)
def test_no_exposure_is_negative_and_the_law_is_one_whatever_was_seen(history):
    learner = Learner()
    for since, factor, over, exact in history:
        if over:
            learner.ended(since, since * factor, exact)
        else:
            learner.running(since, since * factor)
        shown = learner.shown()
        assert min(shown.exposure) >= 0
        assert min(shown.events) >= 0
    law = learner.law(1e9)
    chances = [law.done(edge) for edge in EDGES]
    assert chances == sorted(chances)
    assert 0 <= chances[-1] <= 1


@given(looks)
def test_each_job_that_ended_is_one_event_forgotten_slowly(history):
    learner = Learner()
    jobs = 0
    for since, factor, over, exact in history:
        if over:
            learner.ended(since, since * factor, exact)
            jobs += 1
        else:
            learner.running(since, since * factor)
    assert learner.jobs == jobs
    assert learner.shown().jobs == pytest.approx(sum((1 + 1 / MEMORY) ** -(k + 1) for k in range(jobs)))


@given(st.lists(st.tuples(AGES, st.floats(1, 3)), max_size=60))
def test_the_time_that_jobs_were_seen_running_is_the_exposure(spans):
    learner = Learner()
    for since, factor in spans:
        learner.running(since, since * factor)
    shown = learner.shown()
    assert sum(shown.exposure) == pytest.approx(sum(since * (factor - 1) for since, factor in spans), abs=1e-6)
    assert shown.jobs == 0


def test_an_old_event_counts_a_third_after_as_many_as_are_remembered():
    learner = Learner()
    learner.ended(10.0, 10.0)
    before = learner.shown().events
    for _ in range(int(MEMORY)):
        learner.ended(1000.0, 1000.0)
    place = before.index(max(before))
    assert learner.shown().events[place] / before[place] == pytest.approx(1 / math.e, rel=0.01)


def test_millions_of_jobs_keep_their_weights():
    learner = Learner()
    for number in range(20_000):
        learner.ended(10.0, 10.0 + number % 7, 10.0 + number % 7)
    assert learner.shown().jobs == pytest.approx(MEMORY, rel=0.01)
    assert 9 <= learner.law(1e9).age_at(0.5) <= 18


@given(AGES, st.floats(1, 3), st.floats(0, 1e6))
def test_a_time_that_the_gateway_tells_is_believed_within_what_was_seen(since, factor, told):
    age = since * factor
    learner, other = Learner(), Learner()
    learner.ended(since, age, told)
    other.ended(since, age, min(max(told, since), age))
    assert learner.shown() == other.shown()


def test_before_anything_was_seen_the_prior_is_believed():
    assert Learner().law(0.0).age_at(0.5) == pytest.approx(PRIOR_MEDIAN, rel=0.1)


def test_what_nobody_has_ended_yet_shifts_the_law():
    learner = Learner()
    for _ in range(200):
        learner.running(0.0, 400.0)
    assert learner.law(10.0).age_at(0.5) > 400


def test_the_law_is_computed_anew_at_most_once_a_second():
    learner = Learner()
    law = learner.law(0.0)
    for number in range(1000):
        learner.ended(0.0, 20.0)
        assert learner.law(number / 1001) is law
    assert learner.law(1.0) is not law


def test_what_an_earlier_process_has_seen_is_taken_over():
    one, other = Learner(), Learner()
    watch(one, drawn("lognormal", 2)[0], 200)
    assert other.law(0.0).age_at(0.5) == pytest.approx(PRIOR_MEDIAN, rel=0.1)
    other.remember(one.shown())
    assert other.jobs == pytest.approx(one.shown().jobs)
    for chance in (0.1, 0.5, 0.9):
        assert other.law(0.1).age_at(chance) == pytest.approx(one.law(1e9).age_at(chance), rel=0.02)


def test_what_is_remembered_weighs_as_if_it_had_just_been_seen():
    learner, old = Learner(), Cells()
    for _ in range(700):
        learner.ended(20.0, 20.0)
    old.events[50] = 10.0
    learner.remember(old)
    assert learner.shown().events[50] == pytest.approx(10.0)


# Kinds.


def test_a_new_kind_believes_what_its_family_has_shown():
    durations = Durations()
    watch(durations.of("model", "short"), lambda: 20.0, 200)
    watch(durations.of("other", "short"), lambda: 300.0, 200)
    fresh = durations.of("model", "long").law(1e9)
    assert 15 <= fresh.age_at(0.5) <= 30
    assert durations.of("other", "long").law(1e9).age_at(0.5) >= 200


def test_a_kind_unlearns_what_is_not_true_of_it():
    durations = Durations()
    watch(durations.of("model", "short"), lambda: 20.0, 300)
    now = watch(durations.of("model", "long"), lambda: 200.0, 100)
    assert durations.of("model", "long").law(now + 10).age_at(0.5) == pytest.approx(200, rel=0.15)
    assert durations.of("model", "short").law(now + 10).age_at(0.5) == pytest.approx(20, rel=0.15)


def test_a_family_counts_the_jobs_of_all_its_kinds():
    durations = Durations()
    for kind, jobs in (("a", 3), ("b", 4)):
        for _ in range(jobs):
            durations.of("model", kind).ended(10.0, 12.0)
    assert durations.of("model", "a").jobs == 3
    assert durations.of("model").jobs == 7
    assert durations.all.jobs == 7
    assert durations.of("model").shown().jobs == pytest.approx(7, rel=0.02)
    assert durations.all.shown().jobs == pytest.approx(7, rel=0.02)


@settings(max_examples=20)
@given(st.integers(0, 3 * KINDS), st.integers(1, 40))
def test_kinds_are_bounded_and_the_rest_share_their_families_law(kinds, models):
    durations = Durations()
    for number in range(kinds):
        learner = durations.of(("made", number % models), number)
        learner.ended(10.0, 12.0)
        assert durations.of(("made", number % models), number) is learner
    learners = {durations.of(("made", number % models), number) for number in range(kinds)}
    assert len(learners) <= KINDS
    assert durations.all.jobs == kinds


def test_the_same_kind_is_the_same_learner():
    durations = Durations()
    assert durations.of("a", "b") is durations.of("a", "b")
    assert durations.of("a", "b") is not durations.of("a", "c")
    assert durations.of() is durations.all


@given(st.lists(st.tuples(AGES, st.floats(1, 3)), max_size=30))
def test_the_prior_of_a_family_is_one_job(spans):
    learner = Learner()
    for since, factor in spans:
        learner.ended(since, since * factor)
    assert learner.prior().jobs == pytest.approx(1.0)


def test_the_kind_of_a_request_says_what_decides_how_long_it_takes():
    five, ten = TextToVideo("a cat", duration=5), TextToVideo("a dog", duration=10)
    assert of_request(five) == of_request(TextToVideo("a bird", duration=5))
    assert of_request(five)[0] == of_request(ten)[0]
    assert of_request(five)[1] != of_request(ten)[1]


def test_bins_follow_each_other():
    assert all(earlier < later for earlier, later in pairwise(EDGES))


@given(st.lists(st.tuples(st.integers(0, 5), AGES, st.floats(1, 3)), min_size=1, max_size=60))
def test_what_was_learned_is_told_and_remembered(spans):
    learned, other = Durations(), Durations()
    for kind, since, factor in spans:
        learned.of(("TextToVideo", None), (kind, "std", False)).ended(since, since * factor)
    other.remember(learned.told())
    for kind, _, _ in spans:
        path = ("TextToVideo", None), (kind, "std", False)
        mine, theirs = learned.of(*path).law(0.0), other.of(*path).law(0.0)
        assert all(abs(mine.done(age) - theirs.done(age)) < 0.02 for age in (1, 10, 50, 100, 300, 1000))
    assert 0.9 * len(spans) <= other.all.jobs <= len(spans) + 0.1


NONSENSE = """
{}
[[]]
null
[[[1], [[99999, 1, 1]]]]
[[[1], [[1, NaN, 1]]]]
[[[1], [[1, 1e300, 1]]]]
[[[1], [[-1, -1, -1]]]]
[[[{"a": 1}], [[1, 1, 1]]]]
[[["a"], "b"]]
[1, 2]
"""


@pytest.mark.parametrize("told", ["", "[" * 5000, *NONSENSE.split("\n")])
def test_nonsense_is_not_remembered(told):
    durations = Durations()
    durations.remember(told)
    assert durations.all.jobs == 0
