"""Transfers that are taken up again: within one call, by a later one, and beside other programs."""

import asyncio
import os
import struct
from pathlib import Path

import pytest
from attrs import define, field
from raw import raw_server, read_request, reset

from kling_async import disk
from kling_async.download import Download
from kling_async.errors import DownloadError
from kling_async.kept import Kept, boot_id
from kling_async.mp4 import problem_with
from kling_async.results import Video
from kling_async.sandbox.mp4 import video
from kling_async.settings import DownloadPolicy, RetryPolicy
from kling_async.transport import AiohttpTransport

pytestmark = pytest.mark.anyio

RETRY = RetryPolicy(attempts=3, initial=0.01, maximum=0.02)
PIECE = struct.pack(">I4s", 4096, b"free") + bytes(4088)
FILM = video("n75abc", "16:9", 5) + PIECE * 40
"""It ends with boxes of its own, so that cut at the border of one it is still an MP4."""
OTHER = video("n75other", "1:1", 7) + PIECE * 50


@define
class Memory:
    """A keeper that notes what stood in the part each time it was told something."""

    part: Path
    kept: Kept | None = None
    told: list = field(factory=list)

    async def keep(self, kept):
        if kept != self.kept:
            self.kept = kept
            self.told.append((kept, self.part.stat().st_size))

    async def checked(self, size, sha256):
        assert size == self.part.stat().st_size


def range_of(request):
    """Return where the range that a request asks for begins, or None."""
    for line in request.split(b"\r\n"):
        if line.lower().startswith(b"range: bytes="):
            return int(line.split(b"=")[1].rstrip(b"-"))
    return None


def head(status, length, *lines):
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {length}", *lines, "", ""]).encode()


def part_of_it(first, last, total=len(FILM), tag='ETag: "v1"'):
    span = f"Content-Range: bytes {first}-{last}/{total}"
    return head("206 Partial Content", last - first + 1, span, tag) + FILM[first : last + 1]


async def broken(writer, film=FILM, tag='ETag: "v1"', at=9000):
    """Answer with the beginning of a film, and hang up."""
    writer.write(head("200 OK", len(film), tag) + film[:at])
    await writer.drain()
    await asyncio.sleep(0.03)
    reset(writer)


def serving(*answers):
    """Serve each request with the next of some functions of (request, writer); the last one stays."""
    left = list(answers)

    async def play(server, reader, writer):
        request = await read_request(reader)
        server.requests.append(request)
        await (left.pop(0) if len(left) > 1 else left[0])(request, writer)

    return play


async def whole(request, writer):
    first = range_of(request)
    if first is None:
        writer.write(head("200 OK", len(FILM), 'ETag: "v1"') + FILM)
    else:
        writer.write(part_of_it(first, len(FILM) - 1))


async def fetch(url, target, *, keeper=None, retry=RETRY, refresh=None, **more):
    transport = AiohttpTransport("http://127.0.0.1:1", connect=1.0, connections=4)
    policy = DownloadPolicy(stall=0.5, minimum_speed=0, allow_private_hosts=("127.0.0.1",))

    async def nothing():
        return None

    download = Download(transport, policy, retry, "http://127.0.0.1:1", refresh or nothing, keeper, **more)
    film = Video("n75abc", url)
    try:
        return await download.run(film, download.target(film, target, overwrite=False), overwrite=False)
    finally:
        await transport.close()


async def refused(url, target, **options):
    with pytest.raises(DownloadError) as caught:
        await fetch(url, target, **options)
    return caught.value


@pytest.mark.parametrize("total", [len(FILM), "*"])
async def test_after_a_range_that_ends_early_the_rest_is_asked_for(tmp_path, total):
    """RFC 9110, 15.3.7 allows it. It ends at the border of a box, so that what is there looks whole."""
    border = len(FILM) - 10 * len(PIECE)

    async def short(request, writer):
        first = range_of(request)
        writer.write(part_of_it(first, min(first + 70_000, border) - 1, total))

    async def first(request, writer):
        await broken(writer)

    async with raw_server(serving(first, short, short, whole)) as server:
        path = await fetch(server.url, tmp_path / "a.mp4")
    assert path.read_bytes() == FILM
    assert [range_of(request) for request in server.requests] == [None, 9000, 79_000, border]


async def test_a_range_of_another_whole_is_not_glued_on(tmp_path):
    async def first(request, writer):
        await broken(writer)

    async def longer(request, writer):
        writer.write(part_of_it(range_of(request), len(FILM) - 1, len(FILM) + 1))

    async with raw_server(serving(first, longer, whole)) as server:
        path = await fetch(server.url, tmp_path / "a.mp4")
    assert path.read_bytes() == FILM


@pytest.mark.parametrize("tag", ['"a\x01b"', '"a"b"', '"a', 'W/"a"', '"' + "x" * 600 + '"', '"ä"'])
async def test_a_tag_that_is_none_is_not_sent_back(tmp_path, tag):
    async def first(request, writer):
        await broken(writer, tag=f"ETag: {tag}")

    async with raw_server(serving(first, whole)) as server:
        path = await fetch(server.url, tmp_path / "a.mp4")
    assert path.read_bytes() == FILM
    assert [range_of(request) for request in server.requests] == [None, None]


async def test_a_tag_that_holds_the_key_is_neither_kept_nor_sent_back(tmp_path):
    async def first(request, writer):
        await broken(writer, tag='ETag: "sk-secret-1"')

    keeper = Memory(tmp_path / "a.mp4.part")
    async with raw_server(serving(first, whole)) as server:
        await fetch(server.url, tmp_path / "a.mp4", keeper=keeper, betrays=lambda text: "sk-secret" in text)
    assert "sk-secret" not in repr(keeper.told)
    assert [range_of(request) for request in server.requests] == [None, None]


@pytest.mark.parametrize("status", ["500 Internal Server Error", "412 Precondition Failed", "503 Busy"])
async def test_a_host_that_has_only_errors_for_a_range_is_asked_for_the_whole_at_last(tmp_path, status):
    async def ranges_fail(request, writer):
        if range_of(request) is None:
            await whole(request, writer)
        else:
            writer.write(head(status, 0))

    async def first(request, writer):
        await broken(writer)

    async with raw_server(serving(first, ranges_fail)) as server:
        path = await fetch(server.url, tmp_path / "a.mp4")
    assert path.read_bytes() == FILM
    assert len(server.requests) == RETRY.attempts


async def test_a_host_that_is_down_costs_no_byte_that_is_there(tmp_path):
    async def down(request, writer):
        writer.write(head("503 Busy", 0))

    async def first(request, writer):
        await broken(writer)

    target = tmp_path / "a.mp4"
    keeper = Memory(disk.part_of(target))
    async with raw_server(serving(first, down)) as server:
        assert (await refused(server.url, target, keeper=keeper)).code == "network"
    assert disk.part_of(target).read_bytes() == FILM[:9000]
    async with raw_server(serving(whole)) as server:
        again = Memory(disk.part_of(target), Kept(f"{server.url}/a", '"v1"', len(FILM), boot_id()))
        assert (await fetch(f"{server.url}/a", target, keeper=again)).read_bytes() == FILM
        assert [range_of(request) for request in server.requests] == [9000]


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 409, 410, 422, 451])
async def test_whatever_refuses_a_url_another_one_is_asked_for_once(tmp_path, status):
    """Google's storage says 400 of a link that has expired, others 403 or 410."""

    async def by_name(request, writer):
        if b"/fresh" in request:
            await whole(request, writer)
        else:
            writer.write(head(f"{status} No", 0))

    asked = []

    async def refresh():
        asked.append(1)
        return Video("n75abc", f"{server.url}/fresh")

    async with raw_server(serving(by_name)) as server:
        assert (await fetch(f"{server.url}/old", tmp_path / "a.mp4", refresh=refresh)).read_bytes() == FILM
        assert asked == [1]
        error = await refused(f"{server.url}/old", tmp_path / "b.mp4")
    assert (error.code, error.http_status) == ("expired", status)


@pytest.mark.parametrize("tag", ["", 'ETag: W/"b"', 'ETag: "b"'])
async def test_what_is_remembered_of_one_film_is_withdrawn_before_a_byte_of_another_stands_in_its_place(tmp_path, tag):
    """A process that is killed then would go on with the first film behind the bytes of the second."""

    async def first(request, writer):
        await broken(writer)

    async def second(request, writer):
        await broken(writer, OTHER, tag or "X-None: 1", 20_000)

    target = tmp_path / "a.mp4"
    keeper = Memory(disk.part_of(target))
    async with raw_server(serving(first, second)) as server:
        await refused(server.url, target, keeper=keeper, retry=RetryPolicy(attempts=2, initial=0.01, maximum=0.02))
    remembered = [kept.validator if kept is not None else None for kept, _ in keeper.told]
    assert remembered[:2] == ['"v1"', '"b"' if tag == 'ETag: "b"' else None]
    assert [size for _, size in keeper.told[:2]] == [0, 0]


async def test_a_part_that_has_another_name_elsewhere_is_not_written_through(tmp_path):
    target, elsewhere = tmp_path / "films" / "a.mp4", tmp_path / "precious"
    target.parent.mkdir()
    elsewhere.write_bytes(FILM[:9000])
    os.link(elsewhere, disk.part_of(target))
    async with raw_server(serving(whole)) as server:
        keeper = Memory(disk.part_of(target), Kept(server.url, '"v1"', len(FILM), boot_id()))
        path = await fetch(server.url, target, keeper=keeper)
        assert [range_of(request) for request in server.requests] == [None]
    assert path.read_bytes() == FILM
    assert elsewhere.read_bytes() == FILM[:9000]
    assert elsewhere.stat().st_nlink == 1


async def test_a_part_that_another_program_put_there_meanwhile_stays(tmp_path):
    target = tmp_path / "a.mp4"

    async def replaced(request, writer):
        disk.part_of(target).unlink()
        disk.part_of(target).write_bytes(b"of another program")
        await whole(request, writer)

    async with raw_server(serving(replaced)) as server:
        error = await refused(server.url, target)
    assert error.code == "disk"
    assert disk.part_of(target).read_bytes() == b"of another program"


async def test_a_part_that_cannot_be_removed_hides_no_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    async def cut(request, writer):
        writer.write(head("200 OK", 5) + b"<html")

    async with raw_server(serving(cut)) as server:
        monkeypatch.setattr(Path, "unlink", refuse)
        error = await refused(server.url, tmp_path / "a.mp4")
    assert (error.code, error.task_id) == ("not_a_video", "n75abc")


async def test_a_directory_that_cannot_be_read_gets_the_file_all_the_same(tmp_path, monkeypatch):
    real = os.open

    def unreadable(path, flags, *more):
        if Path(path) == tmp_path:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *more)

    async with raw_server(serving(whole)) as server:
        monkeypatch.setattr(os, "open", unreadable)
        path = await fetch(server.url, tmp_path / "a.mp4")
    assert path.read_bytes() == FILM


def test_one_of_two_who_open_a_part_at_once_has_it_and_the_other_is_told(tmp_path):
    """The second has opened the file of a crash when the first takes it away, and must not take the first one's."""
    part = tmp_path / "a.mp4.part"
    part.write_bytes(b"left by a crash")
    late = os.fdopen(os.open(part, os.O_RDWR), "r+b")
    with disk.open_part(part) as first, late:
        with pytest.raises(OSError, match="another program took its place"):
            disk.check_place(late, part)
        with pytest.raises(OSError, match="Resource temporarily unavailable"):
            disk.open_part(part)
        disk.check_place(first, part)


def test_a_film_of_a_hundred_thousand_fragments_is_whole(tmp_path):
    fragments = (struct.pack(">I4s", 16, b"moof") + bytes(8) + struct.pack(">I4s", 8, b"mdat")) * 100_000
    film = FILM + fragments
    (tmp_path / "a.mp4").write_bytes(film)
    with (tmp_path / "a.mp4").open("rb") as file:
        assert problem_with(file, len(film)) is None
        assert "is cut" in problem_with(file, len(film) - 1)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '{"source": 1, "validator": "a"}', '{"source": "a", "validator": "b", "x": 1}', "{"],
)
def test_what_cannot_be_read_of_a_transfer_is_forgotten(text):
    assert Kept.read(text) is None


def test_what_was_written_of_a_transfer_is_read_again():
    assert Kept.read('{"source": "a", "validator": "b", "total": null, "boot": "c"}') == Kept("a", "b", None, "c")
