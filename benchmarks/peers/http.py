"""As much of HTTP/1.1 as the clients speak, from bytes to bytes; cheap, so that the gateway is not what is measured."""

import json
from typing import Any

from benchmarks.peers.dialects import Call

_REASONS = {200: "OK", 201: "Created", 202: "Accepted", 404: "Not Found", 429: "Too Many Requests", 500: "Server Error"}


def next_call(buffer: bytearray) -> Call | None:
    """Take one whole request off the front of the buffer; None: it is not all there yet."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if "transfer-encoding" in headers:
        raise ValueError("bodies in chunks are not spoken here")
    whole = end + 4 + int(headers.get("content-length", 0))
    if len(buffer) < whole:
        return None
    body = bytes(buffer[end + 4 : whole])
    del buffer[:whole]
    method, target, _ = first.split(" ")
    return Call(method, target, headers, body)


def closes(call: Call) -> bool:
    """Tell whether the client wants the connection closed after the answer."""
    return call.headers.get("connection", "").lower() == "close"


def answer(status: int, body: dict[str, Any], *, close: bool) -> bytes:
    """Return an answer as it goes over the wire."""
    content = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: {'close' if close else 'keep-alive'}\r\n\r\n"
    )
    return head.encode() + content
