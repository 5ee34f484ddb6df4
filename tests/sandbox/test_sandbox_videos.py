"""Videos: sound boxes, the right length and shape, one of its own for every task; ranges as HTTP has them."""

import shutil
import struct
import subprocess

import pytest

from kling_async.sandbox.mp4 import thumbnail, video

CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}


def boxes(data, path=()):
    """Every box as (path, body), with the lengths checked."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        assert 8 <= size <= len(data) - at
        body = data[at + 8 : at + size]
        yield (*path, kind), body
        if kind in CONTAINERS:
            yield from boxes(body, (*path, kind))
        at += size
    assert at == len(data)


@pytest.mark.parametrize("duration", [3, 5, 7.5, 10, 15, 120])
@pytest.mark.parametrize(("ratio", "size"), [("16:9", (320, 180)), ("9:16", (180, 320)), ("1:1", (240, 240))])
def test_a_video_is_a_sound_chain_of_boxes_of_the_asked_length_and_shape(ratio, size, duration):
    data = video("task_1", ratio, duration)
    found = {path[-1]: body for path, body in boxes(data)}
    assert [path[0] for path, _ in boxes(data) if len(path) == 1] == [b"ftyp", b"moov", b"mdat", b"free"]
    scale, ticks = struct.unpack_from(">II", found[b"mdhd"], 12)
    assert ticks / scale == duration
    assert struct.unpack_from(">HH", found[b"stsd"], 8 + 8 + 24) == size
    assert struct.unpack(">II", found[b"tkhd"][-8:]) == (size[0] << 16, size[1] << 16)


@pytest.mark.parametrize("duration", [0.5, 1.99, 2, 3, 4, 7.25, 15])
def test_the_sample_tables_agree_and_point_into_the_media(duration):
    data = video("task_1", "16:9", duration)
    found = {path[-1]: body for path, body in boxes(data)}
    _, _, samples, *sizes = struct.unpack(f">{len(found[b'stsz']) // 4}I", found[b"stsz"])
    runs = struct.unpack_from(f">{len(found[b'stts']) // 4 - 2}I", found[b"stts"], 8)
    assert sum(runs[::2]) == samples == len(sizes)
    assert sum(count * delta for count, delta in zip(runs[::2], runs[1::2], strict=True)) == round(duration * 12_000)
    chunks = struct.unpack_from(f">{len(found[b'stco']) // 4 - 2}I", found[b"stco"], 8)
    table = struct.unpack_from(f">{len(found[b'stsc']) // 4 - 2}I", found[b"stsc"], 8)
    per_chunk = [
        next(n for first, n in reversed(list(zip(table[::3], table[1::3], strict=True))) if first <= i)
        for i in range(1, len(chunks) + 1)
    ]
    assert sum(per_chunk) == samples
    assert all(data[at - 4 : at] == b"mdat" for at in chunks)
    assert sum(sizes[: per_chunk[0]]) <= len(found[b"mdat"])
    assert data[chunks[0] + 4] & 31 == 5  # the first sample is a key frame


def test_every_task_has_a_file_of_its_own_of_a_few_kilobytes():
    files = {video(f"task_{n}", "16:9", 5) for n in range(50)}
    assert len(files) == 50
    assert max(map(len, files)) < 6_000


def test_the_same_task_has_the_same_file():
    assert video("task_1", "1:1", 5) == video("task_1", "1:1", 5)


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
def test_ffprobe_decodes_every_frame(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(video("task_1", "9:16", 7.25))
    command = [
        "ffprobe",
        "-v",
        "warning",
        "-count_frames",
        "-show_entries",
        "stream=width,height,duration,nb_read_frames",
    ]
    done = subprocess.run([*command, "-of", "csv=p=0", path], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stderr, done.stdout.strip()) == ("", "180,320,7.250000,87")


def test_a_thumbnail_is_a_jpeg():
    data = thumbnail("task_1", "9:16")
    assert (data[:3], data[-2:]) == (b"\xff\xd8\xff", b"\xff\xd9")


@pytest.fixture
def clip(caller):
    body = {"prompt": "p", "duration": 5}
    job_id = caller.post("/v1/generate", body)[1]["job_id"]
    return f"/_sandbox/videos/{job_id}.mp4"


def test_a_video_needs_no_key_and_is_there_once_the_task_has_succeeded(caller, clip):
    assert caller.call("GET", clip, 89).status == 404
    reply = caller.call("GET", clip, 90)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "video/mp4")
    assert caller.call("GET", clip.replace("videos", "thumbs").replace("mp4", "jpg")).headers["Content-Type"] == (
        "image/jpeg"
    )


def test_the_ledger_notes_credentials_on_downloads(caller, clip):
    caller.call("GET", clip, 90)
    assert caller.box.ledger.credentials_on_downloads == 0
    caller.call("GET", clip, 90, authorization="Bearer key-1")
    assert (caller.box.ledger.credentials_on_downloads, caller.box.ledger.downloads) == (1, 2)


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-10", -10, None), ("bytes=5-999999", 5, None)],
)
def test_a_range_gives_that_part(caller, clip, wanted, start, end):
    whole = caller.call("GET", clip, 90)
    part = caller.call("GET", clip, 90, range=wanted, if_range=whole.headers["ETag"])
    assert (part.status, part.body) == (206, whole.body[start:end])
    first = start % len(whole.body)
    last = first + len(part.body) - 1
    assert part.headers["Content-Range"] == f"bytes {first}-{last}/{len(whole.body)}"


def test_a_range_of_another_version_gives_the_whole(caller, clip):
    assert caller.call("GET", clip, 90, range="bytes=5-", if_range='"old"').status == 200


@pytest.mark.parametrize("wanted", ["bytes=999999-", "bytes=9-5"])
def test_a_range_outside_the_file_cannot_be_had(caller, clip, wanted):
    reply = caller.call("GET", clip, 90, range=wanted)
    assert (reply.status, reply.body) == (416, b"")
    assert reply.headers["Content-Range"].startswith("bytes */")


@pytest.mark.parametrize("wanted", ["bytes=-", "lines=1-2", "bytes=1-2,4-5"])
def test_a_range_that_is_not_understood_gives_the_whole(caller, clip, wanted):
    assert caller.call("GET", clip, 90, range=wanted).status == 200


@pytest.mark.parametrize("path", ["videos/none.mp4", "videos/", "videos/../ledger", "thumbs/x.jpg", "images/x", "else"])
def test_other_pages_are_not_found(caller, path):
    assert caller.call("GET", f"/_sandbox/{path}").status == 404
