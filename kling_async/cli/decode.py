"""From the bytes of a job file to text: UTF-8, with or without a byte-order mark, and nothing else."""

from kling_async.cli.problems import InputError

_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def text_of(data: bytes) -> str:
    """Return the text.

    Raises:
        InputError: naming line, column and what the bytes seem to be.
    """
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            raise InputError.about("line 1", f"is {name}; save it as UTF-8", "encoding")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the mark
        skipped = 3 if data.startswith(b"\xef\xbb\xbf") else 0
        raise _not_utf8(data, skipped + error.start) from None
    nul = text.find("\0")
    if nul >= 0:
        line, column = _place(text[:nul])
        raise InputError.about(f"line {line}", f"column {column} holds a NUL character", "encoding")
    return text


def _not_utf8(data: bytes, start: int) -> InputError:
    line, column = _place(data[:start].decode("utf-8-sig", "replace"))
    try:
        char = data[start : start + 1].decode("cp1252")
        guess = f"it looks like cp1252 (there it is {char!r})" if char.isprintable() else "it is no text"
    except UnicodeDecodeError:
        guess = "it is neither UTF-8 nor cp1252"
    what = f"column {column}: the byte 0x{data[start]:02x} is not UTF-8; {guess}; save the file as UTF-8"
    return InputError.about(f"line {line}", what, "encoding")


def _place(before: str) -> tuple[int, int]:
    flat = before.replace("\r\n", "\n").replace("\r", "\n")
    return flat.count("\n") + 1, len(flat) - (flat.rfind("\n") + 1) + 1
