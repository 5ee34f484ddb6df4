"""A gateway that misbehaves on cue: raw sockets on loopback, the kling3api dialect, and a ledger of what it took.

It listens on three ports: the API, the host of the films, and one that nobody may ever connect to.
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import struct
from collections import Counter
from urllib.parse import parse_qsl, urlsplit

from attrs import define, field

from kling_async.sandbox.mp4 import video

FILM = video("n75film", "16:9", 5) + b"\0\0\x40\x08free" + bytes(range(256)) * 64
"""A whole MP4 of some 20 kB; every task gets one of its own by `film_of`."""


def film_of(task_id):
    """Return a task's own film: a whole MP4 whose bytes no other task has."""
    mark = hashlib.sha256(task_id.encode("utf-8", "surrogatepass")).digest()
    return FILM + struct.pack(">I", 8 + len(mark)) + b"free" + mark


@define
class Task:
    """An accepted submit."""

    task_id: str
    prompt: str
    body: dict
    at: float
    polls: int = 0
    key: str | None = None
    credits: object = 200


@define
class Ledger:
    """What the gateway took, and what it was asked."""

    tasks: list = field(factory=list)
    submits: list = field(factory=list)
    polls: list = field(factory=list)
    fetches: list = field(factory=list)
    astray: list = field(factory=list)
    connections: Counter = field(factory=Counter)
    open: Counter = field(factory=Counter)
    most_open: Counter = field(factory=Counter)
    key_outside: int = 0
    sent: Counter = field(factory=Counter)

    @property
    def accepted(self):
        """How many submits were taken and charged."""
        return len(self.tasks)

    @property
    def duplicates(self):
        """How many submits were taken beyond the first of the same prompt."""
        return sum(count - 1 for count in Counter(task.prompt for task in self.tasks).values())


@define
class Visit:
    """One request, and the connection that it came on."""

    gateway: "HostileGateway"
    place: str
    method: str
    target: str
    headers: dict = field(repr=False)
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    at: float

    @property
    def path(self):
        return urlsplit(self.target).path

    @property
    def query(self):
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def json(self):
        return json.loads(self.body)

    def accept(self, task_id=None):
        """Take the submit and charge for it."""
        task_id = f"n75task{len(self.gateway.ledger.tasks) + 1:04}kling3" if task_id is None else task_id
        task = Task(task_id, self.json["prompt"], self.json, self.at, key=self.headers.get("idempotency-key"))
        self.gateway.ledger.tasks.append(task)
        return task

    async def send(self, data):
        """Write bytes and count them; raises `ConnectionError` once the client has gone."""
        if self.writer.is_closing():
            raise ConnectionResetError
        self.gateway.ledger.sent[self.place] += len(data)
        self.writer.write(data)
        await self.writer.drain()

    async def say(self, body=b"", status="200 OK", headers=(), *, length=None):
        """Answer whole, or with a Content-Length of one's own."""
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        data = body.encode() if isinstance(body, str) else body
        headers = (*headers, *self.gateway.always)
        await self.send(head(status, len(data) if length is None else length, headers) + data)

    def reset(self):
        """Break the connection with a TCP reset."""
        reset(self.writer)

    async def gone(self, seconds=30):
        """Say nothing until the client hangs up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while await self.reader.read(65536):
                    pass


def reset(writer):
    """Break a connection with a TCP reset."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def head(status="200 OK", length=0, headers=()):
    """Return the head of an answer."""
    named = {line.partition(":")[0].lower() for line in headers}
    kind = () if "content-type" in named else ("Content-Type: application/json",)
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {length}", *kind, *headers, "", ""]).encode("latin-1")


def taken(task, **fields):
    """Return the documented answer to an accepted submit."""
    data = {"task_id": task.task_id, "status": "IN_PROGRESS", "consumed_credits": task.credits, **fields}
    return {"code": 200, "message": "success", "data": data}


def shown(task, status, urls=None, **fields):
    """Return the documented answer to a look."""
    data = {
        "task_id": task.task_id,
        "status": status,
        "consumed_credits": task.credits,
        "created_at": "2026-01-02T03:04:05Z",
        "request": task.body,
        "response": urls,
        "error_message": None,
        "type": task.body.get("type"),
        **fields,
    }
    return {"code": 200, "message": "success", "data": data}


async def take(visit):
    """Submit, as documented."""
    await visit.say(taken(visit.accept()))
    return True


def seen(visit):
    """Return the documented answer to this look: in progress first, then done; None for a task nobody has."""
    task = visit.gateway.task(visit.query.get("task_id"))
    if task is None:
        return None
    task.polls += 1
    done = task.polls > visit.gateway.running_looks
    urls = [f"{visit.gateway.films}/{task.task_id}.mp4"] if done else None
    return shown(task, "SUCCESS" if done else "IN_PROGRESS", urls)


async def show(visit):
    """Look, as documented."""
    answer = seen(visit)
    if answer is None:
        await visit.say({"code": 404, "message": "task not found"}, "404 Not Found")
    else:
        await visit.say(answer)
    return True


async def play(visit):
    """Fetch, as a plain file server with ranges does it."""
    film = film_of(visit.path.rpartition("/")[2].removesuffix(".mp4"))
    tag = f'ETag: "{hashlib.sha256(film).hexdigest()[:16]}"'
    kind = ("Content-Type: video/mp4", tag)
    start = visit.headers.get("range", "").removeprefix("bytes=").removesuffix("-")
    if start.isdigit() and visit.headers.get("if-range") == tag.removeprefix("ETag: "):
        span = f"Content-Range: bytes {start}-{len(film) - 1}/{len(film)}"
        await visit.say(film[int(start) :], "206 Partial Content", (*kind, span))
    else:
        await visit.say(film, headers=kind)
    return True


@define
class HostileGateway:
    """See the module. Script it with `on`; what is not scripted is answered as documented."""

    key: str = field(repr=False)
    running_looks: int = 1
    api: str = ""
    films: str = ""
    canary: str = ""
    ledger: Ledger = field(factory=Ledger)
    greeting: object = None
    """Called with each new connection to the API before anything is read, if set; True takes the connection over."""
    always: tuple = ()
    """Header lines of every answer that `Visit.say` gives."""
    submits_to: str = "/api/generate"
    looks_at: str = "/api/status"
    """The paths of the API; one that ends with a slash goes on with a task id."""
    _scripts: dict = field(factory=dict)
    _usual: dict = field(factory=lambda: {"submit": take, "status": show, "video": play})

    def on(self, operation, *faults, times=None):
        """Meet the next requests of an operation with these faults, in turn; with `times` each so often, else once.

        `times=0` repeats the last one for ever. A fault is an async function of a `Visit`; it returns True to keep
        the connection, and may await the usual behaviour: `take`, `show` or `play`.
        """
        line = self._scripts.setdefault(operation, [])
        for fault in faults:
            line.append([fault, 1 if times is None else times or float("inf")])
        return self

    def heal(self):
        """Forget every script: what comes now is answered as documented."""
        self._scripts.clear()

    def task(self, task_id):
        """Return the task of an id, or None."""
        return next((task for task in self.ledger.tasks if task.task_id == task_id), None)

    def _next(self, operation):
        line = self._scripts.get(operation, [])
        while line:
            if line[0][1] > 0:
                line[0][1] -= 1
                return line[0][0]
            line.pop(0)
        return self._usual[operation]

    async def _api(self, visit):
        if visit.headers.get("authorization") != f"Bearer {self.key}":
            self.ledger.astray.append((visit.method, visit.target, "no key"))
        if (visit.method, visit.path) == ("POST", self.submits_to):
            self.ledger.submits.append(visit)
            return await self._next("submit")(visit)
        if visit.method == "GET" and (visit.path == self.looks_at or self._names_task(visit.path)):
            self.ledger.polls.append(visit)
            return await self._next("status")(visit)
        self.ledger.astray.append((visit.method, visit.target, "no such path"))
        await visit.say({"code": 404}, "404 Not Found")
        return True

    def _names_task(self, path):
        return self.looks_at.endswith("/") and path.rpartition("/")[0] == self.looks_at[:-1]

    def usually(self, **usual):
        """Speak another dialect: answer "submit", "status" or "video" like this where nothing is scripted."""
        self._usual |= usual

    async def _film(self, visit):
        self.ledger.fetches.append(visit)
        return await self._next("video")(visit)

    async def _canary(self, visit):
        self.ledger.astray.append((visit.method, visit.target, "the canary"))
        return False

    def _serving(self, place, answer):
        async def serve(reader, writer):
            ledger = self.ledger
            ledger.connections[place] += 1
            ledger.open[place] += 1
            ledger.most_open[place] = max(ledger.most_open[place], ledger.open[place])
            try:
                if place == "api" and self.greeting is not None and await self.greeting(reader, writer):
                    return
                while (visit := await self._read(place, reader, writer)) is not None:
                    if not await answer(visit):
                        return
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, asyncio.CancelledError):
                return
            finally:
                ledger.open[place] -= 1
                writer.close()

        return serve

    async def _read(self, place, reader, writer):
        top = await reader.readuntil(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if place != "api" and (self.key in top.decode("latin-1") or self.key.encode() in body):
            self.ledger.key_outside += 1
        at = asyncio.get_running_loop().time()
        return Visit(self, place, method, target, headers, body, reader, writer, at)


@contextlib.asynccontextmanager
async def hostile_gateway(key, *, tls=None, **options):
    """Serve a `HostileGateway` until the block ends, its API over TLS if there is an `ssl.SSLContext`."""
    gateway = HostileGateway(key, **options)
    places = {"api": gateway._api, "films": gateway._film, "canary": gateway._canary}
    servers = []
    for place, answer in places.items():
        over = tls if place == "api" else None
        server = await asyncio.start_server(gateway._serving(place, answer), "127.0.0.1", 0, limit=2**22, ssl=over)
        setattr(gateway, place, f"http{'s' * bool(over)}://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        servers.append(server)
    try:
        yield gateway
    finally:
        for server in servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        visits = [task for task in others if getattr(task.get_coro(), "__name__", "") == "serve"]
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
