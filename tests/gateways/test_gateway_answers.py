"""What the adapters read from answers written by hand from the gateways' documents."""

import tomllib
from decimal import Decimal
from typing import Any

import pytest
from gateway_answers import BODIES, GATEWAYS, Case, answered, cases

from kling_async import errors
from kling_async.errors import KlingError, ProtocolError
from kling_async.gateways import HttpResponse
from kling_async.gateways.refusals import error_class

CASES = list(cases())
NO_ANSWER = sorted(path for path in (BODIES / "any").iterdir())


def _facts(found: Any) -> Any:
    """Where a case's facts are: a submit's are in its snapshot, beside the id."""
    return getattr(found, "snapshot", None) or found


def _told(found: Any, name: str) -> Any:
    value = getattr(found, name) if hasattr(found, name) else getattr(_facts(found), name)
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Decimal) else value


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_answer_is_read_as_the_documents_mean_it(case: Case) -> None:
    response = HttpResponse(case.http, case.headers, case.body, case.retry_after)
    expected = dict(case.expected)
    if "error" in expected:
        kind = getattr(errors, expected.pop("error"))
        with pytest.raises(KlingError) as caught:
            answered(case.gateway, case.of, response)
        error = caught.value
        assert type(error) is kind
        assert (error.gateway, error.http_status or case.http, error.retry_after) == (
            case.gateway,
            case.http,
            case.retry_after,
        )
        assert error.task_id == expected.pop("error_task_id", error.task_id)
        assert {name: getattr(error, name) for name in expected} == expected
        return
    found = answered(case.gateway, case.of, response)
    for name in expected.pop("no", ()):
        assert _told(found, name) is None
    if "url" in expected:
        assert found == expected.pop("url")
    assert {name: _told(found, name) for name in expected} == expected


def test_every_body_is_somebodys_case() -> None:
    used = {
        path.parent / row["file"]
        for path in BODIES.glob("*/cases.toml")
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["case"]
        if "file" in row
    }
    kept = {path for name in GATEWAYS for path in (BODIES / name).iterdir() if path.name != "cases.toml"}
    assert used == kept


@pytest.mark.parametrize("http", [200, 201, 202])
@pytest.mark.parametrize("path", NO_ANSWER, ids=lambda path: path.name)
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_a_submit_whose_answer_is_no_answer_is_in_doubt(gateway: str, path: Any, http: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        answered(gateway, "submit", HttpResponse(http, body=path.read_bytes()))
    error = caught.value
    assert (error.http_status, error.charged, error.gateway) == (http, "unknown", gateway)
    assert error.task_id is None
    assert len(error.raw or "") <= 512


@pytest.mark.parametrize("http", [500, 502, 503, 504, 520, 529, 301, 302, 307, 408])
@pytest.mark.parametrize("path", NO_ANSWER, ids=lambda path: path.name)
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_trouble_of_any_shape_on_a_submit_is_in_doubt(gateway: str, path: Any, http: int) -> None:
    with pytest.raises(errors.GatewayUnavailableError) as caught:
        answered(gateway, "submit", HttpResponse(http, body=path.read_bytes()))
    assert (caught.value.http_status, caught.value.charged) == (http, "unknown")


@pytest.mark.parametrize(
    ("http", "kind"),
    [
        (400, errors.InvalidRequestError),
        (401, errors.AuthenticationError),
        (402, errors.InsufficientCreditsError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.InvalidRequestError),
        (413, errors.InvalidRequestError),
        (429, errors.RateLimitError),
    ],
)
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_a_refusal_without_a_readable_word_is_judged_by_its_status(
    gateway: str, http: int, kind: type[KlingError]
) -> None:
    for body in (b"", b"<html>", b"[]", b"null", b"{}"):
        with pytest.raises(KlingError) as caught:
            answered(gateway, "submit", HttpResponse(http, body=body))
        assert type(caught.value) is kind
        assert (caught.value.code, caught.value.http_status, caught.value.charged) == (f"HTTP_{http}", http, "no")


WORDS = [
    (400, "INVALID_PROMPT", errors.InvalidRequestError),
    (400, "INVALID_DURATION", errors.InvalidRequestError),
    (400, "INVALID_TYPE", errors.InvalidRequestError),
    (400, "MISSING_IMAGE", errors.InvalidRequestError),
    (400, "MISSING_VIDEO", errors.InvalidRequestError),
    (401, "INVALID_API_KEY", errors.AuthenticationError),
    (402, "INSUFFICIENT_CREDITS", errors.InsufficientCreditsError),
    (429, "RATE_LIMITED", errors.RateLimitError),
    (500, "INTERNAL_ERROR", errors.GatewayUnavailableError),
]
SHAPES = [
    '{"code":"WORD","message":"in words"}',
    '{"code":STATUS,"message":"WORD"}',
    '{"code":STATUS,"message":"in words","error":"WORD"}',
    '{"error":{"code":"WORD","message":"in words"}}',
    '{"code":STATUS,"message":"in words","error_code":"WORD","data":null}',
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("status", "word", "kind"), WORDS)
@pytest.mark.parametrize("of", ["submit", "poll"])
@pytest.mark.parametrize("in_a_200", [False, True])
def test_every_documented_error_of_kling3api_is_known_in_every_shape(
    of: str, status: int, word: str, kind: type[KlingError], shape: str, in_a_200: bool
) -> None:
    http = 200 if in_a_200 else status
    body = shape.replace("WORD", word).replace("STATUS", str(status)).encode()
    with pytest.raises(KlingError) as caught:
        answered("kling3api", of, HttpResponse(http, body=body))
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.http_status) == (word, http)
    assert caught.value.message == (word if '"message":"WORD"' in shape else "in words")


STATUS_WORDS = {
    "in_progress": "submitted pending queued queueing queuing waiting in_queue starting created staged not_started "
    "not_start in_progress processing running generating started",
    "succeeded": "success succeed succeeded completed complete finished done",
    "failed": "failed fail failure error rejected cancelled canceled aborted cancel expired timeout timed_out",
}


@pytest.mark.parametrize(("status", "word"), [(s, w) for s, words in STATUS_WORDS.items() for w in words.split()])
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_a_status_is_known_in_every_spelling(gateway: str, status: str, word: str) -> None:
    spellings = {word, word.upper(), word.title(), f" {word} ", word.replace("_", "-"), word.replace("_", " ")}
    for spelling in spellings:
        said = f'{{"status":"{spelling}"}}'
        body = said if gateway == "klinggenerator" else f'{{"code":200,"data":{said}}}'
        snapshot = answered(gateway, "poll", HttpResponse(200, body=body.encode()))
        assert snapshot.status == status
        assert snapshot.raw_status == spelling.strip()
        assert (snapshot.code is not None) == (status == "failed")


@pytest.mark.parametrize(
    "raw",
    [
        '"../../v1/balance"',
        '".."',
        '"."',
        '"a/b"',
        '"a?b=1"',
        '"a#b"',
        '"a%2fb"',
        '"a b"',
        '"a\\r\\nAuthorization: x"',
        '"a\\u0000"',
        '"\\u001b[31mred"',
        '"\\u202etfel"',
        '"\\ud800"',
        '"n75\\u00e9"',
        '"' + "a" * 129 + '"',
        '"' + "a" * 100_000 + '"',
        "true",
        "1.5",
        '["n75abc"]',
        '{"id":"n75abc"}',
    ],
)
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_an_id_that_could_be_a_weapon_is_quarantined(gateway: str, raw: str) -> None:
    body = f'{{"code":200,"data":{{"task_id":{raw},"job_id":{raw}}}}}'
    with pytest.raises(ProtocolError) as caught:
        answered(gateway, "submit", HttpResponse(200, body=body.encode()))
    error = caught.value
    assert (error.code, error.task_id, error.charged, error.http_status) == ("bad_task_id", None, "unknown", 200)
    assert error.raw
    assert error.raw.removesuffix("…").isascii()
    assert error.raw.isprintable()
    assert len(error.raw) <= 200


@pytest.mark.parametrize("raw", ["null", '""', "NaN", "1e999", "9" * 60])
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_an_id_that_says_nothing_is_no_id(gateway: str, raw: str) -> None:
    body = f'{{"code":200,"data":{{"task_id":{raw},"job_id":{raw}}}}}'
    with pytest.raises(ProtocolError) as caught:
        answered(gateway, "submit", HttpResponse(200, body=body.encode()))
    assert caught.value.code == "no_task_id"


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_an_id_of_128_characters_is_sound(gateway: str) -> None:
    body = f'{{"code":200,"data":{{"task_id":"{"a" * 128}"}}}}'
    assert answered(gateway, "submit", HttpResponse(200, body=body.encode())).task_id == "a" * 128


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize("place", ["request", "input", "params", "prompt", "image", "metadata"])
def test_no_url_is_taken_from_where_the_request_is_echoed(gateway: str, place: str) -> None:
    mine = "https://example.com/mine.mp4"
    said = (
        f'{{"status":"completed","{place}":{{"url":"{mine}","video_url":"{mine}","videos":["{mine}"],"x":["{mine}"]}}}}'
    )
    body = said if gateway == "klinggenerator" else f'{{"code":200,"data":{said}}}'
    snapshot = answered(gateway, "poll", HttpResponse(200, body=body.encode()))
    assert (snapshot.status, snapshot.urls) == ("succeeded", ())


def test_a_result_of_ten_thousand_urls_is_bounded() -> None:
    many = ",".join(f'"https://cdn.example.com/{number}.mp4"' for number in range(10_000))
    body = f'{{"code":200,"data":{{"status":"SUCCESS","response":[{many}]}}}}'
    urls = answered("kling3api", "poll", HttpResponse(200, body=body.encode())).urls
    assert len(urls) == 64
    assert urls[0] == "https://cdn.example.com/0.mp4"


def test_a_url_that_is_longer_than_any_is_dropped() -> None:
    body = f'{{"code":200,"data":{{"status":"SUCCESS","response":["https://e.com/{"a" * 9000}"]}}}}'
    assert answered("kling3api", "poll", HttpResponse(200, body=body.encode())).urls == ()


def test_what_the_gateway_says_is_bounded_and_printable() -> None:
    nasty = "\\u001b]0;owned\\u0007\\u202e" + "x" * 50_000
    body = f'{{"code":"{nasty}","message":"{nasty}","request_id":"{nasty}"}}'
    with pytest.raises(KlingError) as caught:
        answered("kling3api", "submit", HttpResponse(400, {"x-request-id": "y" * 9000}, body.encode()))
    error = caught.value
    for text in (error.message, error.code, error.request_id, error.raw, str(error)):
        assert text
        assert text.isprintable()
        assert len(text) <= 4096


def test_the_request_id_of_a_header_is_kept() -> None:
    with pytest.raises(KlingError) as caught:
        answered("apiin", "submit", HttpResponse(400, {"x-request-id": "req-1"}, b"{}"))
    assert caught.value.request_id == "req-1"


@pytest.mark.parametrize("status", range(300, 600))
def test_every_status_has_a_class(status: int) -> None:
    assert issubclass(error_class(status), KlingError)
    refused = issubclass(error_class(status), errors.GatewayUnavailableError)
    assert refused == (status < 400 or status >= 500 or status == 408)
