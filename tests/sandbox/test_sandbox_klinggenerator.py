"""The klinggenerator dialect, against its published page."""

import re

import pytest

PATH = "/v1/generate"
BODY = {"prompt": "waves", "model": "kling-3", "duration": 10, "resolution": "1080p", "fps": 30}


def test_a_submit_is_answered_flat_with_an_estimate(caller):
    status, answer = caller.post(PATH, BODY)
    job_id = answer["job_id"]
    assert status == 200
    assert answer == {
        "job_id": job_id,
        "status": "processing",
        "created_at": "2026-02-02T02:40:00Z",
        "estimated_completion": "2026-02-02T02:41:30Z",
    }
    assert re.fullmatch(r"job_[0-9a-z]+", job_id)


def test_a_finished_job_is_shown_as_documented(caller):
    job_id = caller.post(PATH, BODY)[1]["job_id"]
    assert caller.get(f"/v1/jobs/{job_id}", 300)[1] == {
        "job_id": job_id,
        "status": "completed",
        "progress": 100,
        "video_url": f"http://127.0.0.1/_sandbox/videos/{job_id}.mp4",
        "thumbnail_url": f"http://127.0.0.1/_sandbox/thumbs/{job_id}.jpg",
        "duration": 10,
        "resolution": "1080p",
        "created_at": "2026-02-02T02:40:00Z",
        "completed_at": "2026-02-02T02:41:30Z",
    }


def test_progress_grows_and_stays_below_100_until_the_end(caller):
    job_id = caller.post(PATH, BODY)[1]["job_id"]
    seen = [caller.get(f"/v1/jobs/{job_id}", now)[1]["progress"] for now in (0, 9, 45, 89.99, 90)]
    assert seen == [0, 10, 50, 99, 100]


def test_a_failed_job_says_why(caller):
    job_id = caller.post(PATH, BODY | {"prompt": "[sandbox: fail no]"})[1]["job_id"]
    answer = caller.get(f"/v1/jobs/{job_id}", 300)[1]
    assert (answer["status"], answer["error"]["message"]) == ("failed", "no")
    assert "video_url" not in answer


@pytest.mark.parametrize(
    "more",
    [
        {"prompt": ""},
        {"model": "kling-1"},
        {"duration": 4},
        {"duration": 121},
        {"duration": 5.0},
        {"duration": "5"},
        {"model": "kling-2", "duration": 61},
        {"model": "kling-2", "resolution": "4k"},
        {"resolution": "480p"},
        {"fps": 25},
    ],
)
def test_a_bad_request_is_refused(caller, more):
    status, answer = caller.post(PATH, BODY | more)
    assert (status, answer["error"]["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize("more", [{"duration": 120, "resolution": "4k"}, {"model": "kling-2", "duration": 60}])
def test_the_limits_themselves_are_allowed(caller, more):
    assert caller.post(PATH, BODY | more)[0] == 200


def test_the_daily_quota_is_told_on_every_answer_and_ends_at_midnight(caller):
    caller.box.daily_quota = 2
    remaining = "X-RateLimit-Remaining"
    first = caller.call("POST", PATH, body=b'{"prompt": "x"}')
    second = caller.call("POST", PATH, body=b'{"prompt": "x"}')
    third = caller.call("POST", PATH, body=b'{"prompt": "x"}')
    assert [(r.status, r.headers[remaining]) for r in (first, second, third)] == [(200, "1"), (200, "0"), (429, "0")]
    assert caller.call("GET", "/v1/jobs/job_unknown").headers[remaining] == "0"
    tomorrow = caller.call("POST", PATH, 86_400, body=b'{"prompt": "x"}')
    assert (tomorrow.status, tomorrow.headers[remaining]) == (200, "1")
