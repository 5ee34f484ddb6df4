"""Files over HTTP: whole, in ranges, or spoilt."""

import hashlib
import re

from attrs import frozen

from kling_async.sandbox.wire import Call, Reply

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@frozen
class File:
    """A file as it is served."""

    content: bytes
    kind: str


def serve_file(call: Call, file: File) -> Reply:
    """Answer a GET or HEAD with the file, or the part of it that Range (and If-Range) asks for."""
    size = len(file.content)
    tag = f'"{hashlib.sha256(file.content).hexdigest()[:32]}"'
    headers = {"Content-Type": file.kind, "ETag": tag, "Accept-Ranges": "bytes"}
    wanted = call.headers.get("range")
    if wanted is None or call.headers.get("if-range", tag) != tag:
        return Reply(200, headers, file.content)
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match.groups() == ("", ""):
        return Reply(200, headers, file.content)
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size - 1, int(last)) if first and last else size - 1
    if start >= size or start > end:
        return Reply(416, headers | {"Content-Range": f"bytes */{size}"}, b"")
    return Reply(206, headers | {"Content-Range": f"bytes {start}-{end}/{size}"}, file.content[start : end + 1])


def cut_mp4(content: bytes) -> bytes:
    """The first half of a file."""
    return content[: len(content) // 2]


NO_VIDEO = b"<!doctype html><title>Not found</title><p>The requested file does not exist.</p>"
