"""The apiin.one dialect, against its published page."""

import re

import pytest

PATH = "/api/v1/videos/generations"
TEXT = {"model": "kling-3", "prompt": "a dog"}


def test_a_submit_is_answered_as_documented(caller):
    status, answer = caller.post(PATH, TEXT | {"mode": "std", "duration": 5, "aspect_ratio": "16:9", "sound": True})
    task_id = answer["data"]["task_id"]
    assert status == 200
    assert answer == {"code": 200, "message": "success", "data": {"task_id": task_id, "status": "IN_PROGRESS"}}
    assert re.fullmatch(r"n75[0-9a-z]+_kling3", task_id)


def test_a_finished_task_has_its_video_in_the_response(caller):
    task_id = caller.post(PATH, TEXT)[1]["data"]["task_id"]
    data = caller.get(f"/api/v1/tasks/{task_id}", 100)[1]["data"]
    assert (data["status"], data["task_id"]) == ("SUCCESS", task_id)
    assert data["response"] == [f"http://127.0.0.1/_sandbox/videos/{task_id}.mp4"]


def test_a_failed_task_says_why(caller):
    task_id = caller.post(PATH, TEXT | {"prompt": "[sandbox: fail no]"})[1]["data"]["task_id"]
    data = caller.get(f"/api/v1/tasks/{task_id}", 100)[1]["data"]
    assert (data["status"], data["error_message"], data["consumed_credits"]) == ("FAILED", "no", 0)


@pytest.mark.parametrize(
    ("more", "price"),
    [
        ({}, 300),
        ({"sound": False}, 200),
        ({"mode": "pro"}, 400),
        ({"mode": "pro", "sound": False}, 270),
        ({"mode": "std", "sound": False, "duration": 3}, 120),
        ({"mode": "pro", "duration": 15}, 1200),
        ({"image": "https://example.com/i.jpg"}, 300),
    ],
)
def test_the_published_formula_is_charged(caller, more, price):
    assert caller.post(PATH, TEXT | more)[0] == 200
    assert caller.box.ledger.charged == price


def test_shots_stand_in_for_the_prompt(caller):
    shots = [{"prompt": "one", "duration": 3}, {"prompt": "two", "duration": 2}]
    assert caller.post(PATH, {"model": "kling-3", "multi_shots": True, "multi_prompt": shots})[0] == 200
    assert caller.box.ledger.submits[0].prompt == "one / two"


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x"},
        TEXT | {"model": "kling-2"},
        {"model": "kling-3"},
        TEXT | {"prompt": "x" * 2501},
        TEXT | {"mode": "4k"},
        TEXT | {"duration": 16},
        TEXT | {"duration": 2},
        TEXT | {"duration": "5"},
        TEXT | {"aspect_ratio": "4:3"},
        TEXT | {"sound": 1},
        TEXT | {"image": ["https://example.com/i.jpg"]},
        {"model": "kling-3", "multi_shots": True},
        {"model": "kling-3", "multi_shots": True, "multi_prompt": [{"prompt": "x"}]},
        TEXT | {"kling_elements": "x"},
    ],
)
def test_a_bad_request_is_refused_in_the_documented_envelope(caller, body):
    status, answer = caller.post(PATH, body)
    assert status == 400
    assert set(answer) == {"error"}
    assert (answer["error"]["code"], answer["error"]["type"]) == (400, "invalid_request")


def test_the_code_of_an_error_is_its_http_status(caller_of, caller):
    status, answer = caller_of(caller.box, key="").post(PATH, TEXT)
    assert (status, answer["error"]["code"], answer["error"]["type"]) == (401, 401, "authentication_error")
