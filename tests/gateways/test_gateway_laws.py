"""Laws of all our adapters: whatever is answered, they name what is wrong or read something sound."""

import json
from typing import Any

import pytest
from gateway_answers import GATEWAYS
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.contract import check_answer
from kling_async.errors import ProtocolError
from kling_async.gateways import HttpResponse
from kling_async.requests import TextToVideo
from kling_async.wire import MAX_DEPTH

_TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "SUCCESS",
            "FAILED",
            "completed",
            "failed",
            "pending",
            "n75",
            "job-1",
            "success",
            "https://e.com/a.mp4",
            "NaN",
            "1e999",
            "45%",
            "INVALID_PROMPT",
            "RATE_LIMITED",
            "²²²",
            "404",
            "2026-02-05T10:30:00Z",
            "1781801619",
            "get_channel_failed",
        ]
    ),
)
_NAMES = st.sampled_from(
    [
        "code",
        "message",
        "data",
        "task_id",
        "job_id",
        "id",
        "status",
        "response",
        "error",
        "error_message",
        "type",
        "progress",
        "duration",
        "created",
        "completed",
        "created_at",
        "estimated_time",
        "estimated_completion",
        "result",
        "videos",
        "url",
        "video_url",
        "expires_at",
        "consumed_credits",
        "credits_cost",
        "success",
        "remain_credits",
        "remain_balance",
        "unlimited_quota",
        "request",
        "output",
        "request_id",
        "detail",
    ]
)
_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXTS)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(_NAMES, _TEXTS), inner, max_size=8)),
    max_leaves=25,
)
_STATUS = st.one_of(st.sampled_from([200, 200, 200, 400, 401, 409, 422, 429, 500, 503]), st.integers(200, 599))


@pytest.mark.parametrize("name", GATEWAYS)
@settings(max_examples=300, deadline=None)
@given(body=st.dictionaries(_NAMES, _JSON, max_size=8), status=_STATUS)
def test_any_json_is_refused_by_name_or_read_as_something_sound(name: str, body: Any, status: int) -> None:
    check_answer(GATEWAYS[name], TextToVideo("x"), HttpResponse(status, {}, json.dumps(body).encode()))


@pytest.mark.parametrize("name", GATEWAYS)
@settings(max_examples=300, deadline=None)
@given(body=st.one_of(st.binary(max_size=200), _JSON.map(lambda value: json.dumps(value).encode())), status=_STATUS)
def test_any_bytes_are_refused_by_name_or_read_as_something_sound(name: str, body: bytes, status: int) -> None:
    check_answer(GATEWAYS[name], TextToVideo("x"), HttpResponse(status, {}, body))


@settings(max_examples=300)
@given(value=_JSON)
def test_what_is_read_of_json_is_finite_and_bounded(value: Any) -> None:
    try:
        read = HttpResponse(200, body=json.dumps(value).encode()).json()
    except ProtocolError:
        read = None
    assert json.dumps(read, allow_nan=False)


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH])
def test_json_may_be_as_deep_as_the_limit(depth: int) -> None:
    assert HttpResponse(200, body=b"[" * depth + b"]" * depth).json() is not None
