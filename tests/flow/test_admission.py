"""Laws of admission: what refusals teach about pace and slots, one by one."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.errors import CapacityError, RateLimitError
from kling_async.flow.admission import (
    ASKED_MUCH,
    CALM,
    CUTS,
    NEVER_CHANCE,
    PROBE_MOST,
    RANDOM_SECONDS,
    WIDE,
    Admission,
)
from kling_async.flow.limits import SLACK
from kling_async.flow.slots import (
    CLIMB_AGES,
    CLIMB_LEAST,
    CLIMB_UNKNOWN,
    CLIMB_UNKNOWN_MOST,
    REFUTED,
    REFUTED_SHARE,
)
from kling_async.settings import RetryPolicy

POLICY = RetryPolicy()


def may_submit(admission, now, in_flight, running):
    return admission.next_submit(now, in_flight, running) <= now + SLACK


histories = st.lists(
    st.tuples(
        st.floats(0, 200) | st.just(0.0) | st.floats(0, 1),
        st.sampled_from(["taken", "taken", "late", "slow", "full", "end", "look", "look refused"]),
        st.none() | st.floats(0, 1e9) | st.just(0.0),
        st.floats(0, 1),
    ),
    max_size=80,
)


def lived(admission, history):
    """Let an admission live through anything that could happen; yields the time, the event and how many jobs run."""
    now, running, before = 0.0, 0, 0.0
    for wait, what, asked, jitter in history:
        now += wait
        sent_at = before if what == "late" else now
        if what in ("taken", "late"):
            admission.submitted(sent_at)
            running += 1
            admission.accepted(now, sent_at, running)
        elif what in ("slow", "full"):
            admission.submitted(now)
            error = (RateLimitError if what == "slow" else CapacityError)(retry_after=asked)
            admission.refused(now, now, error, running=running, jitter=jitter)
        elif what == "end" and running:
            running -= 1
            admission.ended(now, 1 + 100 * jitter)
        elif what == "look":
            admission.looking(now)
            admission.looked(now)
        elif what == "look refused":
            admission.looking(now)
            admission.slowed(now, now, RateLimitError(retry_after=asked), jitter)
        before = now
        yield now, what, running


def refuse(admission, now, *, running=0, jitter=1.0, sent_at=None, kind=RateLimitError, asked=None):
    return admission.refused(
        now, now if sent_at is None else sent_at, kind(retry_after=asked), running=running, jitter=jitter
    )


def full(running=10, now=100.0, **settings):
    """Return an admission to a gateway that has just said that it runs no more than these."""
    admission = Admission(POLICY, **settings)
    refuse(admission, now, running=running, kind=CapacityError)
    return admission


# When the next may leave.


@given(histories, st.sampled_from([1.0, math.inf]), st.integers(0, 5))
def test_the_next_submit_is_never_nan_and_never_before_now(history, window, in_flight):
    admission = Admission(POLICY, window)
    for now, _, running in lived(admission, history):
        assert admission.next_submit(now, in_flight, running) >= now
        assert admission.next_look(now) >= now


@given(histories, st.sampled_from([1.0, math.inf]))
def test_while_none_is_in_flight_the_next_submit_has_a_time(history, window):
    admission = Admission(POLICY, window)
    for now, _, running in lived(admission, history):
        assert math.isfinite(admission.next_submit(now, 0, running))
        assert math.isfinite(admission.next_look(now))


@given(histories, st.integers(1, 5))
def test_the_next_may_leave_when_its_time_has_come(history, in_flight):
    admission = Admission(POLICY)
    for now, _, running in lived(admission, history):
        when = admission.next_submit(now, in_flight, running)
        assert may_submit(admission, now, in_flight, running) == (when <= now + 1e-9)
        if when < math.inf:
            assert admission.next_submit(when + 1e-6, in_flight, running) <= when + 1e-3


@given(histories)
def test_pauses_only_grow_and_are_bounded(history):
    admission = Admission(POLICY)
    longest = max(POLICY.retry_after_cap, POLICY.maximum)
    before = -math.inf
    for now, _, _ in lived(admission, history):
        assert before <= admission.paused_until <= now + longest
        assert admission.hold_until <= now + longest
        assert admission.probe_at <= now + longest
        before = admission.paused_until


@given(histories)
def test_slots_are_never_believed_to_be_more_than_ever_ran_nor_none(history):
    admission, most = Admission(POLICY), 0
    for _, _, running in lived(admission, history):
        most = max(most, running)
        assert admission.slots.level is None or 1 <= admission.slots.level <= most


@given(histories)
def test_the_window_is_at_least_one(history):
    admission = Admission(POLICY, 1.0)
    for _, _, _ in lived(admission, history):
        assert admission.window >= 1


# Slow start.


def test_slow_start_adds_one_for_each_accepted_and_less_where_it_is_wide():
    admission = Admission(POLICY, 1.0)
    for number in range(1, 100):
        assert admission.window == min(number, WIDE) or admission.window > WIDE
        before = admission.window
        admission.accepted(float(number), float(number), number)
        assert admission.window - before == pytest.approx(1 if before < WIDE else WIDE / 4 / before)


@given(st.integers(1, 60))
def test_no_more_are_in_flight_than_the_window_holds(accepted):
    admission = Admission(POLICY, 1.0)
    for number in range(accepted):
        admission.accepted(0.0, 0.0, number + 1)
    fits = math.ceil(admission.window)
    assert may_submit(admission, 0.0, fits - 1, accepted)
    assert admission.next_submit(0.0, fits, accepted) == math.inf


# One epoch counts once.


@given(st.integers(1, 64), st.sampled_from([RateLimitError, CapacityError]), st.sampled_from([0, 7]))
def test_refusals_of_one_epoch_count_once(number, kind, running):
    one, many = Admission(POLICY), Admission(POLICY)
    assert refuse(one, 10.0, running=running, kind=kind)
    assert refuse(many, 10.0, running=running, kind=kind)
    for each in range(number):
        assert not refuse(many, 10.1, sent_at=9.0 + each / 100, running=running, kind=kind)
    assert many == one


def test_looks_that_were_refused_together_count_once():
    admission = Admission(POLICY)
    for _ in range(64):
        admission.slowed(10.0, 9.0, RateLimitError(), 1.0)
    assert admission.slow_downs == 1
    assert admission.paused_until == 10.0 + POLICY.initial


# `Retry-After`.


@given(st.floats(0.001, 1e9), st.integers(0, 5), st.floats(0, 1))
def test_what_the_gateway_asks_for_is_waited_up_to_the_cap(asked, running, jitter):
    admission = Admission(POLICY)
    refuse(admission, 10.0, running=running, jitter=jitter, asked=asked)
    until = 10.0 + min(asked, POLICY.retry_after_cap)
    assert admission.next_submit(10.0, 0, running) >= until
    assert admission.next_look(10.0) == until
    assert admission.next_submit(10.0, 0, running) <= max(until, 10.0 + POLICY.maximum)


@given(st.floats(0.001, 1e9))
def test_a_full_gateway_that_asks_to_wait_may_be_looked_at_and_is_tried_no_sooner_than_it_asks(asked):
    admission = Admission(POLICY)
    refuse(admission, 10.0, running=3, kind=CapacityError, asked=asked)
    assert admission.next_submit(10.0, 0, 3) >= 10.0 + min(asked, POLICY.retry_after_cap)
    assert admission.next_look(10.0) == 10.0


def test_a_gateway_that_asks_for_much_is_tried_with_one_afterwards():
    admission = Admission(POLICY)
    admission.accepted(0.0, 0.0, 1)
    refuse(admission, 1.0)
    admission.accepted(5.0, 5.0, 2)
    for _ in range(40):
        admission.accepted(6.0, 6.0, 3)
    refuse(admission, 10.0, running=3, asked=ASKED_MUCH + 1)
    assert admission.probing
    assert admission.next_submit(20.0, 1, 3) == math.inf
    assert admission.next_submit(60.0, 0, 3) == 60.0


# Probing.


def test_the_first_refusal_stops_everything_and_one_at_a_time_tries_again():
    admission = Admission(POLICY)
    for number in range(5):
        admission.accepted(0.0, 0.0, number + 1)
    refuse(admission, 1.0, running=5)
    assert admission.next_submit(1.0, 0, 5) > 1.0
    assert admission.next_submit(100.0, 0, 5) == 100.0
    for in_flight in (1, 2, 63):
        assert admission.next_submit(100.0, in_flight, 5) == math.inf


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(0, 3))
def test_probes_come_later_and_later_up_to_a_bound(jitters, running):
    admission, now = Admission(POLICY), 0.0
    for number, jitter in enumerate(jitters):
        refuse(admission, now, running=running, jitter=jitter)
        assert admission.probing
        wait = admission.next_submit(now, 0, running) - now
        assert 0 < wait <= min(POLICY.initial * 2**number, PROBE_MOST) + 1e-9
        now += wait


def test_an_accepted_probe_ends_the_probing():
    admission = Admission(POLICY)
    refuse(admission, 1.0)
    admission.accepted(5.0, 5.0, 1)
    assert not admission.probing
    assert admission.next_submit(5.0, 0, 1) == 5.0


def test_one_that_was_sent_before_the_refusal_ends_no_probing():
    admission = Admission(POLICY)
    refuse(admission, 1.0)
    admission.accepted(1.1, 0.9, 1)
    assert admission.probing


def test_a_gateway_that_takes_a_probe_after_a_short_while_minds_the_pace():
    admission = Admission(POLICY)
    for at in (1.0, 1.5, 2.0):
        refuse(admission, at, running=5)
    admission.accepted(2.5, 2.5, 6)
    assert admission.slots.level is None


def test_a_gateway_that_takes_nothing_for_long_and_then_one_is_full():
    admission = Admission(POLICY)
    for at in (1.0, 2.0, 4.0, 8.0, 16.0):
        refuse(admission, at, running=5)
    admission.ended(17.0, 16.0)
    assert admission.next_submit(17.0, 0, 4) == 17.0  # a slot is free: no need to wait for the next probe
    admission.accepted(17.1, 17.0, 5)
    assert admission.slots.level == 5
    assert admission.slots.confirmed


# Slots.


@given(st.integers(1, 1000), st.floats(0, 1e6), st.floats(0, 1))
def test_a_code_that_says_full_sets_the_slots_at_once(running, now, jitter):
    admission = Admission(POLICY)
    refuse(admission, now, running=running, kind=CapacityError, jitter=jitter)
    assert admission.slots.level == running
    assert admission.next_submit(now, 0, running) > now
    assert admission.next_submit(now, 1, running) == math.inf
    assert admission.next_submit(now, 0, running - 1) == now
    assert admission.next_look(now) == now


def test_each_end_lets_one_in():
    admission = full(10)
    assert may_submit(admission, 101.0, 0, 9)
    assert not may_submit(admission, 101.0, 1, 9)
    assert may_submit(admission, 101.0, 1, 8)


@given(st.integers(1, 1000), st.none() | st.floats(0.1, 10_000))
def test_once_in_a_while_one_tries_whether_there_is_another_slot(running, seconds):
    admission = Admission(POLICY)
    if seconds is not None:
        admission.ended(0.0, seconds)
    refuse(admission, 0.0, running=running, kind=CapacityError)
    gap = admission.next_submit(0.0, 0, running)
    if seconds is None:
        assert gap == CLIMB_UNKNOWN
    else:
        assert CLIMB_LEAST <= gap <= max(CLIMB_LEAST, CLIMB_AGES * seconds)


def test_before_any_job_has_ended_such_tries_come_less_and_less_often():
    admission, now, gaps = Admission(POLICY), 0.0, []
    for _ in range(6):
        refuse(admission, now, running=4, kind=CapacityError)
        gaps.append(admission.next_submit(now, 0, 4) - now)
        now += gaps[-1]
    assert gaps == sorted(gaps)
    assert gaps[0] == CLIMB_UNKNOWN
    assert gaps[-1] == CLIMB_UNKNOWN_MOST


def test_another_slot_that_was_found_is_followed_by_another_try_at_once():
    admission = full(10)
    now = admission.next_submit(100.0, 0, 10)
    admission.accepted(now + 0.1, now, 11)
    assert admission.slots.level == 11
    assert admission.slots.climbs == 1
    assert admission.next_submit(now + 0.1, 0, 11) == now + 0.1


@given(st.integers(1, 30), st.integers(1, 100))
def test_late_answers_raise_the_level_without_counting_as_climbs(running, late):
    admission = full(running)
    for number in range(late):
        admission.accepted(100.1, 99.9, running + number + 1)
        assert admission.slots.level == running + number + 1
    assert admission.slots.climbs == 0


@given(st.integers(1, 60))
def test_many_tries_accepted_in_a_row_say_that_slots_are_not_what_the_gateway_minds(running):
    admission, now, tries = full(running), 200.0, 0
    while admission.slots.level is not None:
        running, tries, now = running + 1, tries + 1, now + 0.1
        admission.accepted(now, now, running)
        assert tries < 1000
    assert tries >= REFUTED
    assert tries >= REFUTED + REFUTED_SHARE * (running - 1) - 1
    assert admission.slots.refuted == 1
    assert admission.next_submit(now, 0, running) == now


def test_a_refusal_begins_the_count_of_such_tries_anew():
    admission = full(10)
    for number in range(5):
        admission.accepted(200.0 + number, 200.0 + number, 11 + number)
    assert admission.slots.climbs == 5
    refuse(admission, 210.0, running=15)
    assert admission.slots.climbs == 0
    assert admission.slots.level == 15


def test_below_the_level_one_refusal_may_be_chance_and_two_are_not():
    admission = full(10)
    admission.accepted(150.0, 150.0, 10)
    refuse(admission, 151.0, running=7)
    assert admission.slots.level == 10
    assert 151.0 < admission.next_submit(151.0, 0, 7) <= 151.0 + POLICY.initial
    refuse(admission, 153.0, running=7)
    assert admission.slots.level == 7


def test_a_full_gateway_whose_code_says_so_lowers_the_level_at_once():
    admission = full(10)
    admission.accepted(150.0, 150.0, 10)
    refuse(admission, 151.0, running=7, kind=CapacityError)
    assert admission.slots.level == 7


def test_a_full_gateway_of_ours_without_jobs_is_probed():
    admission = Admission(POLICY)
    refuse(admission, 10.0, running=0, kind=CapacityError)
    assert admission.slots.level is None
    assert admission.probing


# Refusals by chance.


def cut_in_vain(admission, now, cuts):
    """Let a job be accepted and two be refused below the level, so many times; return the time."""
    running = 1000
    for _ in range(cuts):
        refuse(admission, now, running=running, kind=CapacityError)
        admission.accepted(now + 1, now + 1, running - 1)
        refuse(admission, now + 2, running=running - 10, kind=CapacityError)
        now += 10
    return now


def test_a_gateway_that_cuts_do_not_move_refuses_by_chance():
    admission = Admission(POLICY)
    now = cut_in_vain(admission, 0.0, CUTS - 1)
    assert admission.random_until == -math.inf
    now = cut_in_vain(admission, now, 1)
    assert admission.random_until > now + RANDOM_SECONDS / 2


def test_a_calm_in_between_says_that_the_cuts_were_not_in_vain():
    admission = Admission(POLICY)
    for number in range(3 * CUTS):
        now = cut_in_vain(admission, 1000.0 * number, 1)
        for each in range(CALM):
            admission.accepted(now + each, now + each, 1)
    assert admission.random_until == -math.inf


def test_by_chance_refusals_are_backed_off_from_and_teach_nothing():
    admission = Admission(POLICY)
    now = cut_in_vain(admission, 0.0, CUTS)
    refuse(admission, now, running=5, jitter=1.0)
    admission.accepted(now + 1, now + 1, 6)
    refuse(admission, now + 2, running=6, jitter=1.0)
    assert admission.slots.level is None
    assert admission.pace.estimate is None
    assert admission.next_submit(now + 2, 0, 6) == now + 2 + POLICY.initial
    refuse(admission, now + 5, running=6, jitter=1.0)
    assert admission.next_submit(now + 5, 0, 6) == now + 5 + 2 * POLICY.initial
    assert admission.next_submit(now + 50, 1, 6) == math.inf  # after two in a row one goes alone
    admission.accepted(now + 51, now + 50, 7)
    assert admission.next_submit(now + 51, 1, 7) == now + 51


def test_a_code_that_says_full_is_believed_although_refusals_come_by_chance():
    admission = Admission(POLICY)
    now = cut_in_vain(admission, 0.0, CUTS)
    refuse(admission, now, running=5, kind=CapacityError)
    assert admission.slots.level == 5


def test_after_a_while_refusals_teach_again():
    admission = Admission(POLICY)
    now = cut_in_vain(admission, 0.0, CUTS)
    admission.accepted(now, now, 5)
    later = now + RANDOM_SECONDS + 1
    refuse(admission, later, running=5)
    assert admission.slots.level is not None or admission.probing


def test_many_refusals_in_a_row_are_no_chance():
    admission = Admission(POLICY)
    now = cut_in_vain(admission, 0.0, CUTS)
    admission.accepted(now, now, 5)
    for number in range(NEVER_CHANCE):
        assert admission.random_until > now
        refuse(admission, now + 1 + number, running=5)
    assert admission.random_until < now


# Looks.


def test_looks_are_not_held_back_by_what_submits_have_learned():
    admission = full(10)
    refuse(admission, 200.0, running=10)
    for number in range(50):
        admission.looking(200.0 + number / 1000)
        assert admission.next_look(200.0 + number / 1000) == 200.0 + number / 1000


@settings(max_examples=30)
@given(st.integers(2, 20))
def test_looks_that_are_refused_share_the_pace_from_then_on(number):
    admission, now = Admission(POLICY), 0.0
    for _ in range(number):
        admission.looking(now)
        admission.slowed(now, now, RateLimitError(), 1.0)
        assert admission.shared
        assert now < admission.next_look(now) <= now + max(POLICY.maximum, 2 / (admission.pace.estimate or math.inf))
        now = admission.next_look(now)
    before = admission.pace.acks
    admission.looked(now)
    assert admission.pace.acks == before + 1
    assert admission.slow_downs == 0


def test_an_end_without_a_known_duration_teaches_no_duration():
    admission = Admission(POLICY)
    admission.ended(0.0, None)
    assert admission.slots.mean is None
    admission.ended(0.0, 10.0)
    assert admission.slots.mean == 10.0
    for _ in range(200):
        admission.ended(0.0, 20.0)
    assert admission.slots.mean == pytest.approx(20.0, rel=0.01)
