"""The documented limits, refused before anything is sent, and the published prices."""

from decimal import Decimal

import pytest
from gateway_answers import GATEWAYS, sent

from kling_async.errors import InvalidRequestError, UnsupportedError
from kling_async.gateways import Cost
from kling_async.requests import ImageToVideo, ReferenceToVideo, Request, Shot, Subject, TextToVideo, VideoEdit

A, B, C = (f"https://example.com/{name}.jpg" for name in "abc")
FILM = "https://example.com/original-video.mp4"
TWO = (Shot("a kite over dunes", 6), Shot("it lands", 9))
KITE = Subject("element_kite", "red kite", (A, B))
BAD, NO, ODD = InvalidRequestError, UnsupportedError, "INVALID_PARAMETER"
LONG = "🚤"


def _shots(count: int, text: str = "x") -> tuple[Shot, ...]:
    return tuple(Shot(text, 1) for _ in range(count))


REFUSED: list[tuple[str, Request, type[InvalidRequestError], str, str]] = [
    ("kling3api", TextToVideo(LONG * 2001), BAD, "INVALID_PROMPT", "prompt"),
    ("apiin", TextToVideo(LONG * 2501), BAD, "INVALID_PROMPT", "prompt"),
    ("apimart", TextToVideo(LONG * 2501, model="kling-o3"), BAD, "INVALID_PROMPT", "prompt"),
    ("apimart", TextToVideo(LONG * 2501, model="kling-2.6"), BAD, "INVALID_PROMPT", "prompt"),
    ("apimart", TextToVideo(LONG * 3073, model="kling-3.0-turbo"), BAD, "INVALID_PROMPT", "prompt"),
    ("apimart", TextToVideo("x", negative_prompt="x" * 2501, model="kling-o3"), BAD, ODD, "negative_prompt"),
    ("kling3api", TextToVideo("x", duration=16), BAD, "INVALID_DURATION", "duration"),
    ("apiin", TextToVideo("x", duration=16), BAD, "INVALID_DURATION", "duration"),
    ("apimart", TextToVideo("x", duration=16), BAD, "INVALID_DURATION", "duration"),
    ("klinggenerator", TextToVideo("x", duration=4), BAD, "INVALID_DURATION", "duration"),
    ("klinggenerator", TextToVideo("x", duration=61, model="kling-2"), BAD, "INVALID_DURATION", "duration"),
    ("apimart", TextToVideo("x", duration=6, model="kling-2.6"), BAD, "INVALID_DURATION", "duration"),
    ("kling3api", ReferenceToVideo("x", images=(A,) * 8), BAD, ODD, "images"),
    ("apimart", TextToVideo(shots=_shots(7), duration=7), BAD, ODD, "shots"),
    ("apimart", TextToVideo(shots=_shots(5, LONG * 513)), BAD, "INVALID_PROMPT", "shots"),
    ("apimart", TextToVideo(shots=_shots(4)), BAD, "INVALID_DURATION", "shots"),
    ("apiin", TextToVideo(shots=_shots(6)), BAD, "INVALID_DURATION", "shots"),
    ("apimart", TextToVideo("x", subjects=(KITE,) * 4), BAD, ODD, "subjects"),
    ("apimart", TextToVideo("x", subjects=(Subject("a", "b", (A,)),)), BAD, ODD, "subjects"),
    ("apimart", TextToVideo("x", subjects=(Subject("a", "b", (A,) * 5),)), BAD, ODD, "subjects"),
    ("klinggenerator", TextToVideo("x", fps=25), BAD, ODD, "fps"),
    ("kling3api", ImageToVideo("x", image="http://localhost:1/a.jpg"), BAD, ODD, "image"),
    ("apimart", ImageToVideo("x", image=A, end_image="http://127.0.0.1/a.jpg"), BAD, ODD, "end_image"),
    ("apiin", TextToVideo("x", subjects=(Subject("a", "b", (A, "http://10.0.0.1/a.jpg")),)), BAD, ODD, "subjects"),
    ("kling3api", ImageToVideo("x", image="data:image/png;base64,AAAA"), NO, ODD, "image"),
    ("kling3api", TextToVideo("x", quality="4k"), NO, ODD, "quality"),
    ("kling3api", TextToVideo("x", shots=TWO, duration=15), NO, ODD, "shots"),
    ("kling3api", TextToVideo("x", subjects=(KITE,)), NO, ODD, "subjects"),
    ("kling3api", TextToVideo("x", watermark=False), NO, ODD, "watermark"),
    ("kling3api", TextToVideo("x", fps=24), NO, ODD, "fps"),
    ("kling3api", TextToVideo("x", model="kling-o3", cfg_scale=0.5), NO, ODD, "cfg_scale"),
    ("kling3api", ReferenceToVideo("x", images=(A,), cfg_scale=0.5), NO, ODD, "cfg_scale"),
    ("kling3api", TextToVideo("x", model="kling-2"), NO, "INVALID_TYPE", "model"),
    ("kling3api", ReferenceToVideo("x", images=(A,), model="kling-3.0"), NO, "INVALID_TYPE", "model"),
    ("apiin", TextToVideo("x", quality="4k"), NO, ODD, "quality"),
    ("apiin", TextToVideo("x", negative_prompt="n"), NO, ODD, "negative_prompt"),
    ("apiin", TextToVideo("x", cfg_scale=0.0), NO, ODD, "cfg_scale"),
    ("apiin", TextToVideo("x", fps=24), NO, ODD, "fps"),
    ("apiin", TextToVideo("x", watermark=True), NO, ODD, "watermark"),
    ("apiin", TextToVideo("x", model="kling-o3"), NO, "INVALID_TYPE", "model"),
    ("apiin", ImageToVideo("x", image=A, end_image=B), NO, ODD, "end_image"),
    ("apiin", ReferenceToVideo("x", images=(A,)), NO, "INVALID_TYPE", "type"),
    ("apiin", VideoEdit("x", video=FILM), NO, "INVALID_TYPE", "type"),
    ("klinggenerator", TextToVideo("x", sound=True), NO, ODD, "sound"),
    ("klinggenerator", TextToVideo("x", aspect_ratio="1:1"), NO, ODD, "aspect_ratio"),
    ("klinggenerator", TextToVideo("x", negative_prompt=""), NO, ODD, "negative_prompt"),
    ("klinggenerator", TextToVideo("x", cfg_scale=1), NO, ODD, "cfg_scale"),
    ("klinggenerator", TextToVideo("x", subjects=(KITE,)), NO, ODD, "subjects"),
    ("klinggenerator", TextToVideo("x", watermark=False), NO, ODD, "watermark"),
    ("klinggenerator", TextToVideo(shots=TWO, duration=15), NO, ODD, "shots"),
    ("klinggenerator", TextToVideo("x", model="kling-2", quality="4k"), NO, ODD, "quality"),
    ("klinggenerator", TextToVideo("x", model="kling-o3"), NO, "INVALID_TYPE", "model"),
    ("klinggenerator", ImageToVideo("x", image=A), NO, "INVALID_TYPE", "type"),
    ("apimart", TextToVideo("x", cfg_scale=0.5), NO, ODD, "cfg_scale"),
    ("apimart", TextToVideo("x", fps=24), NO, ODD, "fps"),
    ("apimart", TextToVideo("x", model="kling-2"), NO, "INVALID_TYPE", "model"),
    ("apimart", ReferenceToVideo("x", images=(A,), model="kling-2.6"), NO, "INVALID_TYPE", "model"),
    ("apimart", ReferenceToVideo("x", video=FILM, sound=True), NO, ODD, "sound"),
    ("apimart", TextToVideo("x", model="kling-2.6", sound=True), NO, ODD, "sound"),
    ("apimart", TextToVideo("x", model="kling-2.6", quality="4k"), NO, ODD, "quality"),
    ("apimart", TextToVideo("x", model="kling-3.0-turbo", sound=True), NO, ODD, "sound"),
    ("apimart", TextToVideo("x", model="kling-3.0-turbo", quality="4k"), NO, ODD, "quality"),
    ("apimart", ImageToVideo("x", model="kling-3.0-turbo", image=A, aspect_ratio="9:16"), NO, ODD, "aspect_ratio"),
    ("apimart", ImageToVideo("x", model="kling-3.0-turbo", image=A, end_image=B), NO, ODD, "end_image"),
]


@pytest.mark.parametrize(
    ("gateway", "request_", "kind", "code", "field"),
    REFUSED,
    ids=[f"{row[0]}-{row[4]}-{number}" for number, row in enumerate(REFUSED)],
)
def test_what_a_gateway_cannot_take_is_refused_before_anything_is_sent(
    gateway: str, request_: Request, kind: type[InvalidRequestError], code: str, field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        sent(gateway, request_)
    error = caught.value
    assert (type(error), error.code, error.field) == (kind, code, field)
    assert (error.gateway, error.stage, error.charged, error.http_status) == (gateway, "validate", "no", None)
    if kind is UnsupportedError:
        assert gateway in str(error)


TAKEN: list[tuple[str, Request]] = [
    ("kling3api", TextToVideo(LONG * 2000)),
    ("kling3api", ReferenceToVideo("x", images=(A,) * 7, video=FILM)),
    ("kling3api", TextToVideo("x", duration=15)),
    ("kling3api", TextToVideo("x", duration=3)),
    ("apiin", TextToVideo(LONG * 2500)),
    ("klinggenerator", TextToVideo(LONG * 100_000, duration=120)),
    ("klinggenerator", TextToVideo("x", fps=60)),
    ("apimart", TextToVideo(LONG * 10_000)),
    ("apimart", TextToVideo(LONG * 3072, model="kling-3.0-turbo")),
    ("apimart", TextToVideo(LONG * 2500, model="kling-o3")),
    ("apimart", TextToVideo(shots=_shots(6, LONG * 512), duration=6)),
    ("apimart", TextToVideo("x", subjects=(KITE, KITE, Subject("a", "b", (A, B, C, A))))),
    ("kling3api", ImageToVideo("x", image="https://example.com:8443/a%20b.jpg?token=1")),
]


@pytest.mark.parametrize(("gateway", "request_"), TAKEN, ids=[f"{row[0]}-{n}" for n, row in enumerate(TAKEN)])
def test_what_just_fits_is_sent(gateway: str, request_: Request) -> None:
    assert sent(gateway, request_).body()


@pytest.mark.parametrize("key", ["", "a b", "é", "a\r\nX-Evil: 1", "x" * 192])
def test_a_key_that_is_no_header_value_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        next(GATEWAYS["apimart"].submit(TextToVideo("x"), key))
    assert caught.value.field == "key"


@pytest.mark.parametrize(
    ("content_type", "data"), [("image/tiff", b"x"), ("text/html", b"x"), ("image/png", bytes(20_000_001))]
)
def test_an_upload_that_apimart_does_not_take_is_refused_before_it_is_sent(content_type: str, data: bytes) -> None:
    upload = GATEWAYS["apimart"].upload("a.bin", content_type, data)
    assert upload is not None
    with pytest.raises(InvalidRequestError) as caught:
        next(upload)
    assert (caught.value.field, caught.value.stage) == ("file", "validate")


# ---- prices

PRICES: list[tuple[str, Request, int | None]] = [
    ("kling3api", TextToVideo("x", quality="pro"), 270),
    ("kling3api", TextToVideo("x", quality="pro", sound=True), 400),
    ("kling3api", TextToVideo("x"), 200),
    ("kling3api", TextToVideo("x", sound=True, duration=10), 600),
    ("kling3api", ImageToVideo("x", image=A, quality="pro", sound=True), 400),
    ("kling3api", ImageToVideo("x", image=A, duration=3), 120),
    ("kling3api", TextToVideo("x", model="kling-o3", quality="pro", sound=True), 240),
    ("kling3api", TextToVideo("x", model="kling-o3"), 180),
    ("kling3api", ImageToVideo("x", image=A, model="kling-o3", quality="pro"), 240),
    ("kling3api", ImageToVideo("x", image=A, model="kling-o3"), 180),
    ("kling3api", ReferenceToVideo("x", images=(A,), quality="pro"), 360),
    ("kling3api", ReferenceToVideo("x", images=(A,)), 100),
    ("kling3api", VideoEdit("x", video=FILM, quality="pro"), 435),
    ("kling3api", VideoEdit("x", video=FILM), 360),
    ("kling3api", TextToVideo("x", extra={"duration": 10}), 400),
    ("kling3api", TextToVideo("x", extra={"sound": True}), 300),
    ("kling3api", TextToVideo("x", extra={"type": "o3-pro-video-edit"}), 435),
    ("kling3api", TextToVideo("x", extra={"type": "unheard-of"}), None),
    ("kling3api", TextToVideo("x", extra={"duration": None}), None),
    ("kling3api", TextToVideo("x", extra={"duration": "10"}), None),
    ("kling3api", TextToVideo("x", extra={"duration": True}), None),
    ("kling3api", TextToVideo("x", extra={"duration": -5}), None),
    ("kling3api", TextToVideo("x", extra={"sound": "yes"}), None),
    ("kling3api", TextToVideo("x", extra={"sound": 1}), None),
    ("apiin", TextToVideo("x"), 200),
    ("apiin", TextToVideo("x", quality="pro", sound=True), 400),
    ("apiin", TextToVideo("x", sound=True), 300),
    ("apiin", TextToVideo("x", duration=3), 120),
    ("apiin", TextToVideo("x", duration=15, quality="pro", sound=True), 1200),
    ("apiin", ImageToVideo("x", image=A, quality="pro"), 270),
    ("apiin", TextToVideo("x", extra={"mode": "pro", "duration": 10}), 540),
    ("apiin", TextToVideo("x", extra={"mode": "4k"}), None),
    ("klinggenerator", TextToVideo("x"), None),
    ("apimart", TextToVideo("x"), None),
]


@pytest.mark.parametrize(
    ("gateway", "request_", "price"), PRICES, ids=[f"{row[0]}-{n}" for n, row in enumerate(PRICES)]
)
def test_the_estimate_is_the_published_price_of_what_is_sent(
    gateway: str, request_: Request, price: int | None
) -> None:
    expected = None if price is None else Cost(Decimal(price))
    assert GATEWAYS[gateway].estimate(request_) == expected
