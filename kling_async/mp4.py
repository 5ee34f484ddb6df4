"""Whether a file is a whole MP4: a chain of boxes that begins with `ftyp`, holds `moov` and adds up to the length."""

from typing import BinaryIO

from kling_async.errors import bounded

HEADER = 8
MAX_BOXES = 250_000
"""A fragmented film has two for each fragment."""


def problem_with(file: BinaryIO, size: int) -> str | None:
    """Return what is wrong with a file of `size` bytes, or None for a whole MP4 (ISO/IEC 14496-12, 4.2)."""
    if size == 0:
        return "the file is empty"
    file.seek(0)
    head = file.read(64)
    if head[4:8] != b"ftyp":
        return f"the file is not an MP4; it begins with {bounded(head.decode('latin-1'), 64)!r}"
    offset = 0
    kinds: set[str] = set()
    boxes = 0
    while offset < size and boxes < MAX_BOXES:
        file.seek(offset)
        length, kind = _box(file.read(16), size - offset)
        if length is None or length > size - offset:
            return f"the file is cut: its {kind!r} part at {offset} does not fit into {size} bytes"
        kinds.add(kind)
        boxes += 1
        offset += length
    if offset < size:
        return f"the file has more than {MAX_BOXES} parts"
    if "moov" not in kinds:
        return "the file is an MP4 without its index (moov)"
    return None


def _box(head: bytes, left: int) -> tuple[int | None, str]:
    """Return a box's length, None where it is not sound, and its type."""
    if len(head) < HEADER:
        return None, "?"
    length, kind = int.from_bytes(head[:4], "big"), bounded(head[4:8].decode("latin-1"), 8)
    if length == 1:
        length = int.from_bytes(head[8:16], "big")
        return (length, kind) if length >= 16 else (None, kind)
    if length == 0:
        return left, kind
    return (length, kind) if length >= HEADER else (None, kind)
