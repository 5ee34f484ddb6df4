"""A fifth gateway, well written or not: jobs always end, and an adapter's fault never pays twice."""

import asyncio
import sys

import pytest
from virtual import VirtualSession, now

from kling_async import (
    ConfigurationError,
    Failure,
    ImageToVideo,
    KlingSession,
    ProtocolError,
    ResponseLostError,
    Snapshot,
    Status,
    SubmissionInDoubtError,
    Success,
    TextToVideo,
    Timeouts,
)
from kling_async.gateways import Accepted, Gateway, HttpRequest, HttpResponse

pytestmark = pytest.mark.anyio


class Scripted:
    """A transport that answers with whatever a function returns."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []

    async def send(self, request, *, timeout, fence, fresh):
        if fence is not None:
            await fence.pass_through()
        self.requests.append(request)
        await asyncio.sleep(0.05)
        said = self.answer(request)
        if isinstance(said, Exception):
            raise said
        return HttpResponse(200, {}, b"{}") if said is None else said

    async def close(self):
        pass


class PluginSession(KlingSession):
    def __init__(self, gateway, answer=lambda request: None, **settings):
        super().__init__(gateway, base_url="https://example.com", **settings)
        self.wire = Scripted(answer)

    def _transport(self):
        return self.wire


class Plain(Gateway):
    """The least that a gateway can be."""

    name = "plain"
    accepted = Accepted("task-1")
    seen = Snapshot("task-1", Status.SUCCEEDED, urls=("https://example.com/v.mp4",))

    def submit(self, request, key):
        yield HttpRequest("POST", "/jobs", json={"prompt": request.prompt, "key": key})
        return self.accepted

    def poll(self, task_ids):
        yield HttpRequest("GET", "/jobs", query={"ids": ",".join(task_ids)})
        return {self.seen.task_id: self.seen}

    def authorize(self, request, now):
        return request


async def outcome_of(gateway, *args, request=None, **settings):
    async with PluginSession(gateway, *args, **settings) as session:
        return await session.submit(request or TextToVideo("a"), timeout=50).outcome(), session.wire.requests


async def test_the_least_gateway_makes_a_video():
    outcome, requests = await outcome_of(Plain())
    assert isinstance(outcome, Success)
    assert [request.method for request in requests] == ["POST", "GET"]


async def test_a_gateway_that_asks_for_many_jobs_at_once_is_asked_for_many():
    class Many(Plain):
        poll_batch = 50
        made = 0

        def submit(self, request, key):
            yield HttpRequest("POST", "/jobs", json={})
            self.made += 1
            return Accepted(f"task-{self.made}")

        def poll(self, task_ids):
            yield HttpRequest("GET", "/jobs", query={"ids": ",".join(task_ids)})
            return {each: Snapshot(each, Status.SUCCEEDED, urls=(f"https://example.com/{each}",)) for each in task_ids}

    async with PluginSession(Many(), concurrency=None, rate=None) as session:
        outcomes = await session.gather(TextToVideo(f"{n}") for n in range(200))
    assert all(outcome.ok for outcome in outcomes)
    looks = [request for request in session.wire.requests if request.method == "GET"]
    assert len(looks) < 100
    assert max(len(request.query["ids"].split(",")) for request in looks) <= 50


async def test_a_submit_that_breaks_before_it_asks_fails_without_a_request():
    class Broken(Plain):
        def submit(self, request, key):
            raise ZeroDivisionError
            yield

    outcome, requests = await outcome_of(Broken())
    assert isinstance(outcome.error, ProtocolError)
    assert (outcome.charged, requests) == ("no", [])


async def test_a_submit_that_breaks_on_the_answer_is_in_doubt():
    class Broken(Plain):
        def submit(self, request, key):
            yield HttpRequest("POST", "/jobs", json={})
            raise KeyError("id")

    outcome, requests = await outcome_of(Broken())
    assert isinstance(outcome.error, SubmissionInDoubtError)
    assert len(requests) == 1


@pytest.mark.parametrize("accepted", [None, "task-1", Accepted("../x"), Accepted(None), Accepted("t", "odd")])
async def test_a_submit_that_returns_nonsense_is_in_doubt(accepted):
    gateway = Plain()
    gateway.accepted = accepted
    outcome, requests = await outcome_of(gateway)
    assert isinstance(outcome.error, SubmissionInDoubtError)
    assert len(requests) == 1


@pytest.mark.parametrize("seen", [None, Snapshot("task-1", Status.SUCCEEDED, urls=None), Snapshot("task-1", "odd")])
async def test_a_look_that_returns_nonsense_is_a_missed_look(seen):
    class Broken(Plain):
        def poll(self, task_ids):
            yield HttpRequest("GET", "/jobs")
            return {"task-1": seen} if seen is not None else None

    outcome, requests = await outcome_of(Broken())
    assert isinstance(outcome, Failure)
    assert outcome.task_id == "task-1"
    assert [request.method for request in requests].count("POST") == 1


async def test_faults_in_estimate_find_and_cancel_end_no_job():
    class Broken(Plain):
        def estimate(self, request):
            raise RuntimeError

        def find(self, key):
            raise RuntimeError

        def cancel(self, task_id):
            raise RuntimeError

    outcome, _ = await outcome_of(Broken(), lambda request: ResponseLostError() if request.method == "POST" else None)
    assert isinstance(outcome.error, SubmissionInDoubtError)
    async with PluginSession(Broken()) as session:
        future = session.submit(ImageToVideo("a", image="https://example.com/a.jpg"))
        await future.accepted()
        assert future.cancel()
        assert future.status is Status.CANCELLED


async def test_a_job_is_cancelled_at_the_gateway_where_it_can():
    class Cancels(Plain):
        seen = Snapshot("task-1", Status.IN_PROGRESS)

        def cancel(self, task_id):
            yield HttpRequest("POST", f"/jobs/{task_id}/cancel", json={})

    async with PluginSession(Cancels()) as session:
        future = session.submit(TextToVideo("a"))
        await future.accepted()
        future.cancel()
        await asyncio.sleep(1)
    assert session.wire.requests[-1].path == "/jobs/task-1/cancel"


class Finds(Plain):
    """A gateway that can look up by key."""

    found = None

    def find(self, key):
        def exchange():
            yield HttpRequest("GET", "/find", query={"key": key})
            return self.found

        return exchange()


def lose_the_submit(request):
    return ResponseLostError("lost", code="reset") if request.method == "POST" else None


async def test_a_lost_answer_is_looked_up_by_key_once_the_post_has_surely_ended():
    gateway = Finds()
    gateway.found = Accepted("task-1")
    async with PluginSession(gateway, lose_the_submit, timeouts=Timeouts(submit=40)) as session:
        begun = now()
        future = session.submit(TextToVideo("a"), key="order-1")
        assert isinstance(await future.outcome(), Success)
        assert future.accepted_at - begun >= 40
    methods = [(request.method, request.path) for request in session.wire.requests]
    assert methods == [("POST", "/jobs"), ("GET", "/find"), ("GET", "/jobs")]
    posted, looked, _ = session.wire.requests
    assert looked.query["key"] == posted.json["key"]


async def test_a_lost_answer_that_is_not_found_stays_in_doubt_and_is_not_sent_again():
    outcome, requests = await outcome_of(Finds(), lose_the_submit)
    assert isinstance(outcome.error, SubmissionInDoubtError)
    assert [request.method for request in requests].count("POST") == 1
    assert [request.path for request in requests].count("/find") == 5


async def test_the_identity_of_a_job_is_the_same_in_every_process():
    keys = []
    for _ in range(2):
        async with PluginSession(Plain()) as session:
            await session.submit(TextToVideo("a"), key="order-1").accepted()
            await asyncio.sleep(1)
        keys.append(session.wire.requests[0].json["key"])
    assert keys[0] == keys[1]
    assert keys[0].isascii()
    assert len(keys[0]) <= 191


async def test_unkeyed_jobs_have_identities_of_their_own():
    async with VirtualSession(gateway="apimart") as session:
        await session.gather([TextToVideo("same"), TextToVideo("same")])
    submits = session.sandbox.ledger.submits
    assert len({submit.idempotency_key for submit in submits}) == 2
    assert session.sandbox.ledger.accepted == 2


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """Install a package of one module, which registers a gateway under the name "fifth"."""

    def install(code):
        (tmp_path / "fifth_gateway.py").write_text(code)
        about = tmp_path / "fifth_gateway-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fifth-gateway\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[kling_async.gateways]\nfifth = fifth_gateway:Fifth\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "fifth_gateway", raising=False)

    return install


async def test_a_plug_in_is_a_gateway_like_any_other_under_its_name(plug_in):
    plug_in(
        "from test_plugins import Plain\nclass Fifth(Plain):\n    def __init__(self, key):\n        self.key = key\n"
    )
    async with PluginSession("fifth", api_key="a-key-of-the-user") as session:
        assert session.gateway.key.reveal() == "a-key-of-the-user"
        assert (await session.generate(TextToVideo("a"))).task_id == "task-1"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("Sixth = None", "AttributeError"),
        ("def broken(:", "SyntaxError"),
        ("raise OSError(24, 'Too many open files')", "OSError"),
    ],
)
async def test_a_plug_in_that_cannot_be_loaded_is_told_as_an_error_of_ours(plug_in, code, words):
    plug_in(code)
    with pytest.raises(ConfigurationError, match=words) as caught:
        KlingSession("fifth", api_key="a-key-of-the-user", base_url="http://127.0.0.1:9")
    assert (caught.value.code, caught.value.charged, caught.value.__context__) == ("import", "no", None)
