"""Whatever object of the library somebody prints, pickles, inspects or walks through: the key is not in it."""

import asyncio
import gc
import inspect
import types
from collections.abc import Iterator
from typing import Any

import pytest
from canary import KEY, PROMPT, WAYS, forms, leaks, shown

import kling_async
import kling_async.gateways
import kling_async.sandbox
import kling_async.testing
from kling_async import (
    Balance,
    Cost,
    DownloadPolicy,
    Fault,
    ImageToVideo,
    InvalidRequestError,
    KlingError,
    KlingSession,
    PollPlan,
    RateLimit,
    ReferenceToVideo,
    RetryPolicy,
    Shot,
    Snapshot,
    Stats,
    Status,
    Subject,
    TextToVideo,
    Timeouts,
    Timing,
    VideoEdit,
)
from kling_async.gateways import Accepted, HttpRequest, HttpResponse, Part, Secret, bearer, gateway_factory
from kling_async.sandbox import Sandbox, fail, serve
from kling_async.sandbox.wire import Call
from kling_async.testing import ThreadedServer

pytestmark = pytest.mark.anyio

GATEWAYS = ("kling3api", "apiin", "klinggenerator", "apimart")
MODULES = (kling_async, kling_async.gateways, kling_async.testing)
ECHO = " ".join(forms().values())
QUICK: dict[str, Any] = {"rate": None, "poll": PollPlan(0.02, 0.02, 0.1)}


def _errors(kind: type[KlingError] = KlingError) -> Iterator[KlingError]:
    """Yield an error of each class, as a session cleans it, from an answer that echoes the key in every form."""
    known: dict[str, Any] = dict.fromkeys(("message", "code", "field", "request_id", "raw"), ECHO)
    if issubclass(kind, InvalidRequestError):
        known["faults"] = [Fault("prompt", "ODD", ECHO)]
    yield kind(**known, cause=InvalidRequestError(ECHO, raw=ECHO, faults=[Fault(ECHO, "ODD", ECHO)])).scrubbed(KEY)
    for each in kind.__subclasses__():
        if each.__module__.startswith("kling_async."):
            yield from _errors(each)


def _values() -> Iterator[Any]:
    """Yield an object of every public class that is made without a session."""
    asked = HttpRequest("POST", "/a", {"b": "c"}, {"prompt": "p"}, (Part("a", "b", "c", b"d"),))
    yield from (asked, bearer(asked, Secret(KEY)), bearer(HttpRequest("GET", "/a"), Secret(KEY)))
    yield from (Secret(KEY), Part("a", "b", "c", b"d"), Snapshot("t", Status.IN_PROGRESS), Accepted("t"))
    for name in GATEWAYS:
        yield gateway_factory(name)(Secret(KEY))
        yield gateway_factory(name)(KEY)  # type: ignore[arg-type]
        yield gateway_factory(name)(Secret(KEY)).authorize(asked, 0.0)
        yield KlingSession(name, api_key=KEY)
    yield KlingSession(gateway_factory("apimart")(Secret("another-key")), api_key=KEY)
    yield from (Shot("p", 5), Subject("n", "d", ("https://example.com/a.png",)), Fault("a", "b", "c"))
    yield from (TextToVideo("p"), VideoEdit("p", video="https://example.com/v.mp4"))
    yield ImageToVideo("p", image="https://example.com/a.png")
    yield ReferenceToVideo("p", images=["https://example.com/a.png"])
    yield from (Status.QUEUED, Cost(1), Balance(1), Stats(1, 1, 1, 1), Timing())  # type: ignore[arg-type]
    yield from (PollPlan(), Timeouts(), RetryPolicy(), DownloadPolicy(), RateLimit(1, 1))
    yield from _errors()


VALUES = list(_values())


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_no_public_value_shows_the_key(value: Any) -> None:
    assert shown(value) == {}


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_no_walk_through_public_attributes_meets_the_key(value: Any) -> None:
    assert list(_met(value)) == []


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_looking_does_find_a_key_that_is_shown(way: str) -> None:
    """Otherwise the tests above could not fail."""
    assert leaks(WAYS[way](_Showing(KEY)))


class _Showing:
    def __init__(self, api_key: str) -> None:
        self.api_key = api_key

    def __repr__(self) -> str:
        return f"_Showing({self.api_key})"

    def to_dict(self) -> dict[str, str]:
        return {"api_key": self.api_key}


def test_a_walk_does_find_a_key_that_is_held() -> None:
    assert list(_met(types.SimpleNamespace(a=[{"b": _Showing(KEY)}]))) == ["$.a[0]['b'].api_key"]


_MADE_OTHERWISE = {
    "Failure": "by a session, below",
    "Headers": "by HttpRequest",
    "HttpResponse": "what a gateway said, before anybody has read it",
    "KlingSandbox": "holds the made-up key that a test's sandbox lets in; its repr is tested below",
    "Sandbox": "the same",
    "Success": "by a session, below",
    "TaskFuture": "by a session, below",
    "ThreadedServer": "the same as Sandbox",
    "Video": "by a session, below",
    "Gateway": "a protocol",
}


def test_every_public_class_is_looked_at() -> None:
    kinds = {
        found
        for module in MODULES
        for name in module.__all__
        if inspect.isclass(found := getattr(module, name)) and found.__module__.startswith("kling_async.")
    }
    looked_at = {kind.__name__ for value in VALUES for kind in type(value).__mro__}
    assert {kind.__name__ for kind in kinds} - looked_at - set(_MADE_OTHERWISE) == set()


@pytest.mark.parametrize(
    "value",
    [
        kling_async.testing.Sandbox(api_keys=[KEY]),
        kling_async.testing.KlingSandbox("http://127.0.0.1:1", KEY, Sandbox()),
        ThreadedServer(Sandbox(api_keys=[KEY])),
        Sandbox().script(fail("no"), api_key=KEY),
        Call("GET", "/", {}, {"authorization": f"Bearer {KEY}"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_sandbox_that_was_given_a_key_does_not_print_it(value: Any) -> None:
    told = {name: leaks(WAYS[name](value)) for name in ("repr", "str", "format", "json", "logging", "pprint")}
    told |= {name: leaks(WAYS[name](value)) for name in ("rich.pretty", "rich print")}
    assert {name: hits for name, hits in told.items() if hits} == {}


def test_an_answer_does_not_print_the_header_fields_that_echo_the_key() -> None:
    response = HttpResponse(401, {"x-request-id": KEY, "www-authenticate": ECHO}, ECHO.encode())
    for name in ("repr", "str", "format", "json", "logging", "pprint", "rich.pretty", "rich print"):
        assert leaks(WAYS[name](response)) == [], name


@pytest.mark.parametrize("wrong", [f"{KEY}\n", f" {KEY}", f"{KEY}é", f"Bearer {KEY}"])
async def test_a_key_that_cannot_be_sent_is_refused_by_everybody_without_showing_it(wrong: str) -> None:
    from canary import leaks_of

    for make in (
        lambda: Secret(wrong),
        lambda: KlingSession("kling3api", api_key=wrong),
        *(lambda name=name: gateway_factory(name)(wrong) for name in GATEWAYS),  # type: ignore[misc]
    ):
        caught = _raised(make)
        assert isinstance(caught, KlingError)
        assert leaks_of(caught) == {}


def _raised(make: Any) -> BaseException:
    """Return what a call raises, without the frames of this test, which hold the key."""
    try:
        make()
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and not _is_ours(trace.tb_frame):
            trace = trace.tb_next
        return error.with_traceback(trace)
    raise AssertionError("nothing was raised")


def _is_ours(frame: types.FrameType) -> bool:
    name: str = frame.f_globals.get("__name__", "")
    return name.startswith("kling_async")


# A session at work.


async def _worked(session: KlingSession) -> list[Any]:
    """Return everything that a session hands out, from jobs that end in every way."""
    made = session.submit(TextToVideo(PROMPT, extra={"a": 1}))
    lost = session.submit(TextToVideo("lost [sandbox: drop_after_accept]"))
    failed = session.submit(TextToVideo("failed [sandbox: fail RISK]"))
    running = session.submit(TextToVideo("slow [sandbox: stuck]"), key="mine")
    refused = session.submit(TextToVideo("refused [sandbox: reject INVALID_PROMPT]"))
    found: list[Any] = [made, lost, failed, running, refused, session, session.gateway, session.stats]
    video = await made
    outcomes = [await each.outcome() for each in (made, lost, failed, refused)]
    await running.accepted()
    found += [video, *outcomes, *(each.error for each in outcomes if isinstance(each, kling_async.Failure))]
    found += [made.snapshot(), running.snapshot(), session.unfinished, session.stream([]), made.updates()]
    found += [session.timeouts, session.poll_plan, session.retry, session.estimate(TextToVideo("p"))]
    return found


@pytest.mark.parametrize("gateway", ["kling3api", "apimart"])
async def test_nothing_that_a_session_hands_out_shows_the_key(gateway: str, tmp_path: Any) -> None:
    async with serve(Sandbox(speed=1000, api_keys=[KEY])) as server:
        session = KlingSession(gateway, api_key=KEY, base_url=server.url, **QUICK)
        async with session, session.batch(tmp_path / "b.db", download_to=tmp_path / "videos") as batch:
            batch.add([TextToVideo("a boat"), TextToVideo("a fox [sandbox: fail]")])
            run = batch.run()
            found: list[Any] = [batch, run, *[outcome async for outcome in run]]
            found += [batch.summary(), *batch.outcomes(), batch.under_way]
            found += await _worked(session)
            for value in found:
                assert shown(value, live=True) == {}, value
                assert list(_met(value)) == [], value
        assert shown(session, live=True) == {}
        assert list(_met(session)) == []


async def test_a_waiting_asyncio_task_does_not_show_the_key() -> None:
    async with (
        serve(Sandbox(speed=1000)) as server,
        KlingSession("kling3api", api_key=KEY, base_url=server.url, **QUICK) as session,
    ):
        tasks = [asyncio.ensure_future(session.generate(TextToVideo("a boat"))) for _ in range(3)]
        while not all(task.done() for task in tasks):
            for task in asyncio.all_tasks():
                assert leaks(repr(task) + repr(task.get_stack()) + repr(task.get_coro())) == []
            await asyncio.sleep(0)


# Walking.


def _met(value: Any) -> Iterator[str]:
    """Yield the paths by which a walk over public attributes, then over all variables of what it meets, finds a key."""
    seen: set[int] = set()
    kept: list[Any] = []  # what is met stays alive, so that no id is used twice
    waiting = [("$", value)]
    while waiting:
        path, each = waiting.pop()
        if isinstance(each, (str, bytes, bytearray)):
            if leaks(bytes(each) if isinstance(each, bytearray) else each):
                yield path
        elif id(each) not in seen:
            seen.add(id(each))
            kept.append(each)
            waiting += _parts(path, each)


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a value holds: items, public attributes; of what is built of slots only, every slot."""
    if isinstance(value, (dict, types.MappingProxyType)):
        yield from ((f"{path}[{name!r}]", item) for name, item in value.items())
        yield from ((f"{path}.keys()", name) for name in value)
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"{path}[{number}]", item) for number, item in enumerate(value))
    if not type(value).__module__.startswith(("kling_async", "test_canary", "types")):
        return
    names = [name for name in dir(value) if not name.startswith("_")]
    if not hasattr(value, "__dict__"):
        names += [name for kind in type(value).__mro__ for name in kind.__dict__.get("__slots__", ())]
    for name in names:
        try:
            found = getattr(value, name)
        except Exception:  # a property that has nothing to tell yet
            continue
        if not callable(found) and name not in ("__weakref__", "_care"):
            yield f"{path}.{name}", found


async def test_a_session_holds_its_key_in_one_place_only() -> None:
    """Whoever walks through the whole of it, by whatever means, meets the text in the `Secret` and nowhere else."""
    with ThreadedServer(Sandbox(speed=1000)) as server:  # in a thread: what it holds is not reached from here
        async with KlingSession("kling3api", api_key=KEY, base_url=server.url, **QUICK) as session:
            await session.generate(TextToVideo("a boat"))
            gc.collect()
            assert _held(session) == []


def _held(root: Any) -> list[str]:
    """Return where the key is in what the garbage collector reaches from an object, its `Secret` aside."""
    found, seen, waiting = [], set(), [("$", root)]
    skipped = (type, types.ModuleType, types.FunctionType, types.CodeType, types.FrameType, types.BuiltinFunctionType)
    while waiting:
        path, each = waiting.pop()
        if isinstance(each, (str, bytes)) and leaks(each):
            found.append(path)
        if id(each) in seen or isinstance(each, skipped):
            continue
        seen.add(id(each))
        names = getattr(each, "__dict__", None) if not isinstance(each, Secret) else None
        for part in gc.get_referents(each):
            if part is names:
                continue
            waiting.append((f"{path}>{type(each).__name__}", part))
        if isinstance(names, dict):
            waiting += [(f"{path}.{name}", part) for name, part in names.items()]
    return found
