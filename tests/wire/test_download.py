"""Downloads against raw sockets: whole files or none, and nothing that a stranger's URL could reach."""

import asyncio
import gzip
import hashlib
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from raw import answer, raw_server, read_request, reset

from kling_async.addresses import is_public
from kling_async.disk import file_name
from kling_async.download import Download
from kling_async.errors import AuthenticationError, DownloadError
from kling_async.results import Video
from kling_async.sandbox.mp4 import video
from kling_async.settings import DownloadPolicy, RetryPolicy
from kling_async.transport import AiohttpTransport

pytestmark = pytest.mark.anyio

RETRY = RetryPolicy(attempts=4, initial=0.01, maximum=0.02)
FILM = video("n75abc", "16:9", 5) + b"\0\0\x80\x08free" + bytes(range(256)) * 128


def head(status="200 OK", length=len(FILM), *headers):
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {length}", *headers, "", ""]).encode()


async def fetch(url, target, *, policy=None, refresh=None, overwrite=False, base_url="http://127.0.0.1:1"):
    hosts = ("127.0.0.1",)
    transport = AiohttpTransport(base_url, connect=1.0, connections=4)

    async def nothing():
        return None

    policy = policy or DownloadPolicy(stall=0.3, minimum_speed=0, allow_private_hosts=hosts)
    download = Download(transport, policy, RETRY, base_url, refresh or nothing)
    video = Video("n75abc", url)
    try:
        return await download.run(video, download.target(video, target, overwrite=overwrite), overwrite=overwrite)
    finally:
        await transport.close()


async def code_of(url, target, **options):
    with pytest.raises(DownloadError) as caught:
        await fetch(url, target, **options)
    assert caught.value.stage == "download"
    assert caught.value.task_id == "n75abc"
    assert caught.value.__context__ is None
    return caught.value.code


async def test_a_whole_video_appears_under_its_name_and_nothing_else_does(tmp_path):
    async with raw_server(answer(FILM)) as server:
        path = await fetch(f"{server.url}/evil%2f..%2fname.mp4?sig=SECRET", tmp_path / "boat.mp4")

    assert path == tmp_path / "boat.mp4"
    assert path.read_bytes() == FILM
    assert os.listdir(tmp_path) == ["boat.mp4"]
    assert b"Authorization" not in server.requests[0]
    assert b"Cookie" not in server.requests[0]


async def test_a_directory_gets_a_file_named_after_the_task(tmp_path):
    async with raw_server(answer(FILM)) as server:
        assert await fetch(server.url, tmp_path) == tmp_path / "n75abc.mp4"


def cuts(*steps):
    """Serve the film with ranges; each connection breaks after the next number of bytes."""
    left = list(steps)

    async def play(server, reader, writer):
        request = await read_request(reader)
        server.requests.append(request)
        first = 0
        for line in request.split(b"\r\n"):
            if line.lower().startswith(b"range:"):
                first = int(line.split(b"=")[1].rstrip(b"-"))
        body = FILM[first:]
        status = "206 Partial Content" if first else "200 OK"
        extra = [f"Content-Range: bytes {first}-{len(FILM) - 1}/{len(FILM)}"] if first else []
        writer.write(head(status, len(body), 'ETag: "v1"', *extra))
        cut = left.pop(0) if left else len(body)
        writer.write(body[:cut])
        server.sent += min(cut, len(body))
        await writer.drain()
        await asyncio.sleep(0.05)
        if cut < len(body):
            reset(writer)

    return play


async def test_a_broken_transfer_is_taken_up_where_it_stopped(tmp_path):
    async with raw_server(cuts(20_000, 9_000)) as server:
        path = await fetch(server.url, tmp_path / "a.mp4")

    assert path.read_bytes() == FILM
    assert b"Range" not in server.requests[0]
    assert b'If-Range: "v1"' in server.requests[1]
    assert server.sent <= 1.1 * len(FILM)


async def test_a_transfer_that_stalls_is_taken_up_again(tmp_path):
    async def play(server, reader, writer):
        server.requests.append(await read_request(reader))
        if len(server.requests) == 1:
            writer.write(head() + FILM[:1000])
            await asyncio.sleep(5)
        writer.write(answer(FILM))

    async with raw_server(play) as server:
        path = await fetch(server.url, tmp_path / "a.mp4")
    assert path.read_bytes() == FILM


OTHER = video("n75other", "1:1", 7)


@pytest.mark.parametrize("second", ["changed", "ignored", "wrong range", "416", "weak"])
async def test_two_files_are_never_glued_together(tmp_path, second):
    async def play(server, reader, writer):
        request = await read_request(reader)
        server.requests.append(request)
        if len(server.requests) == 1:
            writer.write(head("200 OK", len(FILM), 'W/"v1"' if second == "weak" else 'ETag: "v1"') + FILM[:5000])
            await writer.drain()
            await asyncio.sleep(0.05)
            reset(writer)
        elif second == "wrong range" and b"Range" in request:
            writer.write(head("206 Partial Content", 10, 'ETag: "v1"', "Content-Range: bytes 0-9/99") + FILM[:10])
        elif second == "416" and b"Range" in request:
            writer.write(answer(b"", "416 Range Not Satisfiable"))
        else:
            writer.write(answer(OTHER, headers=['ETag: "v2"']))

    async with raw_server(play) as server:
        path = await fetch(server.url, tmp_path / "a.mp4")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == hashlib.sha256(OTHER).hexdigest()


async def test_a_server_in_trouble_is_asked_again_and_not_for_ever(tmp_path):
    async def play(server, reader, writer):
        server.requests.append(await read_request(reader))
        writer.write(answer(b"", "503 Busy") if len(server.requests) <= 2 else answer(FILM))

    async with raw_server(play) as server:
        assert (await fetch(server.url, tmp_path / "a.mp4")).read_bytes() == FILM
    async with raw_server(answer(b"", "500 No")) as server:
        assert await code_of(server.url, tmp_path / "b.mp4") == "network"
        assert len(server.requests) == RETRY.attempts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Sign in</body></html>",
        b'{"error": "expired"}',
        FILM[:3000],
        FILM[:40],
        b"\0\0\0\x08ftyp",
        FILM + b"x",
    ],
)
async def test_what_is_not_a_whole_video_is_refused_and_leaves_nothing(tmp_path, body):
    async with raw_server(answer(body, headers=["Content-Type: video/mp4"])) as server:
        assert await code_of(server.url, tmp_path / "a.mp4") == "not_a_video"
    assert os.listdir(tmp_path) == []


async def test_a_compressed_video_is_written_as_it_plays(tmp_path):
    async with raw_server(answer(gzip.compress(FILM), headers=["Content-Encoding: gzip"])) as server:
        assert (await fetch(server.url, tmp_path / "a.mp4")).read_bytes() == FILM


def limited(**changes):
    return DownloadPolicy(**{"stall": 0.3, "minimum_speed": 0, "allow_private_hosts": ("127.0.0.1",), **changes})


async def test_a_file_that_announces_too_much_is_refused_before_a_byte_is_written(tmp_path):
    async with raw_server(head("200 OK", 10**12)) as server:
        assert await code_of(server.url, tmp_path / "a.mp4", policy=limited(max_bytes=10**6)) == "too_large"


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_file_without_an_end_stops_at_the_cap(tmp_path, compressed):
    async def endless(server, reader, writer):
        await read_request(reader)
        coding = b"Content-Encoding: gzip\r\n" if compressed else b""
        writer.write(b"HTTP/1.1 200 OK\r\n" + coding + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = gzip.compress(b"\0" * 10**7) if compressed else b"\0" * 65536
        while True:
            writer.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
            await writer.drain()
            server.sent += len(piece)

    async with raw_server(endless) as server:
        assert await code_of(server.url, tmp_path / "a.mp4", policy=limited(max_bytes=10**6)) == "too_large"
        assert server.sent <= 9 * 1024 * 1024
    assert os.listdir(tmp_path) == []


async def test_a_drip_is_too_slow(tmp_path):
    async def drip(server, reader, writer):
        await read_request(reader)
        writer.write(head())
        while True:
            writer.write(b"\0")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_server(drip) as server:
        begun = time.monotonic()
        assert await code_of(server.url, tmp_path / "a.mp4", policy=limited(minimum_speed=1000)) == "too_slow"
        assert time.monotonic() - begun < 1.5


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "410 Gone"])
async def test_an_expired_url_is_asked_for_anew_once(tmp_path, status):
    async def play(server, reader, writer):
        request = await read_request(reader)
        server.requests.append(request)
        writer.write(answer(FILM) if b"/fresh" in request else answer(b"", status))

    async with raw_server(play) as server:
        asked = []

        async def refresh():
            asked.append(1)
            return Video("n75abc", f"{server.url}/fresh")

        assert (await fetch(f"{server.url}/old", tmp_path / "a.mp4", refresh=refresh)).read_bytes() == FILM
        assert asked == [1]
        assert await code_of(f"{server.url}/old", tmp_path / "b.mp4") == "expired"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_within_their_limit(tmp_path, status):
    async def play(server, reader, writer):
        request = await read_request(reader)
        server.requests.append(request)
        hops = len(server.requests)
        writer.write(answer(FILM) if hops == 4 else answer(b"", f"{status} Moved", [f"Location: /hop{hops}"]))

    async with raw_server(play) as server:
        assert (await fetch(server.url, tmp_path / "a.mp4")).read_bytes() == FILM
    async with raw_server(answer(b"", f"{status} Moved", ["Location: /again"])) as server:
        assert await code_of(server.url, tmp_path / "b.mp4") == "redirects"
        assert len(server.requests) == 6


BLOCKED = [
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "ftp://127.0.0.1/a.mp4",
    "data:video/mp4;base64,AAAA",
    "javascript:alert(1)",
    "http://user:pw@127.0.0.1/a.mp4",
    "http:///a.mp4",
    "//127.0.0.1/a.mp4",
    "/a.mp4",
    "http://127.0.0.1\\@evil/",
    "http://0x7f000001/a",
    "http://2130706433/a",
    "http://0177.0.0.1/a",
    "http://127.1/a",
    "http://１２７.0.0.1/a",
    "http://127。0。0。1/a",
    "http://127.0.0.1:0/a",
    "http://127.0.0.1:99999/a",
]


@pytest.mark.parametrize(
    "url", [*BLOCKED, "http://127.0.0.1/a b", "http://127.0.0.1/\r\nX: y", "http://h/" + "a" * 9000]
)
async def test_urls_that_are_not_plain_web_addresses_are_blocked(tmp_path, url):
    assert await code_of(url, tmp_path / "a.mp4") == "blocked"


PRIVATE = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0", "[::]"]


@pytest.mark.parametrize("host", PRIVATE)
async def test_private_addresses_are_blocked_at_the_socket_unless_allowed(tmp_path, host):
    async with raw_server(answer(FILM)) as server:
        url = f"http://{host}:{server.port}/a.mp4"
        assert await code_of(url, tmp_path / "a.mp4", policy=DownloadPolicy()) == "blocked"
        assert server.connections == 0


async def test_a_redirect_to_a_private_address_is_blocked(tmp_path):
    async with raw_server(answer(FILM)) as inside:
        onwards = answer(b"", "302 Found", [f"Location: {inside.url}/secret"])
        async with raw_server(onwards) as server:
            policy = DownloadPolicy(allow_private_hosts=(f"127.0.0.1:{server.port}",))
            assert await code_of(server.url, tmp_path / "a.mp4", policy=policy) == "blocked"
        assert inside.connections == 0


async def test_the_host_and_port_of_the_gateway_are_allowed_and_no_other_port(tmp_path):
    async with raw_server(answer(FILM)) as server, raw_server(answer(FILM)) as neighbour:
        await fetch(f"{server.url}/a.mp4", tmp_path / "a.mp4", policy=DownloadPolicy(), base_url=server.url)
        code = await code_of(neighbour.url, tmp_path / "b.mp4", policy=DownloadPolicy(), base_url=server.url)
    assert code == "blocked"
    assert neighbour.connections == 0


async def test_an_existing_file_is_never_replaced_unless_asked(tmp_path):
    target = tmp_path / "a.mp4"
    target.write_text("mine")
    async with raw_server(answer(FILM)) as server:
        assert await code_of(server.url, target) == "disk"
        assert target.read_text() == "mine"
        await fetch(server.url, target, overwrite=True)
    assert target.read_bytes() == FILM


async def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    target = tmp_path / "a.mp4"

    async def play(server, reader, writer):
        await read_request(reader)
        target.write_text("mine")
        writer.write(answer(FILM))

    async with raw_server(play) as server:
        assert await code_of(server.url, target) == "disk"
    assert target.read_text() == "mine"
    assert os.listdir(tmp_path) == ["a.mp4"]


async def test_a_symlink_in_the_way_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a.mp4.part").symlink_to(victim)
    (tmp_path / "b.mp4").symlink_to(victim)
    async with raw_server(answer(FILM)) as server:
        assert await code_of(server.url, tmp_path / "a.mp4") == "disk"
        assert await code_of(server.url, tmp_path / "b.mp4", overwrite=True) == "disk"
    assert victim.read_text() == "precious"
    assert (tmp_path / "a.mp4.part").is_symlink()


async def test_a_part_left_by_a_crash_is_replaced(tmp_path):
    (tmp_path / "a.mp4.part").write_bytes(b"half of something")
    async with raw_server(answer(FILM)) as server:
        assert (await fetch(server.url, tmp_path / "a.mp4")).read_bytes() == FILM


async def test_a_part_that_another_process_writes_is_left_alone(tmp_path):
    part = tmp_path / "a.mp4.part"
    part.write_bytes(b"theirs")
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print('locked', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, part], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "locked\n"
        async with raw_server(answer(FILM)) as server:
            assert await code_of(server.url, tmp_path / "a.mp4") == "disk"
        other.communicate("\n")
    assert part.read_bytes() == b"theirs"


async def test_a_directory_that_is_missing_or_vanishes_is_a_disk_error(tmp_path):
    assert await code_of("http://127.0.0.1:9/a.mp4", tmp_path / "no" / "a.mp4") == "disk"
    folder = tmp_path / "folder"
    folder.mkdir()

    async def play(server, reader, writer):
        await read_request(reader)
        (folder / "a.mp4.part").unlink()
        folder.rmdir()
        writer.write(answer(FILM))

    async with raw_server(play) as server:
        assert await code_of(server.url, folder / "a.mp4") == "disk"


async def test_a_full_disk_is_a_disk_error_and_is_not_tried_again(tmp_path):
    def stop_growing(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        async with raw_server(answer(FILM)) as server:
            stop_growing(10_000)
            assert await code_of(server.url, tmp_path / "a.mp4") == "disk"
            assert len(server.requests) == 1
    finally:
        stop_growing(soft)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.listdir(tmp_path) == []


async def test_a_cancelled_download_leaves_nothing(tmp_path):
    async def play(server, reader, writer):
        await read_request(reader)
        writer.write(head() + FILM[:1000])
        await writer.drain()
        await asyncio.sleep(5)

    async with raw_server(play) as server:
        task = asyncio.ensure_future(fetch(server.url, tmp_path / "a.mp4", policy=limited(stall=5)))
        await asyncio.sleep(0.1)
        assert os.listdir(tmp_path) == ["a.mp4.part"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        "a/b",
        "con",
        "NUL",
        "x" * 300,
        "",
        ".",
        "..",
        "a\x00b",
        "…\u202egpj.4pm",
        "-rf",
        "a b",
        "ключ",
    ],
)
def test_file_names_are_safe_and_differ_where_keys_do(key):
    name = file_name(key)
    assert name.endswith(".mp4")
    assert len(name.encode()) <= 120
    assert name.isascii()
    assert not set(name) & set('/\\\0 :*?"<>|')
    assert not name.startswith((".", "-"))
    assert name != file_name(key + "2")


def test_a_plain_key_is_its_own_file_name():
    assert file_name("order-123") == "order-123.mp4"


def gone_and_anew(lost, why=None):
    """Serve an expired URL and a fresh one; the gateway tells the fresh one only after so many missed looks."""
    asked = []

    async def play(server, reader, writer):
        request = await read_request(reader)
        writer.write(answer(b"", "410 Gone") if b"GET /old" in request else answer(FILM))

    async def refresh_from(server):
        asked.append(1)
        if len(asked) <= lost:
            raise DownloadError("the answer was lost", code="network", stage="download", cause=why)
        return Video("n75abc", f"{server.url}/new")

    return play, refresh_from, asked


async def test_an_answer_that_is_lost_while_a_url_is_renewed_is_asked_for_again(tmp_path):
    play, refresh_from, asked = gone_and_anew(lost=2)
    async with raw_server(play) as server:
        path = await fetch(f"{server.url}/old", tmp_path / "a.mp4", refresh=lambda: refresh_from(server))
    assert path.read_bytes() == FILM
    assert len(asked) == 3


async def test_a_gateway_that_never_answers_is_asked_for_a_url_a_bounded_number_of_times(tmp_path):
    play, refresh_from, asked = gone_and_anew(lost=99)
    async with raw_server(play) as server:
        code = await code_of(f"{server.url}/old", tmp_path / "a.mp4", refresh=lambda: refresh_from(server))
    assert code == "network"
    assert len(asked) == RETRY.attempts
    assert os.listdir(tmp_path) == []


async def test_a_key_that_is_refused_while_a_url_is_renewed_is_not_tried_again(tmp_path):
    play, refresh_from, asked = gone_and_anew(lost=99, why=AuthenticationError("no such key"))
    async with raw_server(play) as server:
        code = await code_of(f"{server.url}/old", tmp_path / "a.mp4", refresh=lambda: refresh_from(server))
    assert code == "network"
    assert len(asked) == 1


async def test_a_renewed_url_starts_the_file_anew(tmp_path):
    other = bytes(reversed(FILM[len(FILM) // 2 :]))

    async def play(server, reader, writer):
        request = await read_request(reader)
        server.requests.append(request)
        if b"GET /old" in request and len(server.requests) == 1:
            writer.write(head("200 OK", len(FILM), 'ETag: "1"') + FILM[:20_000])
            await writer.drain()
            await asyncio.sleep(0.05)
            reset(writer)
        elif b"GET /old" in request:
            writer.write(answer(b"", "410 Gone"))
        elif b"Range" in request:
            first = int(request.split(b"bytes=")[1].split(b"-")[0])
            where = f"Content-Range: bytes {first}-{len(FILM) - 1}/{len(FILM)}"
            writer.write(head("206 Partial Content", len(other), 'ETag: "1"', where) + other)
        else:
            writer.write(answer(OTHER, headers=['ETag: "1"']))

    async with raw_server(play) as server:

        async def refresh():
            return Video("n75abc", f"{server.url}/new")

        path = await fetch(f"{server.url}/old", tmp_path / "a.mp4", refresh=refresh)
    assert path.read_bytes() == OTHER


def _flood(data):
    async def flood(server, reader, writer):
        server.requests.append(await read_request(reader))
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.01)

    return flood


HELD = {
    "interim answers": _flood(b"HTTP/1.1 102 Processing\r\n\r\n"),
    "a head without an end": _flood(b"X"),
    "nothing": _flood(b""),
}


@pytest.mark.parametrize("way", HELD)
async def test_a_host_that_holds_a_download_up_is_let_go(tmp_path, way):
    async with raw_server(HELD[way]) as server:
        begun = time.monotonic()
        async with asyncio.timeout(15):
            assert await code_of(server.url, tmp_path / "a.mp4") == "network"
        assert time.monotonic() - begun < 12


async def test_a_compressed_stream_that_yields_nothing_is_let_go(tmp_path):
    async def empty_blocks(server, reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"2\r\nx\x9c\r\n")
        while True:
            writer.write(b"5\r\n\x00\x00\x00\xff\xff\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with raw_server(empty_blocks) as server, asyncio.timeout(10):
        assert await code_of(server.url, tmp_path / "a.mp4") == "network"


async def test_a_transfer_that_creeps_is_given_up(tmp_path):
    async def byte_by_byte(server, reader, writer):
        request = await read_request(reader)
        server.requests.append(request)
        first = int(request.split(b"bytes=")[1].split(b"-")[0]) if b"bytes=" in request else 0
        where = [f"Content-Range: bytes {first}-{len(FILM) - 1}/{len(FILM)}"] if first else []
        status = "206 Partial Content" if first else "200 OK"
        writer.write(head(status, len(FILM) - first, 'ETag: "1"', *where) + FILM[first : first + 1])
        await writer.drain()
        await asyncio.sleep(0.02)
        reset(writer)

    async with raw_server(byte_by_byte) as server:
        assert await code_of(server.url, tmp_path / "a.mp4") == "network"
        assert len(server.requests) <= 2 * RETRY.attempts


async def test_a_redirect_to_nonsense_is_blocked(tmp_path):
    async with raw_server(answer(b"", "302 Found", ["Location: http://[::1"])) as server:
        assert await code_of(server.url, tmp_path / "a.mp4") == "blocked"


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "a\ud800b"])
async def test_a_path_that_cannot_be_is_a_disk_error(tmp_path, name):
    assert await code_of("http://127.0.0.1:9/a.mp4", tmp_path / name) == "disk"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("64:ff9b::808:808", True),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:a9fe:a9fe::", False),
        ("2002:7f00:1::", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("1::1", False),
        ("4000::1", False),
        ("e000::1", False),
        ("3fff::1", False),
        ("fe80::1%eth0", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("198.18.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("fd00::1", False),
        ("not an address", False),
    ],
)
def test_only_addresses_on_the_public_internet_are_public(address, public):
    assert is_public(address) is public


async def test_a_transfer_behind_a_redirect_is_taken_up_where_it_stopped(tmp_path):
    breaking = cuts(20_000, 9_000)

    async def redirect(server, reader, writer):
        server.requests.append(await read_request(reader))
        where = f"Location: {film.url}/film.mp4?signature={len(server.requests)}"
        writer.write(answer(b"", "302 Found", [where]))

    async with raw_server(breaking) as film, raw_server(redirect) as server:
        path = await fetch(server.url, tmp_path / "a.mp4")
        assert film.sent <= 1.1 * len(FILM)
        assert len(server.requests) == 3
    assert path.read_bytes() == FILM


async def test_a_range_from_another_place_is_not_glued_on(tmp_path):
    async def other(server, reader, writer):
        request = await read_request(reader)
        first = int(request.split(b"bytes=")[1].split(b"-")[0]) if b"bytes=" in request else 0
        where = [f"Content-Range: bytes {first}-{len(FILM) - 1}/{len(FILM)}"] if first else []
        body = OTHER if not first else bytes(len(FILM) - first)
        writer.write(head("206 Partial Content" if first else "200 OK", len(body), 'ETag: "v1"', *where) + body)

    async with raw_server(cuts(20_000)) as one, raw_server(other) as two:

        async def redirect(server, reader, writer):
            server.requests.append(await read_request(reader))
            place = one if len(server.requests) == 1 else two
            writer.write(answer(b"", "302 Found", [f"Location: {place.url}/film.mp4"]))

        async with raw_server(redirect) as server:
            path = await fetch(server.url, tmp_path / "a.mp4")
    assert path.read_bytes() == OTHER
