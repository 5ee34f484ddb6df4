"""Where a job of a batch stands: laws of the table, of the steps' money, and of what an outcome means."""

import itertools
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_async import Failure, KlingError, Success, TextToVideo, Timing, Video, errors
from kling_async.batch import entry as steps
from kling_async.batch.amounts import micros
from kling_async.batch.entry import Entry, told, video_from
from kling_async.batch.keys import digest_of, said
from kling_async.batch.outcomes import outcome_of
from kling_async.batch.states import State, Step, after, replay
from kling_async.batch.verdict import comes_again, counts_as_failure, ends_the_run, is_final, step_of
from kling_async.errors import JournalError, error_from
from kling_async.results import Status

REQUEST = TextToVideo("a boat")
KINDS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KlingError)), key=str
)


def planned():
    return Entry(1, "k", State.PLANNED, 1, said(REQUEST), digest_of(REQUEST), estimate=200_000_000)


def following(state):
    """Return the steps that may follow, and where they lead."""
    found = {}
    for step in Step:
        try:
            found[step] = after(state, step)
        except JournalError as error:
            assert error.code == "impossible_step"
    return found


def reachable(start):
    """Return where a job can come to without a deliberate retry."""
    seen, open_ = set(), {start}
    while open_:
        state = open_.pop()
        seen.add(state)
        open_ |= {there for step, there in following(state).items() if step is not Step.RETRIED} - seen
    return seen


# The table.


@pytest.mark.parametrize("state", [State.REJECTED, State.FAILED])
def test_what_has_ended_without_a_video_is_left_by_a_retry_only(state):
    assert following(state) == {Step.RETRIED: State.PLANNED}


def test_a_video_that_is_on_disk_is_never_made_again():
    assert following(State.DOWNLOADED) == {}
    assert reachable(State.SUCCEEDED) == {State.SUCCEEDED, State.DOWNLOADED}


def test_doubt_ends_by_finding_the_job_or_by_a_retry():
    assert following(State.IN_DOUBT) == {Step.ACCEPTED: State.ACCEPTED, Step.RETRIED: State.PLANNED}


@pytest.mark.parametrize("state", sorted(set(State) - {State.PLANNED, State.SUBMITTING}))
def test_nothing_that_may_have_been_paid_for_leads_to_another_submit_without_a_retry(state):
    assert not reachable(state) & {State.PLANNED, State.SUBMITTING}


@pytest.mark.parametrize("state", [State.ACCEPTED, State.PLANNED, State.SUBMITTING])
def test_what_is_under_way_is_not_retried(state):
    assert Step.RETRIED not in following(state)


def test_a_history_begins_with_the_plan():
    assert following(None) == {Step.PLANNED: State.PLANNED}
    with pytest.raises(JournalError, match="nowhere"):
        replay([])


@given(st.data())
def test_the_replay_of_any_history_is_where_the_job_stands(data):
    state, attempt, history = State.PLANNED, 1, [Step.PLANNED]
    for _ in range(data.draw(st.integers(0, 25))):
        allowed = following(state)
        if not allowed:
            break
        step = data.draw(st.sampled_from(sorted(allowed)))
        state, attempt = allowed[step], attempt + (step is Step.RETRIED)
        history.append(step)
    assert replay(history) == (state, attempt)


# The money of each step.

AMOUNTS = st.decimals(0, 10**6, places=3) | st.sampled_from([Decimal(0), Decimal("0.0000001"), Decimal(10**30)])
ERRORS = st.sampled_from(KINDS).map(lambda kind: kind("no", code="X"))
MOMENTS = st.floats(0, 4e9)
VIDEO = Video("t-1", "https://example.com/v.mp4")


def taken(data, entry, step):
    """Take a step with drawn values, and hold its money against the rules."""
    at = data.draw(MOMENTS)
    match step:
        case Step.PLANNED | Step.DOWNLOADED | Step.FETCHING | Step.UNFETCHED:
            new = {
                Step.PLANNED: lambda: entry,
                Step.DOWNLOADED: lambda: steps.downloaded(entry, at),
                Step.FETCHING: lambda: steps.fetching(entry, file="a.mp4"),
                Step.UNFETCHED: lambda: steps.unfetched(entry, data.draw(ERRORS)),
            }[step]()
            assert new.held == entry.held
        case Step.SUBMITTING:
            reserve = data.draw(st.integers(0, 10**12)) if entry.state is State.PLANNED else entry.reserved
            new = steps.intended(entry, at, reserve)
            assert new.reserved == reserve
            first = entry.state is State.SUBMITTING and entry.intent_at is not None
            assert new.intent_at == (entry.intent_at if first else at)
        case Step.POSTPONED:
            new = steps.postponed(entry)
            assert (new.reserved, new.intent_at) == (0, None)
        case Step.ACCEPTED:
            claim = data.draw(st.none() | AMOUNTS)
            new = steps.accepted(entry, "g", "t-1", at, claim)
            assert new.reserved >= entry.reserved
            assert new.reserved >= (micros(claim) if claim is not None else 0)
        case Step.REJECTED:
            new = steps.rejected(entry, data.draw(ERRORS), at)
            assert (new.reserved, new.charged) == (0, "no")
        case Step.LOST:
            new = steps.lost(entry, data.draw(ERRORS), at)
            assert (new.held, new.charged) == (entry.held, "unknown")
        case Step.SUCCEEDED:
            spent = data.draw(st.none() | AMOUNTS)
            new = steps.succeeded(entry, VIDEO, spent, at)
            said_something = spent is not None and spent > 0
            assert new.reserved == (0 if said_something else entry.reserved)
            assert new.spent == entry.spent + (micros(spent) if said_something else 0)
        case Step.FAILED:
            charged = data.draw(st.sampled_from(["no", "yes", "unknown"]))
            spent = data.draw(st.none() | AMOUNTS)
            new = steps.failed(entry, data.draw(ERRORS), charged, spent, at)
            if charged == "no":
                assert (new.reserved, new.spent) == (0, entry.spent)
            elif spent is None:
                assert new.held == entry.held
            else:
                assert (new.reserved, new.spent) == (0, entry.spent + micros(spent))
        case Step.RETRIED:
            new = steps.retried(entry)
            assert new.held == entry.held
            assert (new.reserved, new.attempt) == (0, entry.attempt + 1)
            assert (new.task_id, new.video, new.error, new.intent_at) == (None,) * 4
    return new


@given(st.data())
def test_held_money_is_never_negative_and_what_may_have_been_charged_is_never_forgotten(data):
    entry, history = planned(), [Step.PLANNED]
    for _ in range(data.draw(st.integers(0, 25))):
        allowed = following(entry.state)
        if not allowed:
            break
        step = data.draw(st.sampled_from(sorted(allowed)))
        new = taken(data, entry, step)
        assert min(new.reserved, new.spent, new.doubted) >= 0
        assert new.spent >= entry.spent
        assert new.doubted >= entry.doubted
        assert (new.id, new.key, new.request, new.digest) == (entry.id, entry.key, entry.request, entry.digest)
        entry = new
        history.append(step)
        assert replay(history) == (entry.state, entry.attempt)


@pytest.mark.parametrize("spent", [None, Decimal(0)])
def test_a_success_that_names_no_price_keeps_what_was_reserved(spent):
    entry = steps.accepted(steps.intended(planned(), 1.0, 7), "g", "t-1", 2.0, None)
    assert steps.succeeded(entry, VIDEO, spent, 3.0).held == 7


def test_two_doubtful_attempts_hold_the_money_of_both():
    entry = planned()
    for _ in range(2):
        entry = steps.retried(steps.lost(steps.intended(entry, 1.0, 7), KlingError("lost"), 2.0))
    assert (entry.doubted, entry.held, entry.attempt) == (14, 14, 3)


# What the journal keeps comes back.


@given(
    st.sampled_from(KINDS),
    st.text(max_size=20),
    st.none() | st.text(max_size=5),
    st.none() | st.floats(0, 1e6),
    st.sampled_from(["no", "yes", "unknown"]),
)
def test_an_error_comes_back_from_the_journal_as_it_was(kind, message, code, seconds, charged):
    error = kind(message, code=code, retry_after=seconds, charged=charged, cause=KlingError("behind", code="X"))
    kept = steps.rejected(planned(), error, 1.0).problem()
    assert type(kept) is kind
    assert kept.to_dict() == error.to_dict()


def test_an_error_of_a_class_that_is_gone_is_a_plain_one():
    assert type(error_from({"error": "StrangeError", "message": "odd"})) is KlingError


@given(
    st.lists(st.text(min_size=1, max_size=9), max_size=3),
    st.none() | st.floats(0, 1e4),
    st.none() | st.decimals(0, 10**9, allow_nan=False),
    st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_a_video_comes_back_from_the_journal_as_it_was(more, duration, spent, expires):
    video = Video("t", "https://example.com/v", ("https://example.com/v", *more), None, duration, expires, spent)
    entry = steps.accepted(steps.intended(planned(), 1.0, 7), "g", "t", 2.0, None)
    assert steps.succeeded(entry, video, spent, 3.0).made() == video


def test_a_video_without_its_optional_facts_comes_back():
    assert video_from(VIDEO.to_dict()) == VIDEO
    dated = Video("t", "u", expires_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert video_from(dated.to_dict()).expires_at == dated.expires_at


def test_every_end_of_a_job_has_its_outcome():
    sent = steps.intended(planned(), 1.0, 7)
    taken_in = steps.accepted(sent, "g", "t-1", 2.0, None)
    made = steps.succeeded(taken_in, VIDEO, Decimal(5), 9.0)
    ends = {
        steps.rejected(sent, errors.InvalidRequestError("bad"), 3.0): (Status.FAILED, "no", None),
        steps.lost(sent, errors.SubmissionInDoubtError("lost"), 3.0): (Status.IN_DOUBT, "unknown", None),
        steps.failed(taken_in, errors.GenerationFailedError("x"), "no", None, 3.0): (Status.FAILED, "no", "t-1"),
    }
    for entry, (status, charged, task_id) in ends.items():
        outcome = outcome_of(entry, None)
        assert (outcome.ok, outcome.status, outcome.charged, outcome.task_id) == (False, status, charged, task_id)
        assert outcome.request == REQUEST
    outcome = outcome_of(made, None)
    assert (outcome.ok, outcome.video, outcome.credits, outcome.timing.ran) == (True, VIDEO, Decimal(5), 7.0)


# What an outcome means.

LIVE = {
    State.PLANNED: planned(),
    State.SUBMITTING: steps.intended(planned(), 1.0, 200),
    State.ACCEPTED: steps.accepted(steps.intended(planned(), 1.0, 200), "g", "t-1", 2.0, None),
    State.IN_DOUBT: steps.lost(steps.intended(planned(), 1.0, 200), KlingError("lost"), 2.0),
}
STATUSES = (Status.FAILED, Status.CANCELLED, Status.IN_PROGRESS, Status.IN_DOUBT)
POSSIBLE = {
    State.PLANNED: {Status.FAILED, Status.CANCELLED},
    State.SUBMITTING: {Status.FAILED, Status.CANCELLED, Status.IN_DOUBT},
    State.ACCEPTED: set(STATUSES),
    State.IN_DOUBT: {Status.IN_DOUBT, Status.IN_PROGRESS},
}


def failure(kind, status, charged="unknown"):
    error = kind("no", code="X", charged=charged)
    return Failure("k", REQUEST, None, error, charged, Timing(), status)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("state", "status"), [pair for pair in itertools.product(LIVE, STATUSES) if pair[1] in POSSIBLE[pair[0]]]
)
def test_every_failure_has_its_meaning_wherever_the_job_stands(kind, state, status):
    entry = LIVE[state]
    found = step_of(entry, failure(kind, status), None, 5.0)
    if found is None:
        assert state is not State.SUBMITTING  # what was being sent always comes to something
        return
    step, new = found
    assert new.state is after(state, step)
    if new.state is State.PLANNED:
        assert comes_again(kind())
    if new.state is State.REJECTED:
        assert not comes_again(kind())
    if status is Status.IN_DOUBT and state is State.SUBMITTING:
        assert (new.state, new.held) == (State.IN_DOUBT, entry.held)
    if state is State.ACCEPTED:
        assert new.state is State.FAILED
        assert (status, is_final(kind())) == (Status.FAILED, True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_still_being_made_or_only_no_longer_watched_stays_accepted(kind):
    for status in (Status.IN_PROGRESS, Status.CANCELLED):
        assert step_of(LIVE[State.ACCEPTED], failure(kind, status), None, 5.0) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", STATUSES)
def test_no_failure_makes_a_job_in_doubt_any_wiser(kind, status):
    assert step_of(LIVE[State.IN_DOUBT], failure(kind, status), None, 5.0) is None


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_failed_job_that_the_gateway_refunds_gives_its_money_back(kind):
    entry = LIVE[State.ACCEPTED]
    for charged in ("yes", "unknown"):
        found = step_of(entry, failure(kind, Status.FAILED, charged), None, 5.0)
        assert found is None or found[1].held == entry.held
    found = step_of(entry, failure(kind, Status.FAILED, "no"), Decimal(200), 5.0)
    assert found is None or found[1].held == 0


def test_a_success_is_settled_by_its_own_word_else_by_what_was_said_before():
    entry = LIVE[State.ACCEPTED]
    for own, before, spent in ((Decimal(3), Decimal(9), 3), (None, Decimal(9), 9), (Decimal(0), Decimal(9), 0)):
        step, new = step_of(entry, Success("k", REQUEST, "t-1", VIDEO, own), before, 5.0)
        assert (step, new.spent) == (Step.SUCCEEDED, spent * 10**6)
        assert new.reserved == (entry.reserved if spent == 0 else 0)


def test_every_error_has_one_place_in_the_run():
    stops = {kind.__name__ for kind in KINDS if ends_the_run(kind())}
    assert stops == {"AuthenticationError", "PermissionDeniedError", "QuotaExhaustedError", "ConfigurationError"}
    assert all(comes_again(kind()) for kind in KINDS if ends_the_run(kind()))
    assert not any(comes_again(kind()) and is_final(kind()) for kind in KINDS)
    harmless = {kind.__name__ for kind in KINDS if not counts_as_failure(failure(kind, Status.FAILED))}
    assert {"InsufficientCreditsError", "SessionClosedError", "TaskCancelledError"} <= harmless
    assert not {"GenerationFailedError", "InvalidRequestError", "SubmissionInDoubtError"} & harmless
    assert told(KlingError("x")).startswith("{")
