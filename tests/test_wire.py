"""HTTP as plain values: URLs, bodies, conversations, and JSON that may be hostile."""

import json
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_async.errors import ProtocolError
from kling_async.wire import (
    MAX_DEPTH,
    Exchange,
    HttpRequest,
    HttpResponse,
    is_task_id,
    read_json,
    segment,
    talk,
)


def test_a_conversation_is_driven_by_a_function() -> None:
    def exchange() -> Exchange[int]:
        first = yield HttpRequest("GET", "/a")
        second = yield HttpRequest("GET", "/b")
        return first.status + second.status

    assert talk(exchange(), lambda request: HttpResponse(1 if request.path == "/a" else 20)) == 21


def test_a_conversation_may_end_without_a_word() -> None:
    def exchange() -> Generator[HttpRequest, HttpResponse, str]:
        if False:
            yield HttpRequest("GET", "/a")
        return "nothing to ask"

    assert talk(exchange(), lambda _: HttpResponse(200)) == "nothing to ask"


@pytest.mark.parametrize(
    ("base", "request_", "url"),
    [
        ("https://e.com", HttpRequest("GET", "/a"), "https://e.com/a"),
        ("https://e.com/", HttpRequest("GET", "/a"), "https://e.com/a"),
        ("https://e.com/prefix/", HttpRequest("GET", "/a"), "https://e.com/prefix/a"),
        (
            "https://e.com",
            HttpRequest("GET", "/a", {"b": "c d/e?&=+é"}),
            "https://e.com/a?b=c%20d%2Fe%3F%26%3D%2B%C3%A9",
        ),
        ("https://e.com", HttpRequest("GET", "/a", {"b": "1", "c": "2"}), "https://e.com/a?b=1&c=2"),
    ],
)
def test_a_url_is_the_base_the_path_and_the_encoded_query(base: str, request_: HttpRequest, url: str) -> None:
    assert request_.url(base) == url


def test_a_body_is_compact_utf_8() -> None:
    assert (
        HttpRequest("POST", "/", json={"a": "é🚤", "b": [1, 0.5, None]}).body()
        == '{"a":"é🚤","b":[1,0.5,null]}'.encode()
    )
    assert HttpRequest("POST", "/", json={}).body() == b"{}"
    assert HttpRequest("GET", "/").body() is None


def test_a_body_never_holds_a_number_that_is_no_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        HttpRequest("POST", "/", json={"a": float("nan")}).body()


def test_the_repr_of_a_request_leaves_out_its_headers() -> None:
    assert "sk-1" not in repr(HttpRequest("GET", "/", headers={"Authorization": "Bearer sk-1"}))


def test_the_repr_of_an_answer_leaves_out_its_body() -> None:
    assert "private" not in repr(HttpResponse(200, body=b"private"))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_segment_is_one_segment(text: str) -> None:
    assert not set(segment(text)) & set("/?#%& \\") - {"%"}
    assert segment(text).isascii()


@pytest.mark.parametrize("value", ["n75abc123kling3", "a", "...", "-._~:@!$&'()*+,;=", "x" * 128])
def test_a_sound_task_id(value: str) -> None:
    assert is_task_id(value)


@pytest.mark.parametrize(
    "value",
    ["", ".", "..", "a/b", "a b", "a\n", "\na", "é", "x" * 129, "a%2e", "a?", "a#", "a\\", 5, None, b"a", ["a"]],
)
def test_an_unsound_task_id(value: Any) -> None:
    assert not is_task_id(value)


# ---- JSON


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b' \n[1.5,"x",null,true]\n', [1.5, "x", None, True]),
        (b'{"a":NaN,"b":Infinity,"c":-Infinity,"d":1e999,"e":-1e999}', dict.fromkeys("abcde")),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"9" * 30, int("9" * 30)),
        (b"9" * 31, None),
        (b"9" * 100_000, None),
        (b'"\\ud800"', "\\ud800"),
        (b'{"\\uDFFF":["a\\udc00\\ud83d\\udea4b"]}', {"\\udfff": ["a\\udc00\U0001f6a4b"]}),
        (b'"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["', "[" * 40),
        (b'"\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["', '"' + "[" * 40),
        (b'"{\\\\"', "{\\"),
    ],
)
def test_json_is_read(body: bytes, value: Any) -> None:
    assert read_json(body) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a':1}",
        b'{"a":1} x',
        b"<html>",
        b"\xff\xfe{\x00}\x00",
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-32"),
        b'{"a":"\xff"}',
        b'{"a":"\x00"}',
        b'{"a":01}',
        b'{"a":1,}',
        b"undefined",
    ],
)
def test_what_is_no_json_is_refused_with_a_piece_of_it(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_json(body)
    error = caught.value
    assert error.code == "not_json"
    assert error.__context__ is None
    assert error.raw is not None
    assert len(error.raw) <= 256
    assert error.raw.isprintable()


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b'["]",'])
def test_json_that_is_too_deep_is_refused(opening: bytes) -> None:
    for body in (opening * (MAX_DEPTH + 1), opening * 100_000):
        with pytest.raises(ProtocolError) as caught:
            read_json(body)
        assert caught.value.code == "too_deep"


def test_json_may_be_wide() -> None:
    assert read_json(b"[" + b"{}," * 1000 + b"{}]") == [{}] * 1001


def test_a_text_without_an_end_is_read_in_a_time_that_grows_with_its_length_only() -> None:
    """Read quadratically, this body would outlast the time limit of the test run."""
    with pytest.raises(ProtocolError):
        read_json(b"[]" * (MAX_DEPTH + 1) + b'"' + b'\\"' * 500_000)


@given(st.binary(max_size=100))
def test_any_bytes_are_json_or_a_protocol_error(body: bytes) -> None:
    try:
        value = read_json(body)
    except ProtocolError:
        return
    assert json.dumps(value, allow_nan=False)


def test_an_excerpt_is_bounded_and_printable() -> None:
    excerpt = HttpResponse(500, body=b"\x1b[31m\xff" + b"x" * 10_000).excerpt()
    assert len(excerpt) <= 512
    assert excerpt.isprintable()
