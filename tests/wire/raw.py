"""A server of raw bytes on loopback: it plays a script per connection and remembers what it was sent."""

import asyncio
import contextlib
import socket
import struct

from attrs import define, field


@define
class Raw:
    """A running server: `url`, the bytes of every request, and how many connections there were."""

    port: int
    requests: list = field(factory=list)
    connections: int = 0
    sent: int = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


async def read_request(reader):
    """Read one request: its head and as much body as Content-Length says."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return head + await reader.readexactly(length)


def reset(writer):
    """Close with a TCP reset."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def answer(body=b"{}", status="200 OK", headers=()):
    """Return the bytes of a whole answer."""
    if isinstance(body, str):
        body = body.encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@contextlib.asynccontextmanager
async def raw_server(play):
    """Serve `play(server, reader, writer)` for each connection, or bytes answered to each request."""
    server = None

    async def serve(reader, writer):
        server.connections += 1
        try:
            if isinstance(play, bytes):
                while True:
                    server.requests.append(await read_request(reader))
                    writer.write(play)
                    await writer.drain()
            else:
                await play(server, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    server = Raw(listening.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listening.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await listening.wait_closed()
