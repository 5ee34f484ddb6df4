"""Small real MP4 files: a muxer that lays boxes around stored H.264 frames, one of its own for every task."""

import hashlib
import json
import math
import struct
from functools import lru_cache
from importlib import resources
from itertools import accumulate, pairwise

from attrs import frozen

TIMESCALE = 12_000
"""Ticks a second; a frame of the stored clips lasts 1,000 of them."""

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_FTYP = b"\0\0\0\x20ftypisom" + struct.pack(">I", 0x200) + b"isomiso2avc1mp41"


@frozen
class Clip:
    """One stored clip: a closed loop of frames, the first of them a key frame, and a still picture of it as JPEG."""

    ratio: str
    width: int
    height: int
    sps: bytes
    pps: bytes
    jpeg: bytes
    samples: tuple[bytes, ...]


@lru_cache(maxsize=1)
def clips() -> dict[str, tuple[Clip, ...]]:
    """The stored clips by aspect ratio ("16:9", "9:16", "1:1"), several of different colours for each."""
    data = resources.files(__package__).joinpath("data", "clips.bin").read_bytes()
    end = 4 + int.from_bytes(data[:4], "big")
    found: dict[str, tuple[Clip, ...]] = {}
    for entry in json.loads(data[4:end])["clips"]:
        sizes = [entry["sps"], entry["pps"], entry["jpeg"], *entry["samples"]]
        ends = list(accumulate(sizes, initial=end))
        parts = [data[a:b] for a, b in pairwise(ends)]
        end = ends[-1]
        clip = Clip(entry["ratio"], entry["width"], entry["height"], parts[0], parts[1], parts[2], tuple(parts[3:]))
        found[clip.ratio] = (*found.get(clip.ratio, ()), clip)
    return found


def video(name: str, ratio: str, duration: float) -> bytes:
    """A playable MP4 of `duration` seconds and of that aspect ratio, unlike the file of any other `name`."""
    body = name.encode()
    return _template(ratio, _variant(name, ratio), duration) + box(b"free", body)


def thumbnail(name: str, ratio: str) -> bytes:
    """A JPEG of the clip that `video` makes for the same name and ratio."""
    return _clip(ratio, _variant(name, ratio)).jpeg


def box(kind: bytes, *parts: bytes) -> bytes:
    """One MP4 box: its length, its kind, its contents."""
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def _clip(ratio: str, variant: int) -> Clip:
    return clips().get(ratio, clips()["16:9"])[variant]


def _variant(name: str, ratio: str) -> int:
    known = clips().get(ratio, clips()["16:9"])
    return hashlib.sha256(name.encode()).digest()[0] % len(known)


@lru_cache(maxsize=64)
def _template(ratio: str, variant: int, duration: float) -> bytes:
    """Everything but the name; the name follows after the media, so that no offset depends on it."""
    clip = _clip(ratio, variant)
    empty = _moov(clip, duration, 0)
    media = b"".join(clip.samples)
    return _FTYP + _moov(clip, duration, len(_FTYP) + len(empty) + 8) + box(b"mdat", media)


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", flags), *parts)


def _moov(clip: Clip, duration: float, media_at: int) -> bytes:
    ticks = max(1, round(duration * TIMESCALE))
    head = struct.pack(">IIIIIHHQ", 0, 0, TIMESCALE, ticks, 0x10000, 0x0100, 0, 0)
    return box(b"moov", _full(b"mvhd", head, _MATRIX, bytes(24), struct.pack(">I", 2)), _trak(clip, ticks, media_at))


def _trak(clip: Clip, ticks: int, media_at: int) -> bytes:
    place = struct.pack(">IIIIIQHHHH", 0, 0, 1, 0, ticks, 0, 0, 0, 0, 0)
    size = struct.pack(">II", clip.width << 16, clip.height << 16)
    media = box(
        b"mdia",
        _full(b"mdhd", struct.pack(">IIIIHH", 0, 0, TIMESCALE, ticks, 0x55C4, 0)),
        _full(b"hdlr", struct.pack(">I", 0), b"vide", bytes(12), b"video\0"),
        box(
            b"minf",
            _full(b"vmhd", bytes(8), flags=1),
            box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1))),
            _sample_table(clip, ticks, media_at),
        ),
    )
    return box(b"trak", _full(b"tkhd", place, _MATRIX, size, flags=3), media)


def _sample_table(clip: Clip, ticks: int, media_at: int) -> bytes:
    """The frames in order. A clip longer than the loop refers to the same bytes again: each round is one chunk."""
    loop = len(clip.samples)
    count = math.ceil(ticks / 1000)
    rounds = math.ceil(count / loop)
    last = count - loop * (rounds - 1)
    lengths = [len(sample) for sample in clip.samples]
    sizes = (lengths * rounds)[:count]
    runs = [(count, 1000)] if ticks % 1000 == 0 else [(count - 1, 1000), (1, ticks % 1000)]
    times = [run for run in runs if run[0]]
    chunks = [(1, loop, 1), (rounds, last, 1)] if rounds > 1 and last != loop else [(1, min(loop, count), 1)]
    return box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), _sample_entry(clip)),
        _table(b"stts", [number for run in times for number in run], len(times)),
        _table(b"stss", [1 + loop * i for i in range(rounds)], rounds),
        _table(b"stsc", [number for chunk in chunks for number in chunk], len(chunks)),
        _full(b"stsz", struct.pack(f">II{count}I", 0, count, *sizes)),
        _table(b"stco", [media_at] * rounds, rounds),
    )


def _table(kind: bytes, numbers: list[int], entries: int) -> bytes:
    return _full(kind, struct.pack(f">I{len(numbers)}I", entries, *numbers))


def _sample_entry(clip: Clip) -> bytes:
    head = struct.pack(">IHHIIIIHHIIIH", 0, 0, 1, 0, 0, 0, 0, clip.width, clip.height, 0x480000, 0x480000, 0, 1)
    name = bytes(32) + struct.pack(">Hh", 24, -1)
    config = bytes([1]) + clip.sps[1:4] + bytes([0xFF, 0xE1])
    config += struct.pack(">H", len(clip.sps)) + clip.sps + bytes([1]) + struct.pack(">H", len(clip.pps)) + clip.pps
    return box(b"avc1", head, name, box(b"avcC", config))
