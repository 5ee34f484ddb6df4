"""The kling3api dialect, against its published pages."""

import re

import pytest

PATH = "/api/generate"
TEXT = {"type": "pro-text-to-video", "prompt": "an eagle"}
IMAGE = "https://example.com/i.jpg"
VIDEO = "https://example.com/v.mp4"


def test_a_submit_is_answered_as_documented(caller):
    status, answer = caller.post(PATH, TEXT | {"duration": 5, "aspect_ratio": "16:9"})
    task_id = answer["data"]["task_id"]
    assert status == 200
    # 400 is the documented charge of the quick start: 5 s with audio, which is the default.
    data = {"task_id": task_id, "status": "IN_PROGRESS", "consumed_credits": 400}
    assert answer == {"code": 200, "message": "success", "data": data}
    assert re.fullmatch(r"n75[0-9a-z]+kling3", task_id)


def test_a_finished_task_is_shown_as_documented_and_its_request_without_sound(caller):
    body = TEXT | {"duration": 5, "aspect_ratio": "9:16", "sound": True}
    task_id = caller.post(PATH, body)[1]["data"]["task_id"]
    assert caller.get(f"/api/status?task_id={task_id}", 120) == (
        200,
        {
            "code": 200,
            "message": "success",
            "data": {
                "task_id": task_id,
                "status": "SUCCESS",
                "consumed_credits": 400,
                "created_at": "2026-02-02T02:40:00Z",
                "request": {
                    "type": "pro-text-to-video",
                    "prompt": "an eagle",
                    "duration": 5,
                    "aspect_ratio": "9:16",
                },
                "response": [f"http://127.0.0.1/_sandbox/videos/{task_id}.mp4"],
                "error_message": None,
                "type": "pro-text-to-video",
            },
        },
    )


def test_a_running_task_has_no_response_yet(caller):
    task_id = caller.post(PATH, TEXT)[1]["data"]["task_id"]
    data = caller.get(f"/api/status?task_id={task_id}", 45)[1]["data"]
    assert (data["status"], data["response"], data["consumed_credits"]) == ("IN_PROGRESS", None, 400)


def test_a_failed_task_says_why_and_costs_nothing(caller):
    task_id = caller.post(PATH, TEXT | {"prompt": "[sandbox: fail the sky fell]"})[1]["data"]["task_id"]
    data = caller.get(f"/api/status?task_id={task_id}", 120)[1]["data"]
    assert (data["status"], data["error_message"]) == ("FAILED", "the sky fell")
    assert (data["response"], data["consumed_credits"]) == (None, 0)


@pytest.mark.parametrize(
    ("kind", "more", "price"),
    [
        ("pro-text-to-video", {"sound": False}, 540),
        ("pro-text-to-video", {}, 800),
        ("pro-image-to-video", {"image": IMAGE, "sound": True}, 800),
        ("std-text-to-video", {"sound": False}, 400),
        ("std-image-to-video", {"image": IMAGE, "end_image": IMAGE}, 600),
        ("o3-pro-text-to-video", {"sound": True}, 480),
        ("o3-pro-image-to-video", {"image": IMAGE}, 480),
        ("o3-pro-reference-to-video", {"images": [IMAGE] * 7}, 720),
        ("o3-pro-video-edit", {"video": VIDEO, "keep_original_sound": True}, 435),
        ("o3-std-text-to-video", {}, 360),
        ("o3-std-image-to-video", {"image": IMAGE}, 360),
        ("o3-std-reference-to-video", {"video": VIDEO}, 200),
        ("o3-std-video-edit", {"video": VIDEO}, 360),
    ],
)
def test_every_type_costs_its_published_price(caller, kind, more, price):
    length = {} if kind.endswith("video-edit") else {"duration": 10}
    status, answer = caller.post(PATH, {"type": kind, "prompt": "x"} | length | more)
    assert (status, answer["data"]["consumed_credits"]) == (200, price)
    assert answer["data"]["task_id"].startswith("n71" if kind.startswith("o3") else "n75")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"type": "ultra-text-to-video"}, "INVALID_TYPE"),
        ({"type": None}, "INVALID_TYPE"),
        ({"prompt": ""}, "INVALID_PROMPT"),
        ({"prompt": "  "}, "INVALID_PROMPT"),
        ({"prompt": "x" * 2001}, "INVALID_PROMPT"),
        ({"prompt": 7}, "INVALID_PROMPT"),
        ({"duration": 2}, "INVALID_DURATION"),
        ({"duration": 16}, "INVALID_DURATION"),
        ({"duration": "5"}, "INVALID_DURATION"),
        ({"duration": True}, "INVALID_DURATION"),
        ({"duration": None}, "INVALID_DURATION"),
        ({"type": "pro-image-to-video"}, "MISSING_IMAGE"),
        ({"type": "o3-pro-reference-to-video"}, "MISSING_IMAGE"),
        ({"type": "o3-pro-video-edit"}, "MISSING_VIDEO"),
        ({"aspect_ratio": "4:3"}, "INVALID_PARAMETER"),
        ({"type": "o3-pro-reference-to-video", "images": [IMAGE] * 8}, "INVALID_PARAMETER"),
        ({"images": [IMAGE]}, "INVALID_PARAMETER"),
        ({"type": "pro-image-to-video", "image": "data:image/png;base64,AAAA"}, "INVALID_PARAMETER"),
        ({"end_image": IMAGE}, "INVALID_PARAMETER"),
        ({"video": VIDEO}, "INVALID_PARAMETER"),
        ({"cfg_scale": 1.1}, "INVALID_PARAMETER"),
        ({"type": "o3-pro-text-to-video", "cfg_scale": 0.5}, "INVALID_PARAMETER"),
        ({"sound": "true"}, "INVALID_PARAMETER"),
        ({"negative_prompt": 1}, "INVALID_PARAMETER"),
    ],
)
def test_a_bad_request_is_refused_with_the_documented_code_and_costs_nothing(caller, more, code):
    status, answer = caller.post(PATH, TEXT | more)
    assert (status, answer["code"]) == (400, code)
    assert (caller.box.ledger.charged, caller.box.ledger.accepted) == (0, 0)


def test_the_prompt_limit_counts_characters_not_bytes(caller):
    assert caller.post(PATH, TEXT | {"prompt": "语" * 2000})[0] == 200


def test_nan_is_no_duration(caller):
    assert caller.post(PATH, TEXT | {"duration": float("nan")})[1]["code"] == "INVALID_DURATION"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(caller, body):
    assert caller.call("POST", PATH, body=body).status == 400


def test_unknown_tasks_are_not_found(caller):
    assert caller.get("/api/status?task_id=n75nothingkling3")[0] == 404


def test_a_status_without_a_task_id_is_refused(caller):
    assert caller.get("/api/status")[0] == 400


def test_a_missing_key_is_refused(caller_of, caller):
    assert caller_of(caller.box, key=None).post(PATH, TEXT) == (
        401,
        {"code": "INVALID_API_KEY", "message": "API key missing or invalid"},
    )


def test_another_method_is_refused(caller):
    assert caller.get(PATH)[0] == 405
