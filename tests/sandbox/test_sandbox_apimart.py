"""The apimart dialect, against its published pages and captured answers."""

import json
import re

import pytest

from kling_async.sandbox import drop_after_accept

PATH = "/v1/videos/generations"
TEXT = {"model": "kling-v3", "prompt": "a kite"}
IMAGE = "https://example.com/i.jpg"
SHOTS = {
    "model": "kling-v3",
    "multi_shot": True,
    "shot_type": "customize",
    "duration": 15,
    "multi_prompt": [{"index": 1, "prompt": "a", "duration": 6}, {"index": 2, "prompt": "b", "duration": 9}],
}


def task_of(answer):
    return answer["data"][0]["task_id"]


def test_a_submit_is_answered_with_a_list_and_a_ulid(caller):
    status, answer = caller.post(PATH, TEXT)
    assert status == 200
    assert answer == {"code": 200, "data": [{"status": "submitted", "task_id": task_of(answer)}]}
    assert re.fullmatch(r"task_[0-9A-HJKMNP-TV-Z]{26}", task_of(answer))


def test_the_versioned_answer_is_an_object_and_echoes_the_version(caller):
    reply = caller.call("POST", PATH, body=json.dumps(TEXT).encode(), x_apimart_response_version="2026-07-27")
    data = json.loads(reply.body)["data"]
    assert (data["object"], data["status"]) == ("generation.task", "pending")
    assert data["id"].startswith("task_")
    assert reply.headers["X-APIMart-Response-Version"] == "2026-07-27"


def test_a_finished_task_is_shown_as_captured(caller):
    task_id = task_of(caller.post(PATH, TEXT)[1])
    assert caller.get(f"/v1/tasks/{task_id}?language=en", 200)[1] == {
        "code": 200,
        "data": {
            "id": task_id,
            "status": "completed",
            "progress": 100,
            "created": 1_770_000_000,
            "completed": 1_770_000_090,
            "estimated_time": 90,
            "actual_time": 90,
            "cost": 0.336,
            "credits_cost": 3.36,
            "result": {
                "videos": [
                    {
                        "url": [f"http://127.0.0.1/_sandbox/videos/{task_id}.mp4"],
                        "expires_at": 1_770_000_090 + 86_400,
                    }
                ]
            },
        },
    }


def test_a_task_is_pending_then_processing_then_completed(caller):
    task_id = task_of(caller.post(PATH, TEXT)[1])
    seen = [caller.get(f"/v1/tasks/{task_id}", now)[1]["data"]["status"] for now in (0, 45, 90)]
    assert seen == ["pending", "processing", "completed"]


def test_a_failed_task_hides_its_reason_in_a_json_document_inside_a_string(caller):
    task_id = task_of(caller.post(PATH, TEXT | {"prompt": "[sandbox: fail gone]"})[1])
    status, answer = caller.get(f"/v1/tasks/{task_id}", 200)
    data = answer["data"]
    assert (status, answer["code"], data["status"], data["credits_cost"]) == (200, 200, "failed", 0)
    assert json.loads(data["error"]["message"])["error"]["message"] == "gone"
    assert (data["error"]["code"], data["error"]["type"]) == ("task_failed", "task_failed")


@pytest.mark.parametrize(
    ("more", "milli"),
    [({}, 3360), ({"mode": "pro"}, 4480), ({"mode": "4k"}, 21428), ({"audio": True}, 5040), ({"duration": 15}, 10080)],
)
def test_ten_credits_are_a_dollar(caller, more, milli):
    assert caller.post(PATH, TEXT | more)[0] == 200
    assert caller.box.ledger.charged == milli / 1000


@pytest.mark.parametrize(
    "body",
    [
        TEXT | {"image_urls": [IMAGE, IMAGE], "negative_prompt": "blurry", "watermark": False},
        SHOTS,
        {k: v for k, v in SHOTS.items() if k != "multi_prompt"} | {"shot_type": "intelligence", "prompt": "p"},
        TEXT | {"element_list": [{"name": "n", "description": "d", "element_input_urls": [IMAGE, IMAGE]}]},
        {"model": "kling-v3-omni", "prompt": "p", "video_list": [{"video_url": IMAGE}]},
        {"model": "kling-3.0-turbo", "prompt": "p" * 3072, "resolution": "1080p"},
        {"model": "kling-v2-6", "prompt": "p", "duration": 10, "mode": "pro", "audio": True},
    ],
)
def test_documented_requests_are_accepted(caller, body):
    assert caller.post(PATH, body)[0] == 200


def shot(**changes):
    return SHOTS | {"multi_prompt": [SHOTS["multi_prompt"][0], SHOTS["multi_prompt"][1] | changes]}


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x"},
        TEXT | {"model": "sora"},
        {"model": "kling-v3"},
        TEXT | {"duration": "5"},
        TEXT | {"duration": 2},
        TEXT | {"duration": 16},
        TEXT | {"duration": 5.5},
        TEXT | {"mode": "max"},
        TEXT | {"aspect_ratio": "4:3"},
        TEXT | {"image_urls": [IMAGE] * 3},
        TEXT | {"image_urls": []},
        TEXT | {"image_urls": ["data:image/png;base64,AA"]},
        TEXT | {"audio": "yes"},
        TEXT | {"element_list": [{"name": "n", "description": "d", "element_input_urls": [IMAGE]}]},
        TEXT | {"element_list": [{"name": "n", "element_input_urls": [IMAGE, IMAGE]}]},
        shot(index=3),
        shot(index=1),
        shot(duration=8),
        shot(duration=0),
        shot(prompt="x" * 513),
        SHOTS | {"multi_prompt": []},
        SHOTS | {"shot_type": "magic"},
        {k: v for k, v in SHOTS.items() if k != "shot_type"},
        {k: v for k, v in SHOTS.items() if k != "multi_prompt"},
        SHOTS | {"duration": 7, "multi_prompt": [{"index": n, "prompt": "p", "duration": 1} for n in range(1, 8)]},
        {"model": "kling-v3-omni", "prompt": "p", "audio": True, "video_list": [{"video_url": IMAGE}]},
        {"model": "kling-v2-6", "prompt": "p", "duration": 7},
        {"model": "kling-v2-6", "prompt": "p", "duration": 5, "audio": True},
        {"model": "kling-v2-6", "prompt": "p" * 2501},
    ],
)
def test_a_bad_request_is_refused_in_the_captured_envelope(caller, body):
    status, answer = caller.post(PATH, body)
    assert status == 400
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"code", "message", "param", "type"}
    assert answer["error"]["type"] == "invalid_request_error"
    assert caller.box.ledger.charged == 0


def test_a_wrong_key_has_an_empty_code_as_captured(caller_of, caller):
    status, answer = caller_of(caller.box, key=None).post(PATH, TEXT)
    assert status == 401
    assert (answer["error"]["code"], answer["error"]["type"]) == ("", "apimart_error")


def test_the_same_idempotency_key_and_body_is_answered_again_without_a_charge(caller):
    body = json.dumps(TEXT).encode()
    first = caller.call("POST", PATH, body=body, idempotency_key="k-1")
    again = caller.call("POST", PATH, 5.0, body=body, idempotency_key="k-1")
    assert again.body == first.body
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert caller.box.ledger.accepted == 1
    assert [entry.replayed for entry in caller.box.ledger.submits] == [False, True]
    assert [entry.charged for entry in caller.box.ledger.submits] == [3.36, 0]
    assert caller.box.ledger.duplicates == []


def test_a_lost_answer_can_be_had_again_with_the_same_idempotency_key(caller):
    caller.box.next(drop_after_accept())
    body = json.dumps(TEXT).encode()
    assert caller.call("POST", PATH, body=body, idempotency_key="k-1").effect.ending == "drop"
    again = caller.call("POST", PATH, body=body, idempotency_key="k-1")
    assert (again.status, again.effect.ending) == (200, "answer")
    assert task_of(json.loads(again.body)) in caller.box.tasks
    assert caller.box.ledger.accepted == 1


def test_the_same_idempotency_key_with_another_body_is_refused(caller):
    caller.post(PATH, TEXT, idempotency_key="k-1")
    status, answer = caller.post(PATH, TEXT | {"prompt": "other"}, idempotency_key="k-1")
    assert (status, answer["error"]["code"]) == (409, "idempotency_key_reused")
    assert caller.box.ledger.accepted == 1


def test_an_idempotency_key_belongs_to_an_api_key(caller, caller_of):
    caller.post(PATH, TEXT, idempotency_key="k-1")
    assert caller_of(caller.box, key="key-2").post(PATH, TEXT, idempotency_key="k-1")[0] == 200
    assert caller.box.ledger.accepted == 2


@pytest.mark.parametrize("name", ["", "with space", "x" * 192, "é"])
def test_a_malformed_idempotency_key_is_refused(caller, name):
    assert caller.post(PATH, TEXT, idempotency_key=name)[0] == 400


@pytest.mark.parametrize("path", ["/v1/balance", "/v1/user/balance", "/balance", "/user/balance"])
def test_the_balance_is_told_in_dollars_and_credits(caller, caller_of, path):
    assert caller.get(path)[1] == {
        "success": True,
        "remain_balance": -1,
        "remain_credits": -1,
        "used_balance": 0,
        "used_credits": 0,
        "unlimited_quota": True,
    }
    caller.box.balance = 105
    caller.box.reset()
    caller.post(PATH, TEXT)
    answer = caller.get(path)[1]
    assert (answer["remain_credits"], answer["used_credits"], answer["unlimited_quota"]) == (101.64, 3.36, False)
    assert answer["remain_balance"] == pytest.approx(10.164)
    assert caller_of(caller.box, key=None).get(path)[0] == 401


def upload(content, kind="multipart/form-data; boundary=XX", field="file"):
    head = f'--XX\r\nContent-Disposition: form-data; name="{field}"; filename="a b.png"\r\nContent-Type: x/y\r\n\r\n'
    return {"body": head.encode() + content + b"\r\n--XX--\r\n", "content_type": kind}


def test_an_upload_is_answered_with_a_link_that_gives_the_image_back(caller):
    image = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) + b"\r\n--X"
    reply = caller.call("POST", "/v1/uploads/images", **upload(image))
    answer = json.loads(reply.body)
    assert reply.status == 200
    assert set(answer) == {"url", "filename", "content_type", "bytes", "created_at"}
    assert (answer["filename"], answer["content_type"], answer["bytes"]) == ("a b.png", "image/png", len(image))
    assert caller.call("GET", answer["url"].removeprefix("https://upload.sandbox.example")).body == image


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (upload(b"plain text"), 400),
        (upload(b"GIF89a", field="image"), 400),
        (upload(b"GIF89a", kind="application/json"), 400),
        (upload(b"\xff\xd8\xff" + bytes(20 * 1024 * 1024)), 413),
    ],
)
def test_a_bad_upload_is_refused(caller, request_, status):
    assert caller.call("POST", "/v1/uploads/images", **request_).status == status
