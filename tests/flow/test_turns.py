"""Laws of taking turns."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kling_async.flow.turns import WEIGHTS, Turns

CLASSES = sorted(WEIGHTS)
company = st.lists(st.sets(st.sampled_from(CLASSES)), max_size=300)


@given(st.sampled_from(CLASSES), company)
def test_who_stays_ready_gets_its_share_however_the_others_come_and_go(patient, others):
    turns = Turns()
    got = Counter(turns.next({patient, *ready}) for ready in others)

    assert got[patient] >= len(others) * WEIGHTS[patient] / sum(WEIGHTS.values()) - 1


@given(st.sampled_from(CLASSES), company, st.integers(1, 60))
def test_whatever_came_before_nobody_waits_longer_than_its_share_says(patient, before, turns_since):
    turns = Turns()
    for ready in before:
        turns.next({patient, *ready} if len(ready) % 2 else ready or {patient})
    got = Counter(turns.next(CLASSES) for _ in range(turns_since))

    assert got[patient] >= turns_since * WEIGHTS[patient] / sum(WEIGHTS.values()) - 2


@given(st.sampled_from(CLASSES), st.sampled_from(CLASSES), st.integers(0, 300), st.integers(1, 100))
def test_who_was_idle_gains_nothing_for_it(idle, busy, away, together):
    if idle == busy:
        return
    turns = Turns()
    for _ in range(away):
        turns.next({busy})
    got = Counter(turns.next({idle, busy}) for _ in range(together))

    assert got[idle] <= together * WEIGHTS[idle] / (WEIGHTS[idle] + WEIGHTS[busy]) + 1


@given(st.sets(st.sampled_from(CLASSES), min_size=1), st.integers(1, 200))
def test_all_that_wait_get_shares_by_their_weights(ready, number):
    turns = Turns()
    got = Counter(turns.next(ready) for _ in range(number))

    for name in ready:
        share = number * WEIGHTS[name] / sum(WEIGHTS[each] for each in ready)
        assert abs(got[name] - share) <= 1


def test_four_submits_go_for_each_look():
    turns = Turns()
    order = [turns.next(["submit", "look"]) for _ in range(500)]
    assert Counter(order) == {"submit": 400, "look": 100}
    assert order[0] == "submit"


def test_who_is_alone_always_goes():
    turns = Turns()
    assert {turns.next(["look"]) for _ in range(10)} == {"look"}


@given(st.sets(st.sampled_from(CLASSES), min_size=1))
def test_only_one_that_is_ready_goes(ready):
    turns = Turns()
    assert all(turns.next(ready) in ready for _ in range(20))
