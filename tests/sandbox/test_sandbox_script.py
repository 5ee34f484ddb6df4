"""Scripts: which call an action strikes, what it changes, and the directives in prompts; in virtual time."""

import json

import pytest

from kling_async import sandbox as sb

PATH = "/api/generate"


def text(prompt="p", **more):
    return {"type": "std-text-to-video", "prompt": prompt, "duration": 5, "sound": False} | more


def statuses(caller, count, prompt="p"):
    return [caller.post(PATH, text(prompt))[0] for _ in range(count)]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({}, [503, 503, 503, 503]),
        ({"nth": 2}, [200, 503, 200, 200]),
        ({"nth": (1, 3)}, [503, 200, 503, 200]),
        ({"times": 2}, [503, 503, 200, 200]),
        ({"every": 2}, [200, 503, 200, 503]),
        ({"every": 2, "times": 1}, [200, 503, 200, 200]),
        ({"prompt": "other"}, [200] * 4),
        ({"api_key": "key-1", "times": 1}, [503, 200, 200, 200]),
        ({"api_key": "key-2"}, [200] * 4),
        ({"on": "poll"}, [200] * 4),
        ({"share": 0.0}, [200] * 4),
        ({"share": 1.0}, [503] * 4),
    ],
)
def test_a_rule_strikes_the_calls_it_describes(caller, when, expected):
    rule = caller.box.script(sb.http(503), **({"on": "submit"} | when))
    assert statuses(caller, 4) == expected
    assert rule.fired == expected.count(503)


def test_a_share_strikes_about_so_often(caller):
    rule = caller.box.script(sb.http(429), on="submit", share=1 / 3)
    statuses(caller, 600)
    assert 160 < rule.fired < 240


def test_the_first_rule_wins_and_slowness_adds_up(caller):
    caller.box.script(sb.slow(1))
    caller.box.script(sb.http(503), times=1)
    caller.box.script(sb.http(500))
    reply = caller.call("POST", PATH, body=b"{}")
    assert (reply.status, reply.effect.delay) == (503, 1)


def test_next_strikes_the_very_next_submit_and_waits_in_line(caller):
    caller.box.next(sb.http(503))
    caller.box.next(sb.http(429))
    caller.get("/api/status?task_id=x")
    assert statuses(caller, 3) == [503, 429, 200]


def test_a_rule_can_be_forgotten(caller):
    rule = caller.box.script(sb.http(503))
    other = caller.box.script(sb.http(500), nth=3)
    caller.box.forget(rule)
    assert statuses(caller, 3) == [200, 200, 500]
    caller.box.forget()
    assert other.fired == 1
    assert statuses(caller, 3) == [200, 200, 200]


@pytest.mark.parametrize("on", ["poll", "download", "balance", "upload"])
def test_the_other_operations_can_be_struck_too(caller, on):
    caller.box.script(sb.http(418), on=on)
    task_id = caller.post(PATH, text())[1]["data"]["task_id"]
    seen = {
        "poll": caller.call("GET", f"/api/status?task_id={task_id}").status,
        "download": caller.call("GET", f"/_sandbox/videos/{task_id}.mp4", 100).status,
        "balance": caller.call("GET", "/v1/balance").status,
        "upload": caller.call("POST", "/v1/uploads/images").status,
    }
    assert [name for name, status in seen.items() if status == 418] == [on]


def test_a_rule_for_polls_sees_the_prompt_of_the_task(caller):
    caller.box.script(sb.http(500), on="poll", prompt="red")
    blue, red = (caller.post(PATH, text(p))[1]["data"]["task_id"] for p in ("blue", "red"))
    assert caller.get(f"/api/status?task_id={blue}")[0] == 200
    assert caller.get(f"/api/status?task_id={red}")[0] == 500


def test_an_unknown_operation_and_a_fate_for_polls_are_refused(caller):
    with pytest.raises(ValueError, match="on must be one of"):
        caller.box.script(sb.http(500), on="lunch")
    with pytest.raises(ValueError, match="submits only"):
        caller.box.script(sb.fail(), on="poll")


SUBMITS = [
    ("/api/generate", text()),
    ("/api/v1/videos/generations", {"model": "kling-3", "prompt": "p"}),
    ("/v1/generate", {"prompt": "p"}),
    ("/v1/videos/generations", {"model": "kling-v3", "prompt": "p"}),
]


@pytest.mark.parametrize(("path", "body"), SUBMITS)
def test_http_refuses_in_the_envelope_of_each_gateway(caller, path, body):
    caller.box.next(sb.http(400, code="INVALID_PROMPT", retry_after="soon"))
    reply = caller.call("POST", path, body=json.dumps(body).encode())
    answer = json.loads(reply.body)
    error = answer.get("error", answer)
    assert (reply.status, reply.headers["Retry-After"]) == (400, "soon")
    assert "INVALID_PROMPT" in {error.get("code"), error.get("type")}
    assert (caller.box.ledger.accepted, caller.box.ledger.refused) == (0, {400: 1})


@pytest.mark.parametrize(("path", "body"), SUBMITS)
@pytest.mark.parametrize("status", [401, 402, 403, 404, 409, 429, 500, 503])
def test_accepted_then_charges_and_answers_with_an_error(caller, path, body, status):
    caller.box.next(sb.accepted_then(status))
    seen, answer = caller.post(path, body)
    assert seen == status
    assert "data" not in answer
    assert "job_id" not in answer
    entry = caller.box.ledger.submits[0]
    assert (entry.accepted, entry.answered, entry.status, entry.charged > 0) == (True, True, status, True)


def test_any_answer_can_be_given(caller):
    caller.box.next(sb.answer({"code": 200, "data": None}))
    assert caller.post(PATH, text()) == (200, {"code": 200, "data": None})
    assert caller.box.ledger.accepted == 0
    caller.box.next(sb.answer(lambda true: true | {"code": "200"}, status=202, accept=True))
    status, answer = caller.post(PATH, text())
    assert (status, answer["code"], answer["data"]["status"]) == (202, "200", "IN_PROGRESS")
    assert caller.box.ledger.accepted == 1
    caller.box.next(sb.answer("", status=307, headers=(("Location", "/elsewhere"),)))
    reply = caller.call("POST", PATH, body=b"{}")
    assert (reply.status, reply.headers["Location"], reply.body) == (307, "/elsewhere", b"")


@pytest.mark.parametrize(
    ("action", "accepted", "ending"),
    [
        (sb.drop_before_accept(), 0, "drop"),
        (sb.drop_after_accept(), 1, "drop"),
        (sb.reset_after_accept(), 1, "reset"),
        (sb.half_body(), 1, "cut"),
        (sb.hang_after_accept(), 1, "hang"),
        (sb.slow(3), 1, "answer"),
        (sb.html(), 0, "answer"),
        (sb.html(200, accept=True), 1, "answer"),
        (sb.garbage(), 1, "answer"),
        (sb.garbage(accept=False), 0, "answer"),
        (sb.empty(204), 1, "answer"),
    ],
)
def test_an_action_accepts_or_not_as_its_name_says(caller, action, accepted, ending):
    caller.box.next(action)
    reply = caller.call("POST", PATH, body=json.dumps(text()).encode())
    assert reply.effect.ending == ending
    assert caller.box.ledger.accepted == accepted
    assert caller.box.ledger.submits[0].answered is (ending == "answer")


@pytest.mark.parametrize(("path", "body"), SUBMITS)
def test_a_success_can_come_without_a_url_at_first(caller, path, body):
    caller.box.next(sb.no_url(2))
    answer = caller.post(path, body)[1]
    task_id = next(iter(caller.box.tasks))
    place = {"/api/generate": f"/api/status?task_id={task_id}", "/v1/generate": f"/v1/jobs/{task_id}"}
    poll = place.get(path, path.replace("videos/generations", f"tasks/{task_id}"))
    assert task_id in json.dumps(answer)
    assert [".mp4" in json.dumps(caller.get(poll, 100)[1]) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(("path", "body"), SUBMITS)
def test_a_poll_can_lie_about_the_task(caller, path, body):
    caller.post(path, body)
    task_id = next(iter(caller.box.tasks))
    place = {"/api/generate": f"/api/status?task_id={task_id}", "/v1/generate": f"/v1/jobs/{task_id}"}
    poll = place.get(path, path.replace("videos/generations", f"tasks/{task_id}"))
    caller.box.script(sb.lie_about(task_id="n75other", status="GONE"), on="poll", times=1)
    answer = caller.get(poll)[1]
    data = answer.get("data", answer)
    assert "n75other" in {data.get(name) for name in ("id", "task_id", "job_id")}
    assert data["status"] == "GONE"
    assert "n75other" not in json.dumps(caller.get(poll)[1])


def test_a_task_can_end_at_a_given_time(caller):
    caller.box.next(sb.ends_after(3))
    task_id = caller.post(PATH, text())[1]["data"]["task_id"]
    seen = [caller.get(f"/api/status?task_id={task_id}", now)[1]["data"]["status"] for now in (2.9, 3.0)]
    assert seen == ["IN_PROGRESS", "SUCCESS"]


def test_an_expired_link_works_again_after_another_look(caller):
    caller.box.next(sb.expired_link(410))
    task_id = caller.post(PATH, text())[1]["data"]["task_id"]

    def look():
        return caller.get(f"/api/status?task_id={task_id}", 100)[1]["data"]["response"][0].removeprefix(
            "http://127.0.0.1"
        )

    first = look()
    assert look() == first
    assert caller.call("GET", first, 100).status == 410
    assert caller.call("GET", first, 100).status == 410
    second = look()
    assert second != first
    assert caller.call("GET", second, 100).status == 200
    assert caller.call("GET", first, 100).status == 410


def test_the_video_can_be_cut_or_be_something_else(caller):
    caller.box.next(sb.truncated_mp4())
    caller.box.next(sb.not_a_video())
    cut, other, whole = (caller.post(PATH, text())[1]["data"]["task_id"] for _ in range(3))
    sizes = [caller.call("GET", f"/_sandbox/videos/{each}.mp4", 100) for each in (cut, other, whole)]
    assert len(sizes[0].body) == len(sizes[2].body) // 2
    assert sizes[1].body.startswith(b"<!doctype html>")
    assert sizes[1].headers["Content-Type"] == "video/mp4"
    assert sizes[2].body[4:8] == b"ftyp"


@pytest.mark.parametrize(("path", "body"), SUBMITS)
def test_a_directive_rejects_with_its_code_every_time(caller, path, body):
    for _ in range(2):
        status, answer = caller.post(path, body | {"prompt": "a [sandbox: reject INVALID_PROMPT] b"})
        error = answer.get("error", answer)
        assert status == 400
        assert "INVALID_PROMPT" in {error.get("code"), error.get("type")}


def test_a_directive_with_a_status_refuses_once_and_then_lets_the_prompt_pass(caller):
    replies = [caller.call("POST", PATH, body=json.dumps(text("[sandbox: 429 1]")).encode()) for _ in range(2)]
    assert [reply.status for reply in replies] == [429, 200]
    assert replies[0].headers["Retry-After"] == "1"
    assert statuses(caller, 2, "[sandbox: 503]") == [503, 200]


@pytest.mark.parametrize(
    ("directive", "name", "value"),
    [
        ("slow 3", "delay", 3),
        ("drop-after-accept", "ending", "drop"),
        ("reset_after_accept", "ending", "reset"),
        ("HANG_AFTER_ACCEPT", "ending", "hang"),
        ("half_body", "ending", "cut"),
    ],
)
def test_a_directive_changes_what_the_wire_does(caller, directive, name, value):
    reply = caller.call("POST", PATH, body=json.dumps(text(f"x [sandbox: {directive}]")).encode())
    assert getattr(reply.effect, name) == value


def test_directives_decide_how_a_task_ends(caller):
    ends = {}
    for directive in ("fail", "stuck", "ends_after 7"):
        caller.post(PATH, text(f"[sandbox: {directive}]"))
    ends = [(task.reason, task.ends_at) for task in caller.box.tasks.values()]
    assert ends == [("generation failed", 90), (None, float("inf")), (None, 7)]


@pytest.mark.parametrize("directive", ["", "explode", "slow", "slow down", "999", "stuck 3", "no_url many"])
def test_an_unknown_directive_is_refused_by_name(caller, directive):
    status, answer = caller.post(PATH, text(f"[sandbox: {directive}]"))
    assert status == 400
    assert f"[sandbox: {directive}]" in answer["message"]
