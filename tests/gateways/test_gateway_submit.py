"""What the adapters send: the documented requests, and the documented limits before anything is sent."""

from collections.abc import Mapping
from typing import Any

import pytest
from gateway_answers import API_KEY, GATEWAYS, KEY, sent

from kling_async.gateways import HttpRequest
from kling_async.requests import (
    ImageToVideo,
    ReferenceToVideo,
    Request,
    Shot,
    Subject,
    TextToVideo,
    VideoEdit,
)

A, B, C = (f"https://example.com/{name}.jpg" for name in "abc")
FILM = "https://example.com/original-video.mp4"
TWO = (Shot("a kite over dunes", 6), Shot("it lands", 9))
KITE = Subject("element_kite", "red kite", (A, B))

DOCUMENTED: list[tuple[str, str, Request, Mapping[str, Any]]] = [
    (
        "kling3api",
        "text",
        TextToVideo("A majestic eagle soaring through clouds at sunset", duration=5, quality="pro", sound=True),
        {
            "type": "pro-text-to-video",
            "prompt": "A majestic eagle soaring through clouds at sunset",
            "duration": 5,
            "aspect_ratio": "16:9",
            "sound": True,
        },
    ),
    (
        "kling3api",
        "every field of a text-to-video",
        TextToVideo("p", duration=15, quality="std", aspect_ratio="1:1", negative_prompt="blurry", cfg_scale=0.5),
        {
            "type": "std-text-to-video",
            "prompt": "p",
            "duration": 15,
            "aspect_ratio": "1:1",
            "sound": False,
            "negative_prompt": "blurry",
            "cfg_scale": 0.5,
        },
    ),
    (
        "kling3api",
        "image",
        ImageToVideo("The character slowly turns and smiles", image=A, end_image=B, quality="pro", cfg_scale=1),
        {
            "type": "pro-image-to-video",
            "prompt": "The character slowly turns and smiles",
            "image": A,
            "end_image": B,
            "duration": 5,
            "aspect_ratio": "16:9",
            "sound": False,
            "cfg_scale": 1,
        },
    ),
    (
        "kling3api",
        "reference",
        ReferenceToVideo("The character walks", images=(A, B), quality="pro"),
        {
            "type": "o3-pro-reference-to-video",
            "prompt": "The character walks",
            "images": [A, B],
            "duration": 5,
            "aspect_ratio": "16:9",
            "sound": False,
        },
    ),
    (
        "kling3api",
        "reference to a video",
        ReferenceToVideo("x", video=FILM, sound=True, negative_prompt="n"),
        {
            "type": "o3-std-reference-to-video",
            "prompt": "x",
            "video": FILM,
            "duration": 5,
            "aspect_ratio": "16:9",
            "sound": True,
            "negative_prompt": "n",
        },
    ),
    (
        "kling3api",
        "edit",
        VideoEdit("Change the background", video=FILM, quality="pro"),
        {
            "type": "o3-pro-video-edit",
            "prompt": "Change the background",
            "video": FILM,
            "keep_original_sound": True,
        },
    ),
    (
        "kling3api",
        "silent edit",
        VideoEdit("snow", video=FILM, keep_original_sound=False),
        {"type": "o3-std-video-edit", "prompt": "snow", "video": FILM, "keep_original_sound": False},
    ),
    (
        "kling3api",
        "O3 by name",
        TextToVideo("x", model="kling-o3", duration=3),
        {"type": "o3-std-text-to-video", "prompt": "x", "duration": 3, "aspect_ratio": "16:9", "sound": False},
    ),
    (
        "kling3api",
        "O3 image by name",
        ImageToVideo("x", image=A, model="kling-o3", quality="pro"),
        {
            "type": "o3-pro-image-to-video",
            "prompt": "x",
            "image": A,
            "duration": 5,
            "aspect_ratio": "16:9",
            "sound": False,
        },
    ),
    (
        "apiin",
        "text",
        TextToVideo("A golden retriever", sound=True),
        {
            "model": "kling-3",
            "prompt": "A golden retriever",
            "mode": "std",
            "duration": 5,
            "aspect_ratio": "16:9",
            "sound": True,
        },
    ),
    (
        "apiin",
        "image",
        ImageToVideo("x", image=A, quality="pro", duration=3, aspect_ratio="9:16"),
        {
            "model": "kling-3",
            "prompt": "x",
            "mode": "pro",
            "duration": 3,
            "aspect_ratio": "9:16",
            "sound": False,
            "image": A,
        },
    ),
    (
        "apiin",
        "shots without a prompt",
        TextToVideo(shots=TWO, duration=15),
        {
            "model": "kling-3",
            "mode": "std",
            "duration": 15,
            "aspect_ratio": "16:9",
            "sound": False,
            "multi_shots": True,
            "multi_prompt": [{"prompt": "a kite over dunes", "duration": 6}, {"prompt": "it lands", "duration": 9}],
        },
    ),
    (
        "apiin",
        "subjects",
        TextToVideo("@element_kite flies", subjects=(KITE,)),
        {
            "model": "kling-3",
            "prompt": "@element_kite flies",
            "mode": "std",
            "duration": 5,
            "aspect_ratio": "16:9",
            "sound": False,
            "kling_elements": [{"name": "element_kite", "description": "red kite", "element_input_urls": [A, B]}],
        },
    ),
    (
        "klinggenerator",
        "text",
        TextToVideo("A cinematic shot of waves", duration=10, quality="pro", fps=30),
        {"prompt": "A cinematic shot of waves", "model": "kling-3", "duration": 10, "resolution": "1080p", "fps": 30},
    ),
    (
        "klinggenerator",
        "4k of two minutes",
        TextToVideo("x", duration=120, quality="4k"),
        {"prompt": "x", "model": "kling-3", "duration": 120, "resolution": "4k"},
    ),
    (
        "klinggenerator",
        "the older model",
        TextToVideo("x", model="kling-2", duration=60),
        {"prompt": "x", "model": "kling-2", "duration": 60, "resolution": "720p"},
    ),
    (
        "apimart",
        "the storyboard",
        TextToVideo(
            duration=15,
            quality="pro",
            aspect_ratio="9:16",
            sound=True,
            shots=TWO,
            subjects=(KITE,),
            negative_prompt="blurry",
            watermark=False,
        ),
        {
            "model": "kling-v3",
            "mode": "pro",
            "duration": 15,
            "aspect_ratio": "9:16",
            "audio": True,
            "multi_shot": True,
            "shot_type": "customize",
            "multi_prompt": [
                {"index": 1, "prompt": "a kite over dunes", "duration": 6},
                {"index": 2, "prompt": "it lands", "duration": 9},
            ],
            "element_list": [{"name": "element_kite", "description": "red kite", "element_input_urls": [A, B]}],
            "negative_prompt": "blurry",
            "watermark": False,
        },
    ),
    (
        "apimart",
        "first and last frame",
        ImageToVideo("x", image=A, end_image=B, quality="4k", watermark=True),
        {
            "model": "kling-v3",
            "prompt": "x",
            "mode": "4k",
            "duration": 5,
            "aspect_ratio": "16:9",
            "audio": False,
            "image_urls": [A, B],
            "watermark": True,
        },
    ),
    (
        "apimart",
        "omni references",
        ReferenceToVideo("x", images=(A, B, C)),
        {
            "model": "kling-v3-omni",
            "prompt": "x",
            "mode": "std",
            "duration": 5,
            "aspect_ratio": "16:9",
            "audio": False,
            "image_with_roles": [{"url": url, "role": "reference"} for url in (A, B, C)],
        },
    ),
    (
        "apimart",
        "omni with a video: no field for sound, which excludes it",
        ReferenceToVideo("x", video=FILM),
        {
            "model": "kling-v3-omni",
            "prompt": "x",
            "mode": "std",
            "duration": 5,
            "aspect_ratio": "16:9",
            "video_list": [{"video_url": FILM, "refer_type": "feature"}],
        },
    ),
    (
        "apimart",
        "omni frames",
        ImageToVideo("x", model="kling-o3", image=A, end_image=B),
        {
            "model": "kling-v3-omni",
            "prompt": "x",
            "mode": "std",
            "duration": 5,
            "aspect_ratio": "16:9",
            "audio": False,
            "image_with_roles": [{"url": A, "role": "first_frame"}, {"url": B, "role": "last_frame"}],
        },
    ),
    (
        "apimart",
        "omni edit",
        VideoEdit("snow", video=FILM, keep_original_sound=False, quality="pro"),
        {
            "model": "kling-v3-omni",
            "prompt": "snow",
            "mode": "pro",
            "video_list": [{"video_url": FILM, "refer_type": "base", "keep_original_sound": "no"}],
        },
    ),
    (
        "apimart",
        "turbo",
        TextToVideo("x", model="kling-3.0-turbo", quality="pro", duration=3, aspect_ratio="9:16", watermark=True),
        {
            "model": "kling-3.0-turbo",
            "prompt": "x",
            "resolution": "1080p",
            "duration": 3,
            "aspect_ratio": "9:16",
            "watermark": True,
        },
    ),
    (
        "apimart",
        "turbo with a first frame: the ratio is the picture's",
        ImageToVideo("x", model="kling-3.0-turbo", image=A),
        {"model": "kling-3.0-turbo", "prompt": "x", "resolution": "720p", "duration": 5, "first_frame_image": A},
    ),
    (
        "apimart",
        "2.6",
        TextToVideo("x", model="kling-2.6", quality="pro", duration=10, sound=True),
        {
            "model": "kling-v2-6",
            "prompt": "x",
            "mode": "pro",
            "duration": 10,
            "aspect_ratio": "16:9",
            "audio": True,
        },
    ),
]
PATHS = {
    "kling3api": "/api/generate",
    "apiin": "/api/v1/videos/generations",
    "klinggenerator": "/v1/generate",
    "apimart": "/v1/videos/generations",
}


@pytest.mark.parametrize(
    ("gateway", "request_", "body"),
    [row[0:1] + row[2:] for row in DOCUMENTED],
    ids=[f"{row[0]}: {row[1]}" for row in DOCUMENTED],
)
def test_a_request_is_sent_as_documented(gateway: str, request_: Request, body: Mapping[str, Any]) -> None:
    asked = sent(gateway, request_)
    assert (asked.method, asked.path, asked.query, asked.parts) == ("POST", PATHS[gateway], {}, ())
    assert asked.json == body
    assert asked.headers == ({"Idempotency-Key": KEY} if gateway == "apimart" else {})


def test_a_number_is_a_bare_number_and_text_is_utf_8_in_the_body() -> None:
    body = sent("apimart", TextToVideo("雨の中の紙の船 🚤", duration=6)).body()
    assert body is not None
    assert b'"duration":6,' in body
    assert "雨の中の紙の船 🚤".encode() in body


POLLS = {
    "kling3api": "https://kling3api.com/api/status?task_id=",
    "apiin": "https://apiin.one/api/v1/tasks/",
    "klinggenerator": "https://api.klinggenerator.com/v1/jobs/",
    "apimart": "https://api.apimart.ai/v1/tasks/",
}


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize(
    ("task_id", "encoded"),
    [
        ("n75abc123kling3", "n75abc123kling3"),
        ("task_01J9HA7JPQ9A0Z6JZ3V8M9W6PZ", "task_01J9HA7JPQ9A0Z6JZ3V8M9W6PZ"),
        ("-._~", "-._~"),
        (":@!$&'()*+,;=", "%3A%40%21%24%26%27%28%29%2A%2B%2C%3B%3D"),
        ("a/b?c#d e%2f", "a%2Fb%3Fc%23d%20e%252f"),
    ],
)
def test_a_look_names_the_job_percent_encoded(gateway: str, task_id: str, encoded: str) -> None:
    asked = next(GATEWAYS[gateway].poll([task_id]))
    assert (asked.method, asked.json, asked.headers) == ("GET", None, {})
    assert asked.url(GATEWAYS[gateway].base_url) == POLLS[gateway] + encoded
    assert asked.url(GATEWAYS[gateway].base_url + "/") == POLLS[gateway] + encoded


def test_the_balance_and_an_upload_are_asked_as_documented() -> None:
    adapter = GATEWAYS["apimart"]
    balance, upload = adapter.balance(), adapter.upload("a.jpg", "image/jpeg", b"\xff\xd8")
    assert balance is not None
    assert upload is not None
    assert next(balance) == HttpRequest("GET", "/v1/balance")
    asked = next(upload)
    assert (asked.method, asked.path, asked.json) == ("POST", "/v1/uploads/images", None)
    assert [(part.name, part.filename, part.content_type, part.data) for part in asked.parts] == [
        ("file", "a.jpg", "image/jpeg", b"\xff\xd8")
    ]


@pytest.mark.parametrize("gateway", ["kling3api", "apiin", "klinggenerator"])
def test_what_a_gateway_does_not_document_is_not_offered(gateway: str) -> None:
    adapter = GATEWAYS[gateway]
    offered = (adapter.find(KEY), adapter.cancel("x"), adapter.balance(), adapter.upload("a", "image/png", b""))
    assert offered == (None, None, None, None)
    assert adapter.dedupes_by_key is False


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_the_key_appears_only_after_authorize(gateway: str) -> None:
    adapter = GATEWAYS[gateway]
    for asked in (sent(gateway, TextToVideo("x")), next(adapter.poll(["job-1"]))):
        before = repr(asked) + repr(dict(asked.headers)) + repr(asked.json)
        assert API_KEY not in before
        allowed = adapter.authorize(asked, 1_770_000_000.0)
        assert allowed.headers == {**asked.headers, "Authorization": f"Bearer {API_KEY}"}
        assert (allowed.method, allowed.path, allowed.query, allowed.json) == (
            asked.method,
            asked.path,
            asked.query,
            asked.json,
        )
        assert API_KEY not in repr(allowed)
        assert "Authorization" not in asked.headers


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_what_costs_money_is_always_sent(gateway: str) -> None:
    body = sent(gateway, TextToVideo("x")).json
    assert body is not None
    assert body["duration"] == 5
    quality = {"kling3api": ("type", "std-text-to-video"), "klinggenerator": ("resolution", "720p")}
    name, value = quality.get(gateway, ("mode", "std"))
    assert body[name] == value
    sound = {"kling3api": "sound", "apiin": "sound", "apimart": "audio"}.get(gateway)
    assert sound is None or body[sound] is False
    assert None not in body.values()


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_extra_is_merged_last_and_may_override(gateway: str) -> None:
    body = sent(gateway, TextToVideo("x", extra={"duration": 7, "new_field": [1, {"a": None}], "prompt": None})).json
    assert body is not None
    assert (body["duration"], body["new_field"], body["prompt"]) == (7, [1, {"a": None}], None)
