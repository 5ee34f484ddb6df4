"""Laws of the slots that are learned from refusals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_async.flow.slots import (
    AT_ONCE,
    CLIMB_LEAST,
    DOUBTED_CLIMBS,
    DOUBTED_GAP,
    DOUBTED_MOST,
    EXPLAINED,
    REFUTED,
    Slots,
)

events = st.lists(
    st.tuples(
        st.floats(0, 300), st.sampled_from(["taken", "late", "full", "suspect", "end", "forget"]), st.floats(0, 200)
    ),
    max_size=80,
)


@given(events)
def test_the_level_is_never_above_what_ran_nor_below_one_and_a_try_always_has_a_time(history):
    slots, now, running, most = Slots(), 0.0, 0, 0
    for wait, what, number in history:
        now += wait
        if what in ("taken", "late"):
            running += 1
            most = max(most, running)
            slots.accepted(now, running, late=what == "late")
        elif what == "end" and running:
            running -= 1
            slots.ended(number)
        elif what == "full" and running:
            slots.full(now, running, number)
        elif what == "suspect" and running:
            slots.suspect(now, running)
        elif what == "forget":
            slots.forget()
        assert slots.level is None or 1 <= slots.level <= most
        assert now <= slots.next_submit(now, 0, running) < math.inf


@given(st.integers(1, 100), st.integers(0, 100), st.integers(0, 100))
def test_below_the_level_jobs_go_at_once_and_at_it_one_tries_alone(level, running, in_flight):
    slots = Slots()
    slots.full(0.0, level)
    when = slots.next_submit(0.0, in_flight, running)
    if running + in_flight < level:
        assert when == 0.0
    elif in_flight:
        assert when == math.inf
    else:
        assert when >= CLIMB_LEAST


def test_a_few_tries_accepted_without_an_end_refute_slots_that_were_only_suspected():
    slots, now, tries = Slots(), 0.0, 0
    slots.suspect(now, 5)
    assert slots.doubted
    refuted = False
    while not refuted and tries < 100:
        now = slots.next_submit(now, 0, 5 + tries)
        tries += 1
        refuted = slots.accepted(now, 5 + tries, late=False)
    assert tries == DOUBTED_CLIMBS < REFUTED
    assert slots.level is None
    assert not slots.confirmed
    assert now == DOUBTED_GAP * tries


def test_tries_that_ends_explain_refute_nothing_so_soon():
    slots = Slots()
    slots.suspect(0.0, 5)
    for number in range(int(DOUBTED_CLIMBS) + 1):
        slots.ended(30.0)
        assert not slots.accepted(10.0 * number, 6 + number, late=False)
    assert slots.level == 6 + int(DOUBTED_CLIMBS)


def test_slots_that_are_only_suspected_are_tried_less_and_less_often():
    slots, now, gaps = Slots(), 0.0, []
    slots.suspect(now, 5)
    for _ in range(12):
        gaps.append(slots.next_submit(now, 0, 5) - now)
        now += gaps[-1]
        slots.full(now, 5)
    assert gaps == sorted(gaps)
    assert gaps[0] == DOUBTED_GAP
    assert gaps[-1] == DOUBTED_MOST


def test_an_end_that_lets_one_in_confirms_slots():
    slots = Slots()
    slots.ended(30.0)
    slots.suspect(0.0, 5)
    assert not slots.doubted
    assert slots.confirmed


def test_a_refusal_right_after_a_try_that_was_accepted_says_little():
    slots = Slots()
    slots.ended(30.0)
    slots.full(0.0, 5)
    for number in range(4):
        slots.accepted(10.0, 6 + number, late=False)
    slots.full(10.0 + AT_ONCE / 2, 9)
    assert 0 < slots.climbs < 4
    slots.full(20.0 + AT_ONCE, 9)
    assert slots.climbs == 0


@given(st.integers(1, 100), st.floats(1, 1000), st.floats(1, 1000))
def test_what_jobs_that_end_let_in_is_explained_by_them_and_more_is_not(running, mean, seconds):
    slots = Slots()
    slots.ended(mean)
    slots.full(0.0, running)
    expected = running * seconds / mean
    assert slots.explain(int(expected), seconds, running)
    assert not slots.explain(int(EXPLAINED * expected) + 3, seconds, running)


@pytest.mark.parametrize("known", ["nothing", "how long jobs take", "that it was full"])
def test_without_knowing_slots_and_durations_nothing_is_explained(known):
    slots = Slots()
    if known == "how long jobs take":
        slots.ended(10.0)
    elif known == "that it was full":
        slots.full(0.0, 5)
    assert not slots.explain(0, 100.0, 5)
