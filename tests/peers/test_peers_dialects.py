"""The dialects of the benchmark's gateway, from requests as the clients write them to answers as they read them."""

import json
from typing import Any

import pytest

from benchmarks.peers.dialects import Asked, Call, Dialect, fal, kling3api, openai, replicate, runway
from benchmarks.peers.http import answer, closes, next_call
from benchmarks.peers.model import Job

URL = "http://127.0.0.1:1"
JOB = Job("abc123", "a boat", created=1.0, ends=5.0)
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nsora-2\r\n'
    b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na boat\r\n--x--\r\n'
)


def post(target: str, body: Any, **headers: str) -> Call:
    return Call("POST", target, headers, body if isinstance(body, bytes) else json.dumps(body).encode())


def get(target: str) -> Call:
    return Call("GET", target, {}, b"")


SUBMITS = [
    (fal, post("/fal-ai/kling-video/v2/master/text-to-video", {"prompt": "a boat"})),
    (kling3api, post("/api/generate", {"type": "std-text-to-video", "prompt": "a boat"})),
    (openai, post("/v1/videos", FORM)),
    (replicate, post("/v1/models/kwaivgi/kling-v2.1/predictions", {"input": {"prompt": "a boat"}})),
    (runway, post("/v1/text_to_video", {"promptText": "a boat", "model": "gen4.5"})),
]
LOOKS = [
    (fal, get("/fal-ai/kling-video/requests/abc123/status?logs=false")),
    (kling3api, get("/api/status?task_id=abc123")),
    (openai, get("/v1/videos/abc123")),
    (replicate, get("/v1/predictions/abc123")),
    (runway, get("/v1/tasks/abc123")),
]


@pytest.mark.parametrize(("dialect", "call"), SUBMITS)
def test_a_submit_names_its_prompt(dialect: Dialect, call: Call) -> None:
    assert dialect.asked(call) == Asked("submit", "a boat")


@pytest.mark.parametrize(("dialect", "call"), LOOKS)
def test_a_look_names_its_job(dialect: Dialect, call: Call) -> None:
    assert dialect.asked(call) == Asked("look", "abc123")


@pytest.mark.parametrize("dialect", [kling3api, openai, replicate, runway])
def test_other_addresses_are_unknown(dialect: Dialect) -> None:
    assert dialect.asked(get("/somewhere/else")) is None


@pytest.mark.parametrize("dialect", [fal, kling3api, openai, replicate, runway])
def test_the_job_is_named_when_it_is_accepted_and_its_end_is_told(dialect: Dialect) -> None:
    status, body = dialect.accepted(JOB, URL)
    assert status in {200, 201}
    assert "abc123" in json.dumps(body)
    assert dialect.seen(JOB, done=False) != dialect.seen(JOB, done=True)
    assert "abc123" in json.dumps(dialect.result(JOB)[1])
    assert "slowly" in json.dumps(dialect.refused(429, "slowly"))


def test_replicate_may_be_asked_to_wait() -> None:
    call = post("/v1/models/a/b/predictions", {"input": {"prompt": "a boat"}}, prefer="wait")
    assert replicate.asked(call) == Asked("submit", "a boat", wait=True)


def test_fal_keeps_the_result_apart_and_names_addresses_of_this_gateway() -> None:
    assert fal.asked(get("/fal-ai/kling-video/requests/abc123")) == Asked("fetch", "abc123")
    body = fal.accepted(JOB, URL)[1]
    assert body["status_url"].startswith(URL)
    assert body["response_url"].startswith(URL)


def test_requests_are_taken_off_the_buffer_one_by_one_when_they_are_whole() -> None:
    one = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
    buffer = bytearray(one + b"GET / HTTP/1.1\r\n")
    call = next_call(buffer)
    assert call == Call("POST", "/a?b=c", {"host": "x", "content-length": "4", "connection": "close"}, b"body")
    assert (call.path, call.query, closes(call)) == ("/a", {"b": "c"}, True)
    assert next_call(buffer) is None
    buffer += b"\r\n"
    assert next_call(buffer) == get("/")
    assert not buffer
    assert next_call(bytearray(one[:-1])) is None


def test_bodies_in_chunks_are_refused() -> None:
    with pytest.raises(ValueError, match="chunks"):
        next_call(bytearray(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"))


def test_an_answer_is_http() -> None:
    assert answer(202, {"a": 1}, close=False) == (
        b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 7\r\n"
        b'Connection: keep-alive\r\n\r\n{"a":1}'
    )
