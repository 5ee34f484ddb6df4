"""Bodies in every encoding, over a socket: read whole, or refused as doubt; never more of them than the cap."""

import asyncio
import gzip
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from socket import create_server, socket
from typing import Any

import pytest
from memory import growth_since, peak_from_here

from kling_async.errors import KlingError, ProtocolError, ResponseLostError
from kling_async.network import Fence
from kling_async.transport import MAX_BODY, AiohttpTransport
from kling_async.wire import HttpRequest, HttpResponse

GOOD = b'{"code":200,"data":{"task_id":"n75abc123kling3"}}'
ZEROS = b"\0" * (96 * 1024 * 1024)


def _deflated(data: bytes) -> bytes:
    """Compress without a header, as some servers understand "deflate"."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _framed(body: bytes, encodings: tuple[str, ...], *, chunked: bool, status: str = "200 OK") -> bytes:
    heads = [f"HTTP/1.1 {status}", *(f"Content-Encoding: {encoding}" for encoding in encodings)]
    if not chunked:
        return "\r\n".join([*heads, f"Content-Length: {len(body)}", "", ""]).encode() + body
    pieces = [body[at : at + 4000] for at in range(0, len(body), 4000)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return "\r\n".join([*heads, "Transfer-Encoding: chunked", "", ""]).encode() + framed + b"0\r\n\r\n"


@contextmanager
def _served(answer: bytes) -> Iterator[str]:
    """Serve one answer to one connection."""

    def serve(listening: socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(10)
            connection.recv(65536)
            try:
                connection.sendall(answer)
                connection.recv(1)
            except OSError:
                return  # the client has heard enough

    with create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            thread.join()


def said(answer: bytes) -> Any:
    """What the transport makes of an answer to a paid request: the response, or the error."""

    async def ask(url: str) -> HttpResponse | KlingError:
        transport = AiohttpTransport(url, connect=2.0, connections=2)
        try:
            return await transport.send(HttpRequest("POST", "/x", json={}), timeout=10, fence=Fence(), fresh=True)
        except KlingError as error:
            return error
        finally:
            await transport.close()

    with _served(answer) as url:
        return asyncio.run(ask(url))


CHUNKED = pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])


@CHUNKED
@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (GOOD, "identity"),
        (gzip.compress(GOOD), "gzip"),
        (gzip.compress(GOOD), "GZIP"),
        (zlib.compress(GOOD), "deflate"),
        (_deflated(GOOD), "deflate"),
        (gzip.compress(GOOD[:20]) + gzip.compress(GOOD[20:]), "gzip"),
        (b"".join(gzip.compress(bytes([byte])) for byte in GOOD), "gzip"),
    ],
    ids=["identity", "gzip", "capitals", "zlib", "raw deflate", "two members", "a member a byte"],
)
def test_a_compressed_answer_is_read_whole(body: bytes, encoding: str, chunked: bool) -> None:
    assert said(_framed(body, (encoding,), chunked=chunked)).body == GOOD


@CHUNKED
@pytest.mark.parametrize(
    ("body", "encodings"),
    [
        (gzip.compress(GOOD)[:-20], ("gzip",)),
        (gzip.compress(GOOD)[:-8] + b"\0" * 8, ("gzip",)),
        (gzip.compress(GOOD) + b"junk", ("gzip",)),
        (b"\x1f\x8b" + b"\0" * 60, ("gzip",)),
        (b"", ("gzip",)),
        (GOOD, ("gzip",)),
        (gzip.compress(gzip.compress(GOOD)), ("gzip",)),
        (gzip.compress(gzip.compress(GOOD)), ("gzip, gzip",)),
        (gzip.compress(zlib.compress(GOOD)), ("deflate", "gzip")),
        (gzip.compress(GOOD), ("deflate",)),
        (gzip.compress(GOOD), ("x-unheard-of",)),
        (GOOD, ("x-unheard-of",)),
        (b"\x0b\x02\x80abc\x03", ("br",)),
        (b"\x28\xb5\x2f\xfd\x04\x00", ("zstd",)),
    ],
    ids=[
        *("cut", "wrong sum", "junk behind", "corrupt", "empty", "not compressed", "twice", "twice and told"),
        *("two headers", "another format", "unknown", "unknown and plain", "br", "zstd"),
    ],
)
def test_what_cannot_be_unpacked_is_no_answer(body: bytes, encodings: tuple[str, ...], chunked: bool) -> None:
    """It is lost, or it is no JSON; on a paid request either is doubt, and never a refusal."""
    found = said(_framed(body, encodings, chunked=chunked))
    if isinstance(found, HttpResponse):
        with pytest.raises(ProtocolError):
            found.json()
    else:
        assert isinstance(found, (ResponseLostError, ProtocolError))
        assert found.charged == "unknown"


BOMBS = {
    "gzip": (gzip.compress(ZEROS), "gzip"),
    "zlib": (zlib.compress(ZEROS), "deflate"),
    "raw deflate": (_deflated(ZEROS), "deflate"),
    "in the second member": (gzip.compress(GOOD) + gzip.compress(ZEROS), "gzip"),
    "of many members": (gzip.compress(b"\0" * 10_000) * 9000, "gzip"),
    "bomb in a bomb": (gzip.compress(gzip.compress(ZEROS) * 300), "gzip"),
}


@CHUNKED
@pytest.mark.parametrize("name", BOMBS)
def test_no_bomb_goes_off(name: str, chunked: bool) -> None:
    body, encoding = BOMBS[name]
    answer = _framed(body, (encoding,), chunked=chunked)
    before, begun = peak_from_here(), time.process_time()
    found = said(answer)
    spent = time.process_time() - begun
    assert isinstance(found, ProtocolError)
    assert (found.code, found.http_status, found.charged) == ("too_large", 200, "unknown")
    assert growth_since(before) < 32 * 1024 * 1024
    assert spent < 1.0


@CHUNKED
def test_a_refusal_stays_one_however_large_it_unpacks(chunked: bool) -> None:
    found = said(_framed(gzip.compress(ZEROS), ("gzip",), chunked=chunked, status="402 Payment Required"))
    assert found.status == 402
    assert len(found.body) <= MAX_BODY


@CHUNKED
def test_an_answer_of_just_the_cap_is_read(chunked: bool) -> None:
    body = b'{"a":"' + b"x" * (MAX_BODY - 8) + b'"}'
    assert said(_framed(gzip.compress(body), ("gzip",), chunked=chunked)).body == body
    over = said(_framed(gzip.compress(body + b" "), ("gzip",), chunked=chunked))
    assert over.code == "too_large"
