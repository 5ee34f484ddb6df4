"""The transport against raw sockets: what was sent, what was lost, and what never leaves."""

import asyncio
import gzip
import json
import socket
import time
import traceback

import pytest
from memory import growth_since, peak_from_here
from raw import answer, raw_server, read_request, reset

from kling_async.errors import ConnectionFailedError, KlingError, ProtocolError, ResponseLostError
from kling_async.network import Fence
from kling_async.transport import MAX_BODY, AiohttpTransport
from kling_async.wire import HttpRequest, Part

pytestmark = pytest.mark.anyio

POST = HttpRequest(
    "POST", "/api/generate", json={"prompt": "ein Boot im Regen ☂"}, headers={"Authorization": "Bearer kanarie-1"}
)
GET = HttpRequest("GET", "/api/status", query={"task_id": "a&b/c"})


async def send(url, request=POST, *, fence=None, fresh=True, timeout=2.0, times=1):
    transport = AiohttpTransport(url, connect=1.0, connections=4)
    try:
        for _ in range(times):
            response = await transport.send(request, timeout=timeout, fence=fence, fresh=fresh)
        return response
    finally:
        await transport.close()


async def failure(url, request=POST, **options):
    fence = Fence()
    try:
        await send(url, request, fence=fence, **options)
    except KlingError as error:
        return error, fence.sent
    raise AssertionError("nothing failed")


async def test_a_request_is_sent_as_it_is_and_its_answer_read_whole():
    async with raw_server(answer('{"a": 1}', "201 Created", ["Retry-After: 7", "X-Request-Id: r1"])) as server:
        response = await send(server.url + "/prefix")

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /prefix/api/generate HTTP/1.1\r\n")
    assert b"Authorization: Bearer kanarie-1" in head
    assert b"Content-Type: application/json" in head
    assert b"Cookie" not in head
    assert json.loads(body) == POST.json
    assert (response.status, response.json(), response.retry_after) == (201, {"a": 1}, 7.0)
    assert response.headers["x-request-id"] == "r1"


async def test_a_query_is_percent_encoded_once():
    async with raw_server(answer()) as server:
        await send(server.url, GET, fresh=False)
    assert server.requests[0].startswith(b"GET /api/status?task_id=a%26b%2Fc HTTP/1.1\r\n")


async def test_parts_are_sent_as_a_multipart_form():
    request = HttpRequest("POST", "/v1/uploads/images", parts=(Part("file", "fox.png", "image/png", b"\x89PNG"),))
    async with raw_server(answer()) as server:
        await send(server.url, request)
    assert b'name="file"; filename="fox.png"' in server.requests[0]
    assert b"\x89PNG" in server.requests[0]


async def test_a_request_with_a_fence_never_shares_a_connection():
    async with raw_server(answer()) as server:
        transport = AiohttpTransport(server.url, connect=1.0, connections=4)
        for _ in range(2):
            fence = Fence()
            await transport.send(GET, timeout=2.0, fence=fence, fresh=False)
            assert fence.sent
        await transport.close()
    assert server.connections == 2


async def test_a_refused_connection_was_not_sent():
    error, sent = await failure("http://127.0.0.1:9")
    assert isinstance(error, ConnectionFailedError)
    assert (error.code, error.stage, error.charged, sent) == ("refused", "connect", "no", False)


async def test_a_name_that_does_not_resolve_was_not_sent(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # nobody else is asked, not even for a name
    error, sent = await failure("http://no-such-host.invalid")
    assert isinstance(error, ConnectionFailedError)
    assert (error.code, sent) == ("dns", False)


async def test_tls_to_a_plain_port_was_not_sent():
    async def plain(server, reader, writer):
        await reader.read(100)
        writer.write(answer(status="400 Bad Request"))
        await writer.drain()

    async with raw_server(plain) as server:
        error, sent = await failure(server.url.replace("http:", "https:"))
    assert (type(error), error.code, sent) == (ConnectionFailedError, "tls", False)


async def test_a_connect_that_takes_too_long_was_not_sent(unused_listener):
    error, sent = await failure(unused_listener, timeout=0.3)
    assert isinstance(error, ConnectionFailedError | ResponseLostError)
    assert sent is isinstance(error, ResponseLostError)


@pytest.fixture
def unused_listener():
    """A listening socket whose backlog is full: connects hang."""
    import socket

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fill = []
    for _ in range(8):
        other = socket.socket()
        other.setblocking(False)
        other.connect_ex(listener.getsockname())
        fill.append(other)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    for each in (*fill, listener):
        each.close()


def after_reading(then):
    async def play(server, reader, writer):
        server.requests.append(await read_request(reader))
        await then(writer)

    return play


async def _reset(writer):
    reset(writer)


async def _close(writer):
    writer.close()


async def _silence(writer):
    await asyncio.sleep(30)


def _say(data):
    async def say(writer):
        writer.write(data)
        await writer.drain()

    return say


def _drip(data):
    async def drip(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.05)

    return drip


LOST = {
    "reset": _reset,
    "close": _close,
    "silence": _silence,
    "garbage": _say(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "half a status line": _say(b"HTTP/1.1 20"),
    "half the head": _say(b"HTTP/1.1 200 OK\r\nContent-"),
    "bad status line": _say(b"HTTP/1.1 abc OK\r\n\r\n"),
    "bad length": _say(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}"),
    "two lengths": _say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "length and chunks": _say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"),
    "huge header": _say(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n"),
    "many headers": _say(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"),
    "NUL in a header": _say(b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n"),
    "short body": _say(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a":'),
    "cut chunks": _say(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a"'),
    "broken gzip": _say(answer(b"\x1f\x8bnonsense", headers=["Content-Encoding: gzip"])),
    "drip": _drip(b" "),
    "interim flood": _say(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000),
}


@pytest.mark.parametrize("fault", LOST)
async def test_an_answer_that_is_lost_after_the_send_is_never_a_refusal(fault):
    async with raw_server(after_reading(LOST[fault])) as server:
        begun = time.monotonic()
        error, sent = await failure(server.url, timeout=0.6)
        assert time.monotonic() - begun < 2
    assert isinstance(error, ResponseLostError | ProtocolError)
    assert sent is True
    assert error.http_status in (None, 200)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize(
    "location", ["/redirected", "http://127.0.0.1:9/other", "file:///etc/passwd", "", "http://u:p@127.0.0.1/"]
)
async def test_a_redirect_is_returned_and_never_followed(status, location):
    async with raw_server(answer(b"", status, [f"Location: {location}"])) as server:
        response = await send(server.url)
    assert response.status == int(status[:3])
    assert len(server.requests) == 1


async def test_each_paid_request_has_a_connection_of_its_own_and_looks_share_theirs():
    async with raw_server(answer()) as server:
        await send(server.url, times=5)
        assert server.connections == 5
        await send(server.url, GET, times=5, fresh=False)
        assert server.connections == 6


@pytest.mark.parametrize("hang_up", [_reset, _close])
async def test_a_server_that_closes_idle_connections_costs_no_paid_request(hang_up):
    async def play(server, reader, writer):
        server.requests.append(await read_request(reader))
        writer.write(answer(headers=["Connection: keep-alive"]))
        await writer.drain()
        await hang_up(writer)

    async with raw_server(play) as server:
        transport = AiohttpTransport(server.url, connect=1.0, connections=4)
        for _ in range(100):
            fence = Fence()
            response = await transport.send(POST, timeout=2.0, fence=fence, fresh=True)
            assert response.status == 200
        await transport.close()
    assert len(server.requests) == 100


async def test_an_answer_that_nobody_asked_for_is_never_taken_for_that_of_a_paid_request():
    async def play(server, reader, writer):
        request = await read_request(reader)
        name = request.split(b" ")[1][1:]
        writer.write(answer(b'{"to": "%s"}' % name) + answer(b'{"to": "ghost"}'))
        await writer.drain()
        await asyncio.sleep(0.2)

    async with raw_server(play) as server:
        transport = AiohttpTransport(server.url, connect=1.0, connections=4)
        for name in ("a", "b", "c", "d"):
            response = await transport.send(
                HttpRequest("POST", f"/{name}", json={}), timeout=2, fence=Fence(), fresh=True
            )
            assert response.json()["to"].startswith(name)
        await transport.close()


@pytest.mark.parametrize("delay", [None, 0.0, 0.01], ids=["with the answer", "after it", "while idle"])
async def test_a_pooled_connection_that_speaks_unasked_is_not_used_again(delay):
    async def play(server, reader, writer):
        while True:
            request = await read_request(reader)
            writer.write(answer(request.split(b" ")[1]))
            if delay is not None:
                await writer.drain()
                await asyncio.sleep(delay)
            writer.write(answer(b"ghost", "401 Unauthorized"))
            await writer.drain()

    async with raw_server(play) as server:
        transport = AiohttpTransport(server.url, connect=1.0, connections=4)
        for name in (b"/a", b"/b", b"/c", b"/d"):
            request = HttpRequest("GET", name.decode())
            response = await transport.send(request, timeout=2, fence=None, fresh=False)
            assert (response.status, response.body) == (200, name)
            await asyncio.sleep(0.03)
        await transport.close()
    assert server.connections == 4


async def test_cookies_are_not_sent_back():
    async with raw_server(answer(headers=["Set-Cookie: a=b; Path=/"])) as server:
        await send(server.url, GET, times=2, fresh=False)
    assert b"Cookie:" not in server.requests[1]


async def test_a_compressed_bomb_stops_at_the_cap():
    bomb = gzip.compress(b"\0" * (256 * 1024 * 1024))
    async with raw_server(answer(bomb, headers=["Content-Encoding: gzip"])) as server:
        before = peak_from_here()
        error, sent = await failure(server.url, timeout=5)
    assert (type(error), error.code, sent) == (ProtocolError, "too_large", True)
    assert growth_since(before) < 32 * 1024 * 1024


async def test_an_endless_answer_stops_at_the_cap():
    async def endless(server, reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()
            server.sent += 0x10000

    async with raw_server(endless) as server:
        error, _ = await failure(server.url, timeout=5)
    assert error.code == "too_large"
    assert server.sent < 16 * MAX_BODY


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000),
    "one endless extension": (CHUNKED + b"1;", b"x" * 0x10000),
    "an extension for each byte": (CHUNKED, (b"1;" + b"x" * 8000 + b"\r\n \r\n") * 8),
    "quoted extensions": (CHUNKED, (b'1;a="' + b"y" * 8000 + b'"\r\n \r\n') * 8),
}


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("request_", [POST, GET], ids=["submit", "look"])
async def test_what_aiohttp_swallows_without_a_count_stops_at_the_cap(name, request_):
    head, flood = FLOODS[name]

    async def endless(server, reader, writer):
        await read_request(reader)
        writer.write(head)
        while True:
            writer.write(flood)
            await writer.drain()
            server.sent += len(flood)

    async with raw_server(endless) as server:
        transport = AiohttpTransport(server.url, connect=1.0, connections=4)
        fence = Fence() if request_ is POST else None
        begun = time.monotonic()
        with pytest.raises(KlingError) as caught:
            await transport.send(request_, timeout=20, fence=fence, fresh=fence is not None)
        await transport.close()
    assert time.monotonic() - begun < 5
    assert (type(caught.value), caught.value.code) == (ProtocolError, "too_large")
    assert server.sent < 16 * MAX_BODY


async def test_an_answer_in_the_smallest_pieces_is_read():
    body = b'{"a":"' + b"x" * (MAX_BODY - 8) + b'"}'
    framed = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    async with raw_server(CHUNKED + framed + b"0\r\n\r\n") as server:
        response = await send(server.url, timeout=20)
    assert response.body == body


async def test_the_cap_is_of_one_answer_and_not_of_a_connection():
    async with raw_server(answer(b"x" * MAX_BODY)) as server:
        response = await send(server.url, GET, fresh=False, times=20, timeout=5)
    assert (len(response.body), server.connections) == (MAX_BODY, 1)


async def test_a_refusal_with_a_huge_body_is_still_a_refusal():
    async with raw_server(answer(b"x" * (3 * MAX_BODY), "400 Bad Request")) as server:
        response = await send(server.url, timeout=5)
    assert response.status == 400


async def test_no_error_of_the_transport_holds_the_key_or_a_foreign_exception():
    for fault in ("reset", "garbage", "short body", "silence"):
        async with raw_server(after_reading(LOST[fault])) as server:
            try:
                await send(server.url, fence=Fence(), timeout=0.4)
            except KlingError as error:
                assert error.__context__ is None
                assert error.__cause__ is None
                shown = "".join(traceback.TracebackException.from_exception(error).format())
                assert "kanarie-1" not in shown + repr(error) + repr(vars(error))


async def test_the_repr_of_a_request_shows_no_credentials():
    assert "kanarie" not in repr(POST)


async def test_a_look_that_fails_is_sent_once_and_not_repeated_behind_our_back():
    async def hang_up(server, reader, writer):
        server.requests.append(await read_request(reader))
        writer.close()

    async with raw_server(hang_up) as server:
        with pytest.raises(KlingError):
            await send(server.url, GET, fresh=False)
        assert len(server.requests) == 1
