"""A gateway on a loopback port that echoes what it was sent, in every dress and in every broken kind of answer."""

import contextlib
import html
import json
import re
import socket
import struct
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import define, field, frozen
from canary import KEY, PROMPT, SIGNATURE, forms

from kling_async.sandbox import Call, Sandbox

EVERY_FORM = " ".join(forms().values())


@frozen
class Visit:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    head: bytes = field(repr=False)

    @property
    def operation(self) -> str:
        """What it is: "submit", "poll", "balance", "upload" or "download"."""
        path = urlsplit(self.target).path
        if path.endswith((".mp4", ".jpg")) or path.startswith("/elsewhere"):
            return "download"
        if path.endswith("balance"):
            return "balance"
        return "upload" if "uploads" in path else "submit" if self.method == "POST" else "poll"


@frozen
class Said:
    """What goes back: bytes, and what becomes of the connection ("keep", "close", "reset" or "hang")."""

    data: bytes
    then: str = "keep"


Fault = Callable[[Visit], Said]


def answer(body: bytes | str, status: str = "200 OK", *headers: str) -> Said:
    """Return a whole answer."""
    data = body.encode() if isinstance(body, str) else body
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", *headers, "", ""])
    return Said(head.encode("latin-1") + data)


@define(repr=False)
class EchoingGateway:
    """A running gateway. What no fault is set for, a sandbox answers, with signed URLs."""

    sandbox: Sandbox = field(factory=lambda: Sandbox(speed=3000, epoch=1_780_000_000))
    faults: dict[str, Fault] = field(factory=dict)
    visits: list[Visit] = field(factory=list)
    url: str = ""
    _open: list[socket.socket] = field(factory=list)

    def honest(self, visit: Visit) -> Said:
        """Answer as a gateway does."""
        parts = urlsplit(visit.target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        call = Call(visit.method, unquote(parts.path), query, visit.headers, visit.body)
        reply = self.sandbox.handle(call, time.monotonic())
        body = reply.body
        if visit.operation in ("submit", "poll"):
            body = re.sub(rb"(\.(?:mp4|jpg))(\?link=\d+)?(?=[\\\"])", _signed, body)
        headers = [f"{name}: {value}" for name, value in reply.headers.items()]
        return answer(body, f"{reply.status} Something", *headers)

    def serve(self, connection: socket.socket) -> None:
        """Answer the requests of one connection."""
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while (visit := _read(stream)) is not None:
                self.visits.append(visit)
                said = self.faults.get(visit.operation, self.honest)(visit)
                if said.then == "reset":
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.sendall(said.data)
                if said.then == "hang":
                    connection.recv(1)
                if said.then != "keep":
                    return


def _signed(found: re.Match[bytes]) -> bytes:
    link = found[2] or b""
    return found[1] + link + (b"&" if link else b"?") + b"X-Amz-Signature=" + SIGNATURE.encode()


def _read(stream: "socket.SocketIO") -> Visit | None:  # type: ignore[name-defined]
    lines = []
    while (line := stream.readline()) not in (b"\r\n", b""):
        lines.append(line)
    if not lines or not lines[0].endswith(b"HTTP/1.1\r\n"):
        return None
    method, target, _ = lines[0].decode("latin-1").split(" ", 2)
    pairs = (each.decode("latin-1").partition(":") for each in lines[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = stream.read(int(headers.get("content-length", "0")))
    if headers.get("transfer-encoding", "") == "chunked":
        body = _chunks(stream)
    return Visit(method, target, headers, body, b"".join(lines))


def _chunks(stream: "socket.SocketIO") -> bytes:  # type: ignore[name-defined]
    pieces = []
    while size := int(stream.readline().partition(b";")[0], 16):
        pieces.append(stream.read(size))
        stream.readline()
    stream.readline()
    return b"".join(pieces)


@contextlib.contextmanager
def echoing_gateway(**faults: Fault) -> Iterator[EchoingGateway]:
    """Serve on a free port, in threads, until the block ends; a fault is given by the operation that it spoils."""
    listener = socket.create_server(("127.0.0.1", 0))
    gateway = EchoingGateway(faults=dict(faults), url=f"http://127.0.0.1:{listener.getsockname()[1]}")
    gateway.sandbox.public_url = gateway.url
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threads.append(threading.Thread(target=gateway.serve, args=[connection], daemon=True))
            threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield gateway
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)


def spoil_by_prompt(gateway: EchoingGateway, submits: dict[str, Fault], looks: dict[str, Fault]) -> None:
    """Spoil the submits whose prompt holds a word, and the looks at jobs whose prompt does."""

    def submit(visit: Visit) -> Said:
        prompt = json.loads(visit.body).get("prompt", "")
        return next((fault(visit) for word, fault in submits.items() if word in prompt), None) or gateway.honest(visit)

    def look(visit: Visit) -> Said:
        task = gateway.sandbox.tasks.get(task_in(visit))
        prompt = task.order.prompt if task is not None else ""
        return next((fault(visit) for word, fault in looks.items() if word in prompt), None) or gateway.honest(visit)

    gateway.faults |= {"submit": submit, "poll": look}


def task_in(visit: Visit) -> str:
    """Return the id of the task that a look asks about."""
    parts = urlsplit(visit.target)
    return dict(parse_qsl(parts.query)).get("task_id") or unquote(parts.path.rpartition("/")[2])


# What echoes.


def _echoed(visit: Visit) -> str:
    """Return what a careless gateway quotes: the whole head of the request, its credentials among it."""
    return visit.head.decode("latin-1")


def _json(document: object, status: str, *headers: str) -> Said:
    return answer(json.dumps(document), status, "Content-Type: application/json", *headers)


def _refusing(status: str) -> Iterator[tuple[str, Fault]]:
    """Yield a refusal in each of the shapes seen in the field, every text of it an echo."""
    shapes: dict[str, Callable[[str], object]] = {
        "a message": lambda text: {"code": int(status), "message": text},
        "an error": lambda text: {"error": {"code": text, "type": text, "message": text, "param": text}},
        "an error in a text": lambda text: {"error": text, "msg": text, "detail": text, "request_id": text},
        "a document in a message": lambda text: {"message": json.dumps({"error": {"message": text, "status": text}})},
        "a list": lambda text: [text, {text: text}],
        "a text": lambda text: text,
    }
    for name, shape in shapes.items():
        yield f"{status}, {name}", lambda _, shape=shape: _json(shape(EVERY_FORM), f"{status} No")
        if status in ("401", "500"):
            yield f"{status}, {name}, the key alone", lambda _, shape=shape: _json(shape(KEY), f"{status} No")


def _faults() -> Iterator[tuple[str, Fault]]:
    for status in ("400", "401", "402", "403", "404", "409", "422", "429", "500", "503"):
        yield from _refusing(status)
    for name, text in forms().items():
        kinds: list[tuple[str, Fault]] = [
            ("400, %s", lambda _, text=text: answer(f'{{"message": "bad key {text}."}}', "400 No")),
            ("401, %s, cut off", lambda _, text=text: answer(f"{'x' * 480} {text}{text}", "401 No")),
            ("402, %s, no JSON", lambda _, text=text: answer(f"bad key {text}.", "402 No")),
            ("403, %s, id", lambda _, text=text: answer("{}", "403 No", f"X-Request-Id: {text}")),
        ]
        for kind, fault in kinds:
            yield kind % name, fault
    yield "HTML that quotes the request", lambda visit: answer(f"<pre>{html.escape(_echoed(visit))}</pre>", "502 No")
    yield "HTML in a 200", lambda visit: answer(f"<pre>{_echoed(visit)}</pre>")
    yield "a quotation in a 401", lambda visit: _json({"message": _echoed(visit)}, "401 No")
    yield "a quotation in Base64", lambda visit: _json({"message": b64encode(visit.head).decode()}, "500 No")
    yield "an error in a 200", lambda _: _json({"code": 401, "message": EVERY_FORM}, "200 OK")
    yield "an unknown code in a 200", lambda _: _json({"code": KEY, "message": EVERY_FORM}, "200 OK")
    yield "a failure in a 200", lambda _: _json({"success": False, "error": {"message": EVERY_FORM}}, "200 OK")
    yield "an answer that is a text", lambda _: _json(EVERY_FORM, "200 OK")
    yield "an answer that is a list", lambda _: _json([EVERY_FORM], "200 OK")
    yield "an answer without a task", lambda _: _json({"code": 200, "data": {"note": KEY, KEY: 1}}, "200 OK")
    yield "an odd id", lambda _: _json({"code": 200, "data": {"task_id": f"{KEY} {KEY}"}}, "200 OK")
    yield "an odd type of id", lambda _: _json({"code": 200, "data": {"task_id": [KEY]}}, "200 OK")
    yield "a refusal with a task", lambda _: _json({"task_id": "t-1", "code": 400, "message": EVERY_FORM}, "400 No")
    yield "a status text", lambda _: answer("{}", f"401 {KEY}")
    yield "a status text in a 500", lambda _: answer("{}", f"500 {KEY}")
    yield "a status that is none", lambda _: Said(f"HTTP/1.1 {KEY} OK\r\n\r\n".encode(), "close")
    yield "a version that is none", lambda _: Said(f"{KEY} 200 OK\r\n\r\n".encode(), "close")
    yield "no HTTP", lambda visit: Said(visit.head, "close")
    yield "a header without an end", lambda _: Said(f"HTTP/1.1 200 OK\r\nX: {KEY}".encode(), "close")
    yield "a header that is none", lambda _: Said(f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode(), "close")
    yield "a NUL in a header", lambda _: Said(f"HTTP/1.1 200 OK\r\nX: {KEY}\0\r\n\r\n".encode(), "close")
    yield "a length that is none", lambda _: Said(f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n".encode(), "close")
    yield "a chunk that is none", lambda _: Said(_CHUNKED + f"{KEY}\r\n".encode(), "close")
    yield "a header of a megabyte", lambda _: answer("{}", "200 OK", f"X: {KEY * 30_000}")
    yield "many headers", lambda _: answer("{}", "200 OK", *(f"X-{n}: {KEY}" for n in range(3000)))
    yield (
        "a body that is cut off",
        lambda _: Said(f'HTTP/1.1 401 No\r\nContent-Length: 999\r\n\r\n"{KEY}'.encode(), "close"),
    )
    yield "a body without an end", lambda _: Said(_CHUNKED + f"40\r\n{KEY}".encode(), "close")
    yield "a broken gzip", lambda _: answer(f"\x1f\x8b{KEY}", "200 OK", "Content-Encoding: gzip")
    yield "an unknown charset", lambda _: answer(KEY, "200 OK", f"Content-Type: text/plain; charset={KEY}")
    yield "a body of two megabytes", lambda _: answer(KEY * 60_000, "200 OK")
    yield "a refusal of two megabytes", lambda _: answer(KEY * 60_000, "400 No")
    yield "a reset", lambda _: Said(b"", "reset")
    yield "a reset within", lambda _: Said(f"HTTP/1.1 200 OK\r\nX: {KEY}\r\n".encode(), "reset")
    yield "a closed connection", lambda _: Said(b"", "close")
    yield "silence", lambda _: Said(b"", "hang")
    yield "half a head and silence", lambda _: Said(f"HTTP/1.1 200 OK\r\nX: {KEY}\r\n".encode(), "hang")
    for status in ("301", "302", "303", "307", "308"):
        yield f"a redirect, {status}", lambda _, status=status: answer(KEY, f"{status} Go", f"Location: /x?key={KEY}")
    yield "a redirect elsewhere", lambda _: answer("", "302 Go", f"Location: http://127.0.0.1:9/{KEY}")
    yield "a redirect to no URL", lambda _: answer("", "307 Go", f"Location: http://[{KEY}")
    for name in ("Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-Id", "Set-Cookie", "Date"):
        yield f"the key in {name}", lambda _, name=name: answer('{"message": "slow"}', "429 No", f"{name}: {KEY}")
    yield "a challenge", lambda _: answer("{}", "401 No", f'WWW-Authenticate: Bearer realm="{KEY}"')


_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

FAULTS: dict[str, Fault] = dict(_faults())


def ending(status: str, **facts: object) -> Fault:
    """Return a look's answer that names the task which was asked about, and echoes."""

    def say(visit: Visit) -> Said:
        name = task_in(visit)
        data = {"task_id": name, "id": name, "status": status, **facts}
        return _json({"code": 200, "data": data}, "200 OK", f"X-Request-Id: {KEY}")

    return say


ENDINGS: dict[str, Fault] = {
    "failed with a message": ending("failed", error_message=EVERY_FORM, error=EVERY_FORM),
    "failed with an object": ending("failed", error={"code": KEY, "message": EVERY_FORM, "type": KEY}),
    "failed with a document": ending(
        "failed", error_message=json.dumps({"error": {"message": EVERY_FORM, "status": KEY}})
    ),
    "failed beside an echo": ending(
        "failed", request={"headers": {"Authorization": f"Bearer {KEY}"}, KEY: [EVERY_FORM]}
    ),
    "an odd status": ending(f"failed {KEY}", error=EVERY_FORM),
    "a success without a video": ending("success", note=EVERY_FORM, headers={KEY: EVERY_FORM}),
    "a success whose video is no URL": ending("success", response=[f"{KEY} {KEY}"], note=EVERY_FORM),
}
"""Looks that end a job, every text of them an echo."""


ROWS = {
    "boat": PROMPT,
    "fox": f"a fox, failed, {PROMPT}",
    "owl": f"an owl, refused, {PROMPT}",
    "hen": f"a hen, in doubt, {PROMPT}",
    "cow": f"a cow, lost, {PROMPT}",
    "pig": f"a pig, no film, {PROMPT}",
    "elk": f"an elk, without end, {PROMPT}",
}
"""Jobs that end in every way, most of them with an echo."""


def spoil(gateway: EchoingGateway) -> None:
    """Let the jobs of `ROWS` end as they should."""
    spoil_by_prompt(
        gateway,
        {
            "refused": FAULTS["400, an error"],
            "in doubt": FAULTS["500, a message"],
            "lost": FAULTS["a body that is cut off"],
        },
        {"failed": ENDINGS["failed beside an echo"], "without end": FAULTS["HTML that quotes the request"]},
    )
    # The sandbox names a video after its task; the pig's is none.
    gateway.faults["download"] = lambda visit: _no_film(gateway, visit)


def _no_film(gateway: EchoingGateway, visit: Visit) -> Said:
    name = visit.target.partition("?")[0].rpartition("/")[2].removesuffix(".mp4")
    task = gateway.sandbox.tasks.get(name)
    if task is not None and "no film" in task.order.prompt:
        return answer(f"bad key {KEY}, see {gateway.url}{visit.target}")
    return gateway.honest(visit)
