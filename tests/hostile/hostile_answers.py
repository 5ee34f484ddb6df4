"""Answers that nobody should give, to a submit or to a look: each is made from the documented one.

A fault of this catalogue is an async function of (visit, truth), where truth is the documented answer as data; it
returns True to keep the connection. `to_submit` takes the job and charges for it first.
"""

import asyncio
import functools
import gzip
import json
import zlib

from hostile_gateway import head, seen, taken

MIB = 1024 * 1024
PIECE = b"x" * 65536


def to_submit(fault):
    """Take the job, then answer like this."""

    async def play(visit):
        return await fault(visit, taken(visit.accept()))

    return play


def to_look(fault):
    """Answer a look like this."""

    async def play(visit):
        return await fault(visit, seen(visit))

    return play


def text(truth):
    return json.dumps(truth).encode()


def say(body=b"", status="200 OK", *headers):
    """Answer whole, with this body."""

    async def fault(visit, truth):
        await visit.say(body, status, headers)
        return True

    return fault


def change(how, *headers):
    """Answer whole, with what a function makes of the truth: bytes, or data."""

    async def fault(visit, truth):
        made = how(truth)
        await visit.say(made if isinstance(made, bytes) else text(made), headers=headers)
        return True

    return fault


def data(**fields):
    """Answer as documented, with other values in `data`; one that is `...` is left out."""

    def made(truth):
        told = {**truth["data"], **fields}
        return {**truth, "data": {name: value for name, value in told.items() if value is not ...}}

    return change(made)


def literally(old, new):
    """Answer as documented, with other bytes in place of some: for what no writer of JSON writes."""

    def made(truth):
        told = text(truth)
        assert old in told
        return told.replace(old, new, 1)

    return change(made)


def raw(how):
    """Put these bytes on the wire and close."""

    async def fault(visit, truth):
        await visit.send(how(truth))

    return fault


def headed(*lines):
    """Return a whole answer as bytes, with a head of one's own."""

    def made(truth):
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + text(truth)

    return raw(made)


async def reset(visit, truth):
    visit.reset()


async def close(visit, truth):
    """Say nothing and close."""


async def hang(visit, truth):
    await visit.gone()


def begun(lines, part, then=None):
    """Begin an answer, send a part of its body, then do something, or close."""

    async def fault(visit, truth):
        body = text(truth)
        await visit.send(lines(len(body)) + part(body))
        if then is not None:
            await then(visit, truth)

    return fault


def _chunk(piece):
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _half(body):
    return body[: len(body) // 2]


def _chunked(length=0):
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def _sized(length):
    return head(length=length)


async def drip(visit, truth):
    """Send the answer a byte at a time, each well within the time of a gap, and never all of it."""
    body = text(truth)
    await visit.send(head(length=len(body)))
    for place in range(len(body) - 1):
        await visit.send(body[place : place + 1])
        await asyncio.sleep(0.02)
    await visit.gone()


async def endless(visit, truth):
    await visit.send(_chunked() + _chunk(text(truth)[:-2] + b', "padding": "'))
    while True:
        await visit.send(_chunk(PIECE))


async def huge(visit, truth):
    """A quarter of a gibibyte of JSON that would be sound."""
    begin, end = text(truth)[:-1] + b', "padding": "', b'"}'
    left = 256 * MIB - len(begin) - len(end)
    await visit.send(head(length=256 * MIB) + begin)
    while left > 0:
        piece = PIECE[:left]
        await visit.send(piece)
        left -= len(piece)
    await visit.send(end)
    return True


@functools.cache
def bomb():
    """A mebibyte of gzip that stands for a gibibyte of blanks: sound JSON, if it came to that."""
    blanks = b" " * MIB
    press = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    press.compress(blanks)
    press.flush(zlib.Z_FULL_FLUSH)
    again = press.compress(blanks) + press.flush(zlib.Z_FULL_FLUSH)
    first = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = [first.compress(b"{}") + first.flush(zlib.Z_FULL_FLUSH), *[again] * 1024, b"\x03\x00"]
    check = zlib.crc32(b"{}")
    for _ in range(1024):
        check = zlib.crc32(blanks, check)
    size = 2 + 1024 * MIB
    tail = check.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + b"".join(body) + tail


async def gzip_bomb(visit, truth):
    data = bomb()
    await visit.send(head(length=len(data), headers=["Content-Encoding: gzip"]))
    for place in range(0, len(data), 65536):
        await visit.send(data[place : place + 65536])
    return True


async def flood_of_hints(visit, truth):
    """Interim answers without end, and not many at a time."""
    while True:
        await visit.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" * 10)
        await asyncio.sleep(0.005)


async def torrent_of_hints(visit, truth):
    """Interim answers without end, as fast as they are taken."""
    while True:
        await visit.send(b"HTTP/1.1 103 Early Hints\r\nLink: </" + PIECE[:8000] + b">\r\n\r\n")


async def extensions(visit, truth):
    """A chunk that does not begin, for its extension does not end."""
    await visit.send(_chunked() + b"1;")
    while True:
        await visit.send(PIECE)


async def other_protocol(visit, truth):
    await visit.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: films/1\r\n\r\n")
    await visit.send(text(truth))
    await visit.gone()


PAGE = b"<!DOCTYPE html><html><head><title>502</title></head><body><h1>Bad\tGateway</h1>\r\n" + b"<p>" * 400
MUTE = {
    "html": say(PAGE, "200 OK", "Content-Type: text/html; charset=utf-8"),
    "not-json": say(b"OK, queued\x1b[2J\x00\x9b \xe2\x80\xae " + b"as always " * 100),
    "empty": say(b""),
    "204": raw(lambda truth: b"HTTP/1.1 204 No Content\r\n\r\n"),
    "json-cut": change(lambda truth: text(truth)[:-9]),
}
"""What is no JSON at all."""
GARBLED = {
    "charset-utf16": change(
        lambda truth: json.dumps(truth).encode("utf-16"), "Content-Type: application/json; charset=utf-16"
    ),
    "bad-utf8": literally(b"success", b"succ\xff\xfess"),
}
LENIENT = {
    "bom": change(lambda truth: b"\xef\xbb\xbf" + text(truth)),
    "text-plain": change(text, "Content-Type: text/plain"),
    "charset-rot13": change(text, "Content-Type: application/json; charset=rot13"),
    "gzip": change(lambda truth: gzip.compress(text(truth)), "Content-Encoding: gzip"),
    "encoding-that-is-a-charset": change(text, "Content-Encoding: UTF-8"),
    "eof-body": headed("HTTP/1.1 200 OK", "Content-Type: application/json", "Connection: close"),
    "chunked": begun(_chunked, lambda body: _chunk(_half(body)) + _chunk(body[len(body) // 2 :]) + b"0\r\n\r\n"),
    "extra-fields": change(
        lambda truth: {
            **truth,
            "trace": {"id": [1, None, {"a": "b"}]},
            "data": {**truth["data"], "queue": {"place": 7}, "note": "x" * 1000, "version": 3},
        }
    ),
    "code-string": change(lambda truth: {**truth, "code": "200"}),
}
"""Sloppy, and certain in its meaning."""
DEEP = {
    "json-deep": say(b"[" * 100_000),
    "json-deep-objects": say(b'{"data":' * 100_000),
    "json-deep-beside-the-id": literally(b'"message"', b'"trace": ' + b"[" * 400 + b"]" * 400 + b', "message"'),
}
TOO_LARGE = {"json-huge": huge, "endless": endless, "extensions": extensions, "gzip-bomb": gzip_bomb}
ENCODED = {
    "gzip-corrupt": change(lambda truth: gzip.compress(text(truth))[:20] + b"\0" * 40, "Content-Encoding: gzip"),
    "encoding-unknown": change(lambda truth: bytes(byte ^ 0x5A for byte in text(truth)), "Content-Encoding: x-klingon"),
    "encoding-unknown-and-plain": change(text, "Content-Encoding: x-klingon"),
}
SHAPES = {
    "shape-array": say(b"[]"),
    "shape-array-of-tasks": change(lambda truth: [truth["data"]]),
    "shape-null": say(b"null"),
    "shape-string": say(b'"success"'),
    "shape-number": say(b"200"),
    "shape-no-data": change(lambda truth: {"code": 200, "message": "success"}),
    "shape-data-null": change(lambda truth: {**truth, "data": None}),
    "shape-data-string": change(lambda truth: {**truth, "data": truth["data"]["task_id"]}),
    "shape-data-list": change(lambda truth: {**truth, "data": [truth["data"]["task_id"], "IN_PROGRESS"]}),
    "shape-data-empty-list": change(lambda truth: {**truth, "data": []}),
}
"""JSON that is not the documented answer."""
CUT = {
    "cl-short": begun(_sized, _half),
    "chunked-cut": begun(_chunked, lambda body: _chunk(_half(body))),
    "chunked-cut-in-a-chunk": begun(_chunked, lambda body: b"fff\r\n" + _half(body)),
    "body-reset": begun(_sized, _half, reset),
}
STALLED = {"body-stall": begun(_sized, _half, hang), "drip": drip, "hang": hang}
MALFORMED = {
    "bad-status-line": headed("HTTP/1.1 OK 200", "Content-Length: 2"),
    "not-http": raw(lambda truth: b"SSH-2.0-OpenSSH_9.2\r\n"),
    "bad-cl": headed("HTTP/1.1 200 OK", "Content-Length: ten"),
    "negative-cl": headed("HTTP/1.1 200 OK", "Content-Length: -1"),
    "dup-cl": headed("HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 6"),
    "cl-and-te": headed("HTTP/1.1 200 OK", "Content-Length: 5", "Transfer-Encoding: chunked"),
    "huge-header": headed("HTTP/1.1 200 OK", "X-Padding: " + "x" * MIB, "Content-Length: 2"),
    "many-headers": headed("HTTP/1.1 200 OK", *["X-Header: y"] * 20_000, "Content-Length: 2"),
    "header-nul": headed("HTTP/1.1 200 OK", "X-Nul: a\0b", "Content-Length: 2"),
}
"""Heads that are not HTTP; aiohttp reports most of them as a status 400 that nobody sent."""
HALF = {
    "half-status-line": raw(lambda truth: b"HTTP/1.1 20"),
    "half-headers": raw(lambda truth: b"HTTP/1.1 200 OK\r\nContent-Le"),
}
INTERIM = {"1xx-flood": flood_of_hints, "1xx-torrent": torrent_of_hints, "101": other_protocol}
GONE = {"reset": reset, "close": close}
