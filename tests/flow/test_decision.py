"""Laws of the one decision about a paid POST: what may be sent again, what is refused, what nobody knows."""

import itertools
import json
import subprocess
import sys
from inspect import isclass

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kling_async import errors
from kling_async.errors import (
    CapacityError,
    ConnectionFailedError,
    GatewayUnavailableError,
    InsufficientCreditsError,
    InvalidRequestError,
    KlingError,
    ProtocolError,
    RateLimitError,
    ResponseLostError,
    SubmissionInDoubtError,
)
from kling_async.flow import decision
from kling_async.flow.decision import Fate, decide, in_doubt, unanswered
from kling_async.gateways.protocol import Accepted
from kling_async.wire import HttpResponse, is_task_id

CLASSES = [kind for kind in vars(errors).values() if isclass(kind) and issubclass(kind, KlingError)]
SAID = [kind for kind in CLASSES if kind is not SubmissionInDoubtError]
"""What an adapter, the transport or the journal may raise: the doubt itself is the decision's to pronounce."""
REFUSALS = decision._REFUSALS
CODES = [None, "tls", "refused", "INVALID_PROMPT", "contradiction", "idempotency_result_indeterminate"]

failures = st.builds(
    lambda kind, code, charged, stage, wait: kind("x", code=code, charged=charged, stage=stage, retry_after=wait),
    st.sampled_from(SAID),
    st.sampled_from(CODES),
    st.sampled_from([None, "no", "yes", "unknown"]),
    st.sampled_from([None, "validate", "connect", "submit", "journal"]),
    st.none() | st.floats(0, 1e6),
)
ids = st.sampled_from(["n75abc", "..", "", "a/b", "None", "a\n", "x" * 129]) | st.text(max_size=20)
acceptances = st.builds(Accepted, ids, st.none(), st.booleans())
answers = st.builds(
    HttpResponse, st.integers(100, 599), st.just({}), st.binary(max_size=20), st.none() | st.floats(0, 1e6)
)


@given(failures | acceptances, st.booleans(), st.none() | answers, st.booleans())
def test_every_try_has_exactly_one_fate_and_what_belongs_to_it(said, sent, answer, dedupes):
    found = decide(said, sent=sent, answer=answer, dedupes=dedupes)
    assert (found.accepted is not None) is (found.fate is Fate.ACCEPTED)
    assert (found.error is None) is (found.fate is Fate.ACCEPTED)
    if found.error is not None:
        assert found.error.__context__ is found.error.__cause__ is None
        if found.fate is Fate.IN_DOUBT:
            assert isinstance(found.error, SubmissionInDoubtError)


@given(failures, st.none() | answers, st.booleans())
def test_what_was_not_sent_is_never_in_doubt_and_costs_nothing(error, answer, dedupes):
    found = decide(error, sent=False, answer=answer, dedupes=dedupes)
    assert found.fate in (Fate.AGAIN, Fate.REJECTED)
    assert found.error.charged == "no"
    assert (found.fate is Fate.AGAIN) is (isinstance(error, ConnectionFailedError) and error.code != "tls")


@given(failures)
def test_without_a_whole_answer_what_was_sent_is_in_doubt_whatever_the_error_claims(error):
    found = decide(error, sent=True)
    assert found.fate is Fate.IN_DOUBT
    assert found.error.charged == "unknown"
    assert not isinstance(found.error.cause, (*REFUSALS, RateLimitError, CapacityError, ConnectionFailedError))


def _believable(answer):
    return 200 <= answer.status < 300 or (400 <= answer.status < 500 and answer.status != 408)


@given(failures, answers)
def test_behind_a_redirect_a_408_or_a_5xx_nothing_is_refused_unless_the_gateway_documents_it(error, answer):
    found = decide(error, sent=True, answer=answer)
    documented = isinstance(error, GatewayUnavailableError) and error.charged == "no"
    if not _believable(answer):
        assert found.fate is (Fate.AGAIN if documented else Fate.IN_DOUBT)


@given(failures, answers.filter(_believable))
def test_a_believable_answer_is_refused_sent_again_or_in_doubt_by_the_class_that_the_adapter_chose(error, answer):
    found = decide(error, sent=True, answer=answer)
    if isinstance(error, REFUSALS):
        assert found.fate is Fate.REJECTED
    elif isinstance(error, (RateLimitError, CapacityError)) or error.charged == "no":
        assert found.fate is Fate.AGAIN
    else:
        assert found.fate is Fate.IN_DOUBT


@given(failures | acceptances, st.booleans(), st.none() | answers)
def test_a_gateway_that_recognises_keys_turns_doubt_into_again_and_changes_nothing_else(said, sent, answer):
    plain, keyed = (decide(said, sent=sent, answer=answer, dedupes=dedupes) for dedupes in (False, True))
    if plain.fate is not keyed.fate:
        assert (plain.fate, keyed.fate) == (Fate.IN_DOUBT, Fate.AGAIN)
        assert isinstance(said, KlingError)
        assert said.code not in ("contradiction", "idempotency_result_indeterminate")


@pytest.mark.parametrize("code", ["idempotency_result_indeterminate", "contradiction"])
def test_an_indeterminate_result_or_a_contradiction_is_in_doubt_even_with_a_key(code):
    error = GatewayUnavailableError(code=code)
    assert decide(error, sent=True, answer=HttpResponse(503), dedupes=True).fate is Fate.IN_DOUBT


@given(acceptances, st.booleans(), st.none() | answers)
def test_accepted_is_only_what_names_a_sound_task_in_an_answer_that_says_yes(accepted, sent, answer):
    found = decide(accepted, sent=sent, answer=answer)
    sound = is_task_id(accepted.task_id)
    yes = answer is None or accepted.replayed or 200 <= answer.status < 300
    assert (found.fate is Fate.ACCEPTED) is (sound and yes)
    if sound and not yes:
        assert (found.error.task_id, found.error.code) == (accepted.task_id, "contradiction")
    if not sound:
        assert (found.error.task_id, found.error.code) == (None, "bad_task_id")


@given(failures, answers)
def test_the_wait_that_an_answer_asks_for_reaches_the_error(error, answer):
    found = decide(error, sent=True, answer=answer)
    told = found.error.cause or found.error
    assert told.retry_after == (error.retry_after if error.retry_after is not None else answer.retry_after)


def test_an_error_says_at_which_stage_it_happened():
    answer = HttpResponse(400)
    assert decide(InvalidRequestError(), sent=True, answer=answer).error.stage == "submit"
    assert decide(InvalidRequestError(stage="validate"), sent=False).error.stage == "validate"
    assert decide(ConnectionFailedError(stage="connect"), sent=False).error.stage == "connect"


@pytest.mark.parametrize("status", [301, 307, 408, 500, 502, 503, 504, 520, 529])
@pytest.mark.parametrize("kind", [InvalidRequestError, InsufficientCreditsError, RateLimitError])
def test_a_refusal_in_the_body_of_a_408_a_5xx_or_a_redirect_is_not_believed(kind, status):
    found = decide(kind("no"), sent=True, answer=HttpResponse(status))
    assert found.fate is Fate.IN_DOUBT
    assert type(found.error.cause) is GatewayUnavailableError
    assert found.error.cause.charged == "unknown"


def test_doubt_is_not_wrapped_twice_and_keeps_what_is_known():
    cause = ProtocolError("odd", code="contradiction", task_id="n75abc", http_status=400, gateway="g", raw="{}")
    doubt = in_doubt(cause)
    assert in_doubt(doubt) is doubt
    assert (doubt.cause, doubt.task_id, doubt.code, doubt.http_status) == (cause, "n75abc", "contradiction", 400)
    assert (doubt.gateway, doubt.raw, doubt.stage, doubt.charged) == ("g", "{}", "submit", "unknown")


def test_only_whether_a_byte_left_decides_what_an_unanswered_request_is():
    for code in ("timeout", "reset", "tls", "protocol"):
        lost, kept = unanswered("h", code, "why", sent=True), unanswered("h", code, "why", sent=False)
        assert (type(lost), lost.code) == (ResponseLostError, code)
        assert (type(kept), kept.code, kept.stage, kept.charged) == (ConnectionFailedError, code, "connect", "no")


def test_the_decision_is_a_pure_function_of_its_arguments():
    answer = HttpResponse(429, retry_after=3.0)
    error = RateLimitError("x")
    before = error.to_dict(), evolve(answer)
    first, second = (decide(error, sent=True, answer=answer) for _ in range(2))
    assert (error.to_dict(), answer) == before
    assert first.error.to_dict() == second.error.to_dict()
    assert first.error.retry_after == 3.0


def test_every_error_class_has_a_fate_for_every_status():
    for kind, status, sent in itertools.product(CLASSES, range(100, 600), (False, True)):
        assert decide(kind("x"), sent=sent, answer=HttpResponse(status)).fate is not Fate.ACCEPTED


def test_these_tests_take_every_branch_of_the_decision(tmp_path):
    """One run of this file under `coverage`, without this test."""
    data = tmp_path / "coverage"
    run = [sys.executable, "-m", "coverage", "run", "--branch", f"--data-file={data}", "--source=kling_async.flow"]
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not every_branch", __file__]
    ran = subprocess.run([*run, *tests], capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stdout
    told = tmp_path / "told.json"
    tell = [sys.executable, "-m", "coverage", "json", "-q", f"--data-file={data}", "-o", told]
    subprocess.run(tell, check=True, timeout=60)
    (found,) = [seen for name, seen in json.loads(told.read_text())["files"].items() if name.endswith("decision.py")]
    assert (found["missing_lines"], found["missing_branches"]) == ([], [])
    assert found["summary"]["num_branches"] > 10
