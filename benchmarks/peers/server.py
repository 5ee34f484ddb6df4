"""The gateway of one run, in a process of its own.

`python -m benchmarks.peers.server --dialect fal --terms '{"median": 4}'` prints its URL, serves until its standard
input ends, and then prints its ledger.
"""

import argparse
import asyncio
import json
import resource
import socket
import struct
import sys
import time
from importlib import import_module
from typing import Any, cast

from attrs import Factory, define

from benchmarks.peers.dialects import Asked, Call, Dialect, told
from benchmarks.peers.http import answer, closes, next_call
from benchmarks.peers.model import Broken, Gateway, Made, Refused, Seen
from benchmarks.peers.terms import Terms

DIALECTS = ("fal", "kling3api", "openai", "replicate", "runway")


@define(eq=False)
class Connection(asyncio.Protocol):
    """Answers one connection, one request after the other."""

    gateway: Gateway
    dialect: Dialect
    url: str
    _buffer: bytearray = Factory(bytearray)
    _transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.gateway.counts["connections"] += 1
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self._buffer += data
        while (call := next_call(self._buffer)) is not None:
            self._serve(call)

    def _serve(self, call: Call) -> None:
        asked = self.dialect.asked(call)
        now = time.monotonic()
        if asked is None:
            return self._send(call, 404, self.dialect.refused(404, f"no such address: {call.path}"))
        found = getattr(self.gateway, asked.what)(asked.name, now)
        match found:
            case Made(job) if asked.wait:
                wait = min(self.gateway.terms.hold, job.ends - now)
                asyncio.get_running_loop().call_later(wait, self._release, call, found)
            case Made(job):
                self._send(call, *self.dialect.accepted(job, self.url))
            case Seen():
                self._send(call, *self._shown(asked, found))
            case Refused():
                self._send(call, 429, self.dialect.refused(429, told(found)))
            case Broken(reset=True):
                self._reset()
            case Broken():
                self._send(call, 500, self.dialect.refused(500, "Internal server error"))
            case _:
                self._send(call, 404, self.dialect.refused(404, "no such job"))
        return None

    def _shown(self, asked: Asked, found: Seen) -> tuple[int, dict[str, Any]]:
        if asked.what == "fetch" and found.done:
            return self.dialect.result(found.job)
        return self.dialect.seen(found.job, done=found.done)

    def _release(self, call: Call, made: Made) -> None:
        # The timer may come a hair before the end.
        done = time.monotonic() >= made.job.ends - 0.001
        self._send(call, *(self.dialect.result(made.job) if done else self.dialect.accepted(made.job, self.url)))

    def _send(self, call: Call, status: int, body: dict[str, Any]) -> None:
        assert self._transport is not None
        close = closes(call)
        self._transport.write(answer(status, body, close=close))
        if close:
            self._transport.close()

    def _reset(self) -> None:
        assert self._transport is not None
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


async def serve(dialect: str, terms: Terms) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    gateway = Gateway(terms)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    spoken = cast("Dialect", import_module(f"benchmarks.peers.dialects.{dialect}"))
    async with await loop.create_server(lambda: Connection(gateway, spoken, url), sock=listener):
        print(url, flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({**gateway.ledger(), "cpu": used.ru_utime + used.ru_stime}), flush=True)


def main() -> None:
    """Run the gateway."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.server", description=__doc__)
    parser.add_argument("--dialect", choices=DIALECTS, required=True)
    parser.add_argument("--terms", type=json.loads, default={}, help="the gateway's terms as JSON")
    given = parser.parse_args()
    asyncio.run(serve(given.dialect, Terms(**given.terms)))


if __name__ == "__main__":
    main()
