"""The account: balance, rates, running tasks, keys; all in virtual time."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_async.sandbox import Call, Sandbox, fail, stuck

PATH = "/api/generate"
TEXT = {"type": "std-text-to-video", "prompt": "x", "sound": False, "duration": 5}  # 200 credits


def test_an_empty_account_gets_402_and_a_failed_task_gives_its_credits_back(caller):
    caller.box.balance = 300
    caller.box.reset()
    caller.box.next(fail(after=10))
    assert caller.post(PATH, TEXT)[0] == 200
    status, answer = caller.post(PATH, TEXT, 9.9)
    assert (status, answer["code"]) == (402, "INSUFFICIENT_CREDITS")
    assert caller.post(PATH, TEXT, 10)[0] == 200
    assert (caller.box.credits_left, caller.box.ledger.refunded, caller.box.ledger.net) == (100, 200, 200)


def test_topping_up_lets_the_next_job_in(caller):
    caller.box.balance = 0
    caller.box.reset()
    assert caller.post(PATH, TEXT)[0] == 402
    caller.box.top_up(200)
    assert caller.post(PATH, TEXT)[0] == 200
    assert caller.box.credits_left == 0


def test_more_calls_than_the_rate_get_429_until_the_bucket_fills(caller):
    caller.box.rate, caller.box.burst = 2, 1
    seen = [caller.post(PATH, TEXT, now)[0] for now in (0, 0.4, 0.5, 0.9, 1.0)]
    assert seen == [200, 429, 200, 429, 200]


def test_the_rate_is_counted_for_each_key(caller, caller_of):
    caller.box.rate, caller.box.burst = 1, 1
    assert caller.post(PATH, TEXT)[0] == 200
    assert caller_of(caller.box, key="key-2").post(PATH, TEXT)[0] == 200
    assert caller.post(PATH, TEXT)[0] == 429


def test_apimart_tells_how_long_to_wait(caller):
    caller.box.rate, caller.box.burst = 0.1, 1
    caller.call("GET", "/v1/balance")
    assert caller.call("GET", "/v1/balance").headers["Retry-After"] == "10"


def test_more_tasks_than_may_run_get_429_until_one_ends(caller):
    caller.box.max_running = 2
    seen = [caller.post(PATH, TEXT, now)[0] for now in (0, 1, 2, 90, 90.5)]
    assert seen == [200, 200, 429, 200, 429]
    assert caller.box.ledger.max_running == 2


def test_a_stuck_task_keeps_its_place_for_ever(caller):
    caller.box.max_running = 1
    caller.box.next(stuck())
    caller.post(PATH, TEXT)
    assert caller.post(PATH, TEXT, 1e9)[0] == 429


def test_only_known_keys_are_let_in(caller, caller_of):
    caller.box.api_keys = ["key-2"]
    assert caller.post(PATH, TEXT)[0] == 401
    assert caller_of(caller.box, key="key-2").post(PATH, TEXT)[0] == 200


def test_a_task_is_unknown_to_the_other_dialects(caller):
    task_id = caller.post(PATH, TEXT)[1]["data"]["task_id"]
    assert [caller.get(path + task_id)[0] for path in ("/v1/jobs/", "/v1/tasks/", "/api/v1/tasks/")] == [404] * 3


def test_durations_are_log_normal_and_divided_by_the_speed(caller_of):
    def ends(**settings):
        caller = caller_of(Sandbox(seed=5, **settings))
        for _ in range(500):
            caller.post(PATH, TEXT)
        return sorted(task.ends_at for task in caller.box.tasks.values())

    slow, fast = ends(), ends(speed=10)
    assert 80 < slow[250] < 100
    assert 1.3 < slow[420] / slow[250] < 1.7  # a standard deviation above the median: e ** 0.4
    assert fast == pytest.approx([each / 10 for each in slow])


def test_the_same_seed_gives_the_same_ids_durations_and_faults(caller_of):
    def run(seed):
        caller = caller_of(Sandbox(seed=seed))
        caller.box.script(fail(), share=0.5)
        for _ in range(20):
            caller.post(PATH, TEXT)
        return [(task.id, task.ends_at, task.fails) for task in caller.box.tasks.values()]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_reset_starts_anew_with_the_same_random_numbers(caller):
    caller.box.script(fail())
    first = caller.post(PATH, TEXT)[1]
    assert caller.call("POST", "/_sandbox/reset").status == 200
    assert (caller.box.ledger.totals["submits"], caller.box.scripted.rules) == (0, [])
    assert caller.post(PATH, TEXT)[1] == first


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="speed"):
        Sandbox(speed=0)


JOBS = st.lists(
    st.tuples(
        st.sampled_from(["", "[sandbox: fail]", "[sandbox: stuck]", "[sandbox: reject X]", "[sandbox: half_body]"]),
        st.integers(2, 16),
        st.sampled_from(["generate", "mart"]),
        st.floats(0, 200),
    ),
    max_size=40,
)


@given(jobs=JOBS, balance=st.one_of(st.none(), st.integers(0, 3000)))
def test_the_ledger_adds_up_and_the_balance_is_never_negative(jobs, balance):
    box, now = Sandbox(balance=balance), 0.0
    for prompt, duration, path, pause in jobs:
        now += pause
        body = {"prompt": prompt or "p", "duration": duration}
        if path == "generate":
            call = ("/api/generate", body | {"type": "pro-text-to-video"})
        else:
            call = ("/v1/videos/generations", body | {"model": "kling-v3"})
        box.handle(Call("POST", call[0], {}, {"authorization": "Bearer k"}, json.dumps(call[1]).encode()), now)
        check(box, balance)
    box.handle(Call("GET", "/_sandbox/health"), now + 1e6)
    check(box, balance)
    failed = sum(1 for task in box.tasks.values() if task.fails)
    assert sum(1 for entry in box.ledger.submits if entry.refunded) == failed


def check(box, balance):
    ledger, submits = box.ledger, box.ledger.submits
    assert ledger.net == pytest.approx(ledger.charged - ledger.refunded)
    assert ledger.charged == pytest.approx(sum(entry.charged for entry in submits))
    assert ledger.refunded == pytest.approx(sum(entry.refunded for entry in submits))
    assert ledger.accepted == sum(entry.accepted for entry in submits) == len(box.tasks)
    assert ledger.accepted_per_prompt == Counter(entry.prompt for entry in submits if entry.accepted)
    assert all(entry.charged == 0 for entry in submits if not entry.accepted)
    if balance is not None:
        assert box.credits_left >= 0
        assert box.credits_left == pytest.approx(balance - ledger.net)


PATHS = ["/api/generate", "/api/v1/videos/generations", "/v1/generate", "/v1/videos/generations"]
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 20),
        st.floats(),
        st.sampled_from(["", "p", "5", "16:9", "kling-3", "kling-v3", "kling-v3-omni", "customize", "https://e.com/a"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["index", "prompt", "duration", "name", "url", "role"]), inner, max_size=3),
    ),
    max_leaves=6,
)
WORDS = """type prompt duration aspect_ratio image end_image video images sound
negative_prompt cfg_scale model mode multi_shots multi_prompt kling_elements resolution fps
image_urls audio multi_shot shot_type element_list video_list image_with_roles first_frame_image webhook
watermark"""
FIELDS = st.sampled_from(WORDS.split())
LIKELY = st.sampled_from(
    [
        {"type": "pro-image-to-video", "prompt": "p"},
        {"type": "o3-std-reference-to-video", "prompt": "p"},
        {"model": "kling-3", "multi_shots": True},
        {"model": "kling-v3", "multi_shot": True, "shot_type": "customize"},
        {"model": "kling-v3-omni", "prompt": "p"},
        {},
    ]
)


@given(path=st.sampled_from(PATHS), likely=LIKELY, body=st.dictionaries(FIELDS, VALUES, max_size=5))
def test_any_json_object_is_accepted_or_refused(path, likely, body):
    box = Sandbox()
    reply = box.handle(Call("POST", path, {}, {"authorization": "Bearer k"}, json.dumps(likely | body).encode()), 0.0)
    assert reply.status in {200, 400}
    assert box.ledger.accepted == (reply.status == 200)
    assert isinstance(json.loads(reply.body), dict)
