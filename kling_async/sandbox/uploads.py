"""Uploads of images as apimart takes them: one multipart field `file`, JPEG, PNG, WebP or GIF, at most 20 MB."""

from email.message import Message

from kling_async.sandbox.jobs import Refusal
from kling_async.sandbox.wire import Call

MOST_BYTES = 20 * 1024 * 1024
_KINDS = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"GIF8", "image/gif"))


def uploaded(call: Call) -> tuple[str, str, bytes]:
    """The name, the kind and the bytes of the uploaded image, or a refusal."""
    name, content = _file_field(call)
    if len(content) > MOST_BYTES:
        raise Refusal(413, "The file is larger than 20 MB", field="file")
    kind = next((kind for start, kind in _KINDS if content.startswith(start)), None)
    if kind is None and content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise Refusal(400, "Only JPEG, PNG, WebP and GIF are supported", field="file")
    return name, kind, content


def _file_field(call: Call) -> tuple[str, bytes]:
    head = Message()
    head["Content-Type"] = call.headers.get("content-type", "")
    boundary = head.get_boundary()
    if head.get_content_type() != "multipart/form-data" or not boundary:
        raise Refusal(400, "Send multipart/form-data with one field named file", field="file")
    for part in (b"\r\n" + call.body).split(b"\r\n--" + boundary.encode()):
        lines, _, content = part.partition(b"\r\n\r\n")
        place = Message()
        for line in lines.decode("utf-8", "replace").split("\r\n"):
            field, _, value = line.partition(":")
            if field.strip().lower() == "content-disposition":
                place["Content-Disposition"] = value.strip()
        if place.get_param("name", header="Content-Disposition") == "file":
            return place.get_filename("image"), content
    raise Refusal(400, "No file in the request", field="file")
