"""The key goes to the API in one header field: to nowhere else, not in an address, and not after a redirect."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from canary import KEY, PROMPT, leaks
from echoing_gateway import EchoingGateway, Fault, Said, Visit, answer, echoing_gateway, ending, task_in
from test_canary_exceptions import GATEWAYS, raised_by, session_at

from kling_async import (
    ImageToVideo,
    KlingError,
    KlingSession,
    ReferenceToVideo,
    TextToVideo,
    Timeouts,
    Video,
    VideoEdit,
)
from kling_async.gateways import HttpRequest, gateway_factory

pytestmark = pytest.mark.anyio

REQUESTS = [
    TextToVideo(PROMPT),
    ImageToVideo(PROMPT, image="https://example.com/a.png"),
    ReferenceToVideo(PROMPT, images=["https://example.com/a.png"]),
    VideoEdit(PROMPT, video="https://example.com/v.mp4"),
]
PATIENT: dict[str, Any] = {"timeouts": Timeouts(connect=1, submit=3, poll=3, generation=5)}


@pytest.fixture
def places() -> Iterator[tuple[EchoingGateway, EchoingGateway]]:
    """The API, and another place that must never see the key."""
    with ExitStack() as stack:
        yield stack.enter_context(echoing_gateway()), stack.enter_context(echoing_gateway())


def holding(visits: list[Visit]) -> list[str]:
    """Return the requests that hold the key anywhere but in `Authorization`, or in another form than documented."""
    found = []
    for visit in visits:
        rest = {name: value for name, value in visit.headers.items() if name != "authorization"}
        own = visit.headers.get("authorization") in (None, f"Bearer {KEY}")
        if not own or leaks(json.dumps([visit.target, rest])) or leaks(visit.body) or leaks(visit.method):
            found.append(f"{visit.method} {visit.target}")
    return found


def credentials(visits: list[Visit]) -> list[str]:
    """Return the requests that carry anything by which somebody could be known."""
    names = ("authorization", "proxy-authorization", "cookie", "x-api-key", "referer")
    return [visit.target for visit in visits if leaks(visit.head) or any(name in visit.headers for name in names)]


@pytest.mark.parametrize("prefix", ["", "/proxy/v9"])
@pytest.mark.parametrize("name", GATEWAYS)
async def test_the_key_is_in_one_header_field_of_what_goes_to_the_api(
    places: tuple[EchoingGateway, EchoingGateway], name: str, prefix: str, tmp_path: Path
) -> None:
    api, _ = places
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    async with session_at(api.url + prefix, name, **PATIENT) as session:
        outcomes = await session.gather(REQUESTS)
        for outcome in outcomes:
            if outcome.ok:
                await session.download(outcome, tmp_path)
        await raised_by(session.attach("task-1", timeout=0.2))
        if name == "apimart":
            await raised_by(session.balance())
            await raised_by(session.upload(picture))
    assert any(outcome.ok for outcome in outcomes) is (not prefix)
    assert holding(api.visits) == []
    asked = [visit for visit in api.visits if visit.operation != "download"]
    assert {visit.headers["authorization"] for visit in asked} == {f"Bearer {KEY}"}
    assert all(visit.target.startswith(f"{prefix}/") for visit in asked)
    fetched = [visit for visit in api.visits if visit.operation == "download"]
    assert bool(fetched) is (not prefix)
    assert credentials(fetched) == [], "not even where the API itself serves the film"
    assert all(visit.headers["user-agent"].startswith("kling-async/") for visit in api.visits)


@pytest.mark.parametrize("name", GATEWAYS)
async def test_the_host_of_a_video_never_sees_the_key(
    places: tuple[EchoingGateway, EchoingGateway], name: str, tmp_path: Path
) -> None:
    """It has the film after a redirect of its own, and one back to the API."""
    api, elsewhere = places

    def wandering(visit: Visit) -> Said:
        hops = {"/videos/a.mp4": f"{api.url}/elsewhere/b.mp4", "/elsewhere/c.mp4": f"{elsewhere.url}/videos/d.mp4"}
        onwards = hops.get(visit.target.partition("?")[0])
        film = api.sandbox and answer(_film(), "200 OK", "Content-Type: video/mp4")
        return film if onwards is None else answer("", "302 Go", f"Location: {onwards}", f"Set-Cookie: k={KEY}")

    api.faults = {
        "poll": ending("success", response=[f"{elsewhere.url}/videos/a.mp4"], **_video_at(elsewhere)),
        "download": lambda _: answer("", "307 Go", f"Location: {elsewhere.url}/elsewhere/c.mp4"),
    }
    elsewhere.faults = {"download": wandering}
    settings = {**PATIENT, "downloads": _allowing(elsewhere)}
    async with session_at(api.url, name, **settings) as session:
        video = await session.generate(TextToVideo(PROMPT))
        path = await session.download(video, tmp_path / "x.mp4")
    assert path.read_bytes() == _film()
    assert [visit.target for visit in elsewhere.visits] == ["/videos/a.mp4", "/elsewhere/c.mp4", "/videos/d.mp4"]
    assert credentials(elsewhere.visits) == []
    assert credentials([visit for visit in api.visits if visit.operation == "download"]) == []
    assert holding(api.visits) == []


def _video_at(place: EchoingGateway) -> dict[str, Any]:
    url = f"{place.url}/videos/a.mp4"
    return {"video_url": url, "result": {"videos": [{"url": [url]}]}, "output": {"video_url": url}}


def _film() -> bytes:
    from kling_async.sandbox.mp4 import video

    return video("x", "16:9", 3)


def _allowing(place: EchoingGateway) -> Any:
    from kling_async import DownloadPolicy

    return DownloadPolicy(allow_private_hosts=(place.url.removeprefix("http://"),))


@pytest.mark.parametrize("status", ["301", "302", "303", "307", "308"])
@pytest.mark.parametrize("operation", ["submit", "poll", "balance", "upload"])
async def test_a_redirect_of_the_api_is_not_followed(
    places: tuple[EchoingGateway, EchoingGateway], operation: str, status: str, tmp_path: Path
) -> None:
    api, elsewhere = places
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    targets = [elsewhere.url, f"//{elsewhere.url.removeprefix('http://')}/x", "/elsewhere", "?key=1"]
    for target in targets:
        api.faults = {operation: lambda _, target=target: answer("", f"{status} Go", f"Location: {target}")}
        async with session_at(api.url, "apimart") as session:
            calls: dict[str, Any] = {
                "submit": lambda: session.generate(TextToVideo(PROMPT)),
                "poll": lambda: _followed(session),
                "balance": session.balance,
                "upload": lambda: session.upload(picture),
            }
            assert isinstance(await raised_by(calls[operation]()), KlingError)
    assert elsewhere.visits == []
    assert not [visit for visit in api.visits if visit.operation == "download" or "key=1" in visit.target]
    assert holding(api.visits) == []


async def _followed(session: KlingSession) -> Video:
    return await session.attach("task-1", timeout=0.2)


@pytest.mark.parametrize("name", GATEWAYS)
async def test_an_address_that_an_answer_names_is_never_asked(
    places: tuple[EchoingGateway, EchoingGateway], name: str
) -> None:
    """Where to look is made from the base URL and a checked id alone, whatever the gateway proposes."""
    api, elsewhere = places
    names = (
        "status_url",
        "response_url",
        "cancel_url",
        "poll_url",
        "callback_url",
        "webhook",
        "next",
        "location",
        "href",
    )
    proposed = dict.fromkeys(names, f"{elsewhere.url}/status?task=1")

    def taken(visit: Visit) -> Said:
        said = api.honest(visit)
        head, _, body = said.data.partition(b"\r\n\r\n")
        document = json.loads(body)
        places_in = [
            document,
            document.get("data"),
            *(document["data"] if isinstance(document.get("data"), list) else ()),
        ]
        for place in places_in:
            if isinstance(place, dict):
                place |= {**proposed, "urls": proposed, "links": proposed}
        kind = [f"{each.title()}: {elsewhere.url}" for each in ("location", "content-location", "link", "refresh")]
        return answer(json.dumps(document), head.split(b"\r\n")[0].decode().partition(" ")[2], *kind)

    api.faults = {"submit": taken, "poll": taken}
    async with session_at(api.url, name, **PATIENT) as session:
        video = await session.generate(TextToVideo(PROMPT))
    assert video.url.startswith(api.url)
    assert elsewhere.visits == []
    assert holding(api.visits) == []


@pytest.mark.parametrize("name", GATEWAYS)
@pytest.mark.parametrize(
    "odd", ["../../x", "http://127.0.0.1:1/x", "a/b", "a?b=c", "a#b", "@127.0.0.1", "//x", "a%2fb"]
)
async def test_an_id_is_no_address(places: tuple[EchoingGateway, EchoingGateway], name: str, odd: str) -> None:
    api, _ = places
    shape = {"code": 200, "data": {"task_id": odd, "id": odd, "job_id": odd}, "job_id": odd, "status": "pending"}
    api.faults = {"submit": lambda _: answer(json.dumps(shape))}
    async with session_at(api.url, name) as session:
        await raised_by(session.generate(TextToVideo(PROMPT)))
    looked = [visit.target for visit in api.visits if visit.operation == "poll"]
    assert all(odd not in target for target in looked if odd != "@127.0.0.1")
    assert holding(api.visits) == []


async def test_a_key_in_a_field_of_somebody_elses_is_not_sent_on(places: tuple[EchoingGateway, EchoingGateway]) -> None:
    """HTTP clients strip `Authorization` where a redirect leads elsewhere, and send `X-Key` on."""
    api, elsewhere = places
    kind = type(gateway_factory("kling3api")(KEY))  # type: ignore[arg-type]

    class Odd(kind):  # type: ignore[misc, valid-type]
        name = "odd"

        def authorize(self, request: HttpRequest, now: float) -> HttpRequest:
            return evolve(request, headers={**request.headers, "X-Key": self.api_key.reveal()})

    api.faults = {"submit": lambda _: answer("", "307 Go", f"Location: {elsewhere.url}/x")}
    async with session_at(api.url, Odd(KEY), api_key=None) as session:  # type: ignore[arg-type]
        error = await raised_by(session.generate(TextToVideo(PROMPT)))
    assert isinstance(error, KlingError)
    assert [visit.headers["x-key"] for visit in api.visits] == [KEY]
    assert elsewhere.visits == []


async def test_neither_a_proxy_nor_a_netrc_of_the_environment_is_used(
    places: tuple[EchoingGateway, EchoingGateway], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api, elsewhere = places
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password another-secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, elsewhere.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with session_at(api.url, "apimart", **PATIENT) as session:
        video = await session.generate(TextToVideo(PROMPT))
        await session.balance()
        await session.download(video, tmp_path / "x.mp4")
    assert elsewhere.visits == []
    assert holding(api.visits) == []
    assert "another-secret" not in repr([visit.head for visit in api.visits])


@pytest.mark.parametrize("operation", ["submit", "poll", "download"])
async def test_a_cookie_of_the_gateway_is_not_sent_back(
    places: tuple[EchoingGateway, EchoingGateway], operation: str, tmp_path: Path
) -> None:
    api, _ = places
    api.faults = {operation: _with_cookie(api)}
    async with session_at(api.url, **PATIENT) as session:
        for number in range(2):
            video = await session.generate(TextToVideo(PROMPT))
            await session.download(video, tmp_path / f"{number}.mp4")
    assert not [visit for visit in api.visits if "cookie" in visit.headers]


def _with_cookie(api: EchoingGateway) -> Fault:
    def say(visit: Visit) -> Said:
        head, _, body = api.honest(visit).data.partition(b"\r\n\r\n")
        return Said(head + b"\r\nSet-Cookie: session=abc; Path=/\r\n\r\n" + body)

    return say


_LIKE_IDS = ("kling3api-live-0123456789abcdef", "kling3-0123456789abcdef", "n75-sec-0123456789abcdef")


@pytest.mark.parametrize("key", ["k", "ling", *_LIKE_IDS])
async def test_a_paid_job_is_kept_whose_id_begins_or_ends_as_the_key_does(key: str) -> None:
    """The ids of kling3api look like n75abc123kling3."""
    with echoing_gateway() as gateway:
        gateway.faults = {"submit": lambda _: answer(json.dumps({"code": 200, "data": {"task_id": "n75-sec-kling3"}}))}
        gateway.faults["poll"] = ending("success", response=[f"{gateway.url}/videos/x.mp4"])
        async with session_at(gateway.url, api_key=key, **PATIENT) as session:
            video = await session.generate(TextToVideo(PROMPT))
    assert video.task_id == "n75-sec-kling3"


def test_what_is_asked_after_a_task_is_read_from_the_address() -> None:
    assert task_in(Visit("GET", "/api/status?task_id=a%2Fb", {}, b"", b"")) == "a/b"
    assert task_in(Visit("GET", "/v1/tasks/a%2Fb", {}, b"", b"")) == "a/b"


def test_a_key_in_the_wrong_place_is_found() -> None:
    """Otherwise none of these tests could fail."""
    quiet = {"authorization": f"Bearer {KEY}", "user-agent": "x"}
    head = f"Authorization: Bearer {KEY}".encode()
    assert holding([Visit("GET", "/a", quiet, b"", head)]) == []
    assert holding([Visit("GET", f"/a?key={KEY}", quiet, b"", head)])
    assert holding([Visit("GET", "/a", {**quiet, "user-agent": KEY}, b"", head)])
    assert holding([Visit("GET", "/a", {"authorization": KEY}, b"", head)])
    assert holding([Visit("POST", "/a", quiet, KEY.encode(), head)])
    assert credentials([Visit("GET", "/a", quiet, b"", head)])
