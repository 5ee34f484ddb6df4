"""U: the URL of the video, and what the host behind it does. The job is paid for and stays succeeded."""

import asyncio
import contextlib
import gzip
import hashlib
import ipaddress
import logging
import os
import socket
import sqlite3
import zlib

import pytest
from hostile_gateway import film_of, head, play, shown
from trials import assert_silent

from kling_async import DownloadError, DownloadPolicy, ProtocolError, RetryPolicy, Status
from kling_async.transport import CHUNK

pytestmark = pytest.mark.anyio

CAP = 256 * 1024
SLACK = 8 * 1024 * 1024
"""What may be under way in buffers of the system when a download stops."""


def names(*urls, **fields):
    """Return a fault: the job has succeeded, and these are its URLs; "{canary}" stands for the forbidden port."""

    async def fault(visit):
        port = visit.gateway.canary.rpartition(":")[2]
        told = [url.replace("{port}", port).replace("{films}", visit.gateway.films) for url in urls]
        await visit.say(shown(visit.gateway.task(visit.query["task_id"]), "SUCCESS", told, **fields))
        return True

    return fault


def onwards(location):
    """Return a fault: the video's host redirects; "{task}" stands for the task's id."""

    async def fault(visit):
        port = visit.gateway.canary.rpartition(":")[2]
        there = location.replace("{port}", port).replace("{films}", visit.gateway.films)
        await visit.say(b"", "302 Found", [f"Location: {there}"])
        return True

    return fault


@pytest.fixture
def tripwire(monkeypatch):
    """Every address off loopback that anything tries to reach; the attempt ends here."""
    attempts = []
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family != socket.AF_UNIX and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
            attempts.append(address)
            raise OSError(101, "the tripwire")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    return attempts


async def refused(t, path, code, **options):
    """Make one job, let its download fail, and return the error. The job stays succeeded and nothing is on disk."""
    future, outcome = await t.one()
    assert future.status is Status.SUCCEEDED
    with pytest.raises(DownloadError) as caught:
        await t.session.download(outcome, path / "boat.mp4", **options)
    error = caught.value
    assert_silent(error)
    assert (error.code, error.stage, error.task_id, error.charged) == (code, "download", outcome.task_id, "yes")
    assert future.status is Status.SUCCEEDED
    assert t.ledger.accepted == len(t.ledger.submits) == 1
    return error


def left_in(path):
    return sorted(entry.name for entry in path.iterdir())


SCHEMES = [
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "ftp://127.0.0.1/a.mp4",
    "data:video/mp4;base64,AAAA",
    "javascript:alert(1)",
    "gopher://127.0.0.1:{port}/_x",
]


@pytest.mark.parametrize("url", SCHEMES)
async def test_u01_a_url_of_another_scheme_is_blocked_and_nothing_is_written(trial, tmp_path, url):
    async with trial(seconds=2) as t:
        t.gateway.on("status", names(url), times=0)
        await refused(t, tmp_path, "blocked")
        assert left_in(tmp_path) == []
        assert t.ledger.fetches == []


INSIDE = [
    "http://127.0.0.1:{port}/a.mp4",
    "http://localhost:{port}/a.mp4",
    "http://LOCALHOST:{port}/a.mp4",
    "http://0.0.0.0:{port}/a.mp4",
    "http://0x7f000001:{port}/a.mp4",
    "http://0x7f.0.0.1:{port}/a.mp4",
    "http://127.0.0.0x1:{port}/a.mp4",
    "http://１２７.０.０.１:{port}/a.mp4",
    "http://127。0。0。1:{port}/a.mp4",
    "http://[::ffff:127.0.0.1]:{port}/a.mp4",
    "http://[::ffff:7f00:1]:{port}/a.mp4",
    "http://[::1]:{port}/a.mp4",
    "http://[::]:{port}/a.mp4",
    "http://[0:0:0:0:0:0:0:1]:{port}/a.mp4",
    "http://127.1.2.3:{port}/a.mp4",
]


@pytest.mark.parametrize("url", INSIDE)
async def test_u02_this_machine_is_not_reached_in_any_spelling(trial, tmp_path, tripwire, url):
    async with trial(seconds=2) as t:
        t.gateway.on("status", names(url), times=0)
        await refused(t, tmp_path, "blocked")
        assert left_in(tmp_path) == []
    assert tripwire == []


async def test_u02_nor_by_a_name_with_a_dot_at_its_end_which_not_every_resolver_knows(trial, tmp_path, tripwire):
    async with trial(seconds=2) as t:
        t.gateway.on("status", names("http://localhost.:{port}/a.mp4"), times=0)
        _, outcome = await t.one()
        with pytest.raises(DownloadError) as caught:
            await t.session.download(outcome, tmp_path / "boat.mp4")
        assert caught.value.code in ("blocked", "network")
        assert left_in(tmp_path) == []
    assert tripwire == []


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "0127.0.0.1"])
async def test_u03_an_address_as_a_decimal_an_octal_or_a_short_number_is_blocked(trial, tmp_path, tripwire, host):
    async with trial(seconds=2) as t:
        t.gateway.on("status", names(f"http://{host}:{{port}}/a.mp4"), times=0)
        await refused(t, tmp_path, "blocked")
    assert tripwire == []


OFF_HOST = [
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://10.0.0.1/a.mp4",
    "http://192.168.1.1/a.mp4",
    "http://172.16.0.1/a.mp4",
    "http://100.64.0.1/a.mp4",
    "http://[64:ff9b::a9fe:a9fe]/a.mp4",
    "http://[64:ff9b::127.0.0.1]/a.mp4",
    "http://[64:ff9b:1::a9fe:a9fe]/a.mp4",
    "http://[2002:a9fe:a9fe::]/a.mp4",
    "http://[2002:7f00:1::]/a.mp4",
    "http://[::ffff:10.0.0.1]/a.mp4",
    "http://[::ffff:0:127.0.0.1]/a.mp4",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/a.mp4",
    "http://[fe80::1%25lo]/a.mp4",
    "http://[fec0::1]/a.mp4",
    "http://[ff02::1]/a.mp4",
    "http://224.0.0.1/a.mp4",
    "http://255.255.255.255/a.mp4",
    "http://0xa9fea9fe/a.mp4",
    "http://192.0.2.1/a.mp4",
    "http://198.18.0.1/a.mp4",
]


@pytest.mark.parametrize("url", OFF_HOST)
async def test_u04_no_private_or_metadata_address_is_tried_in_any_spelling(trial, tmp_path, tripwire, url):
    async with trial(seconds=2) as t:
        t.gateway.on("status", names(url), times=0)
        await refused(t, tmp_path, "blocked")
        assert left_in(tmp_path) == []
    assert tripwire == []


@pytest.mark.parametrize(
    "url",
    [
        "http://user:pw@127.0.0.1:{port}/a.mp4",
        "http://127.0.0.1\\@example.com/a.mp4",
        "http:///a.mp4",
        "http://:80/a.mp4",
        "http://127.0.0.1:99999/a.mp4",
        "http://[::1/a.mp4",
        "http://exa mple.com/a.mp4",
        "http://" + "a" * 64 + ".example/a.mp4",
    ],
)
async def test_u05_a_url_that_is_not_plain_is_blocked_or_no_url_at_all(trial, tmp_path, tripwire, url):
    async with trial(seconds=3) as t:
        t.gateway.on("status", names(url), times=0)
        future, outcome = await t.one()
        if future.status is Status.SUCCEEDED:
            with pytest.raises(DownloadError) as caught:
                await t.session.download(outcome, tmp_path / "boat.mp4")
            assert caught.value.code == "blocked"
            assert_silent(caught.value)
        else:
            assert (type(outcome.error), outcome.error.code) == (ProtocolError, "no_video")
        assert left_in(tmp_path) == []
    assert tripwire == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a\r\nX-Evil: 1.mp4",
        "http://127.0.0.1/a\0.mp4",
        "/videos/a.mp4",
        "videos/a.mp4",
        "//127.0.0.1/a.mp4",
        "http://127.0.0.1/" + "a" * 20_000,
        "",
        " ",
    ],
)
async def test_u05_what_is_no_url_is_no_video_and_the_task_is_kept(trial, url):
    async with trial(seconds=2) as t:
        t.gateway.on("status", names(url), times=0)
        future, outcome = await t.one()
        error = outcome.error
        assert_silent(error)
        assert (type(error), error.code, error.task_id) == (ProtocolError, "no_video", t.ledger.tasks[0].task_id)
        assert (future.status, outcome.charged) == (Status.FAILED, "yes")


async def test_u06_a_signed_url_works_and_its_signature_is_in_no_log(trial, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)

    async def signed(visit):
        assert "X-Amz-Signature=SECRETSIG" in visit.target
        return await play(visit)

    async with trial(seconds=2) as t:
        task = "n75task0001kling3"
        url = f"{{films}}/{task}.mp4?X-Amz-Signature=SECRETSIG&Expires=1%2F2"
        t.gateway.on("status", names(url), times=0).on("video", signed, times=0)
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path / "boat.mp4")
    assert "SECRETSIG" not in caplog.text
    assert left_in(tmp_path) == ["boat.mp4"]


async def test_u06_nor_is_it_in_the_error_of_a_download_that_fails(trial, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)

    async def forbidden(visit):
        await visit.say("SECRETSIG is wrong", "403 Forbidden")
        return True

    async with trial(seconds=2) as t:
        t.gateway.on("status", names("{films}/a.mp4?sig=SECRETSIG"), times=0).on("video", forbidden, times=0)
        error = await refused(t, tmp_path, "expired")
        assert "SECRETSIG" not in f"{error!r}{error}{error.to_dict()}"
    assert "SECRETSIG" not in caplog.text


EVIL_NAMES = ["../../evil.mp4", "..%2f..%2fevil.mp4", "con.mp4", "a\tb.mp4", "x" * 400 + ".mp4", ".bashrc", "%00.mp4"]


@pytest.mark.parametrize("name", EVIL_NAMES)
async def test_u07_no_name_from_outside_becomes_the_name_of_a_file(trial, tmp_path, name):
    async def named(visit):
        film = film_of("n75task0001kling3")
        await visit.say(film, headers=[f'Content-Disposition: attachment; filename="{name}"'.replace("\t", "%09")])
        return True

    async with trial(seconds=2) as t:
        url = "{films}/" + name.replace("\t", "%09")
        t.gateway.on("status", names(url), times=0).on("video", named, times=0)
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path)
    assert left_in(tmp_path) == ["n75task0001kling3.mp4"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_u08_a_redirect_to_an_allowed_host_is_followed_without_the_key(trial, tmp_path, status):
    async def moved(visit):
        await visit.say(b"", f"{status} Moved", ["Location: /n75task0001kling3.mp4?again=1", "Set-Cookie: a=b"])
        return True

    async with trial(seconds=2) as t:
        t.gateway.on("video", moved)
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path / "boat.mp4")
        assert len(t.ledger.fetches) == 2
        assert all(not {"authorization", "cookie"} & set(fetch.headers) for fetch in t.ledger.fetches)


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/a.mp4",
        "http://localhost:{port}/a.mp4",
        "http://0x7f000001:{port}/a.mp4",
        "http://2130706433:{port}/a.mp4",
        "http://169.254.169.254/latest/",
        "http://[::ffff:169.254.169.254]/latest/",
        "file:///etc/passwd",
        "//127.0.0.1:{port}/a.mp4",
        "http://user:pw@127.0.0.1:{port}/a.mp4",
        "javascript:alert(1)",
        "http://[::1",
    ],
)
async def test_u09_a_redirect_is_checked_like_the_first_url(trial, tmp_path, tripwire, location):
    async with trial(seconds=2) as t:
        t.gateway.on("video", onwards(location), times=0)
        await refused(t, tmp_path, "blocked")
        assert left_in(tmp_path) == []
        assert len(t.ledger.fetches) == 1
    assert tripwire == []


async def test_u09_a_second_hop_is_checked_like_the_first(trial, tmp_path):
    async with trial(seconds=2) as t:
        t.gateway.on("video", onwards("{films}/b.mp4"), onwards("{films}/c.mp4"), onwards("http://127.0.0.1:{port}/x"))
        await refused(t, tmp_path, "blocked")
        assert len(t.ledger.fetches) == 3


@pytest.mark.parametrize("location", ["{films}/a.mp4", "/again.mp4", ""])
async def test_u10_a_loop_of_redirects_ends_at_the_limit(trial, tmp_path, location):
    async with trial(seconds=2) as t:
        t.gateway.on("video", onwards(location), times=0)
        await refused(t, tmp_path, "redirects")
        assert len(t.ledger.fetches) == 6
        assert left_in(tmp_path) == []


GONE = [400, 403, 404, 410]


@pytest.mark.parametrize("status", GONE)
async def test_u11_an_expired_link_is_asked_for_anew_once(trial, tmp_path, status):
    async def gone(visit):
        await visit.say("expired", f"{status} Gone")
        return True

    async with trial(seconds=2) as t:
        t.gateway.on("video", gone)
        _, outcome = await t.one()
        looks = len(t.ledger.polls)
        await t.film(outcome.video, tmp_path / "boat.mp4")
        assert len(t.ledger.polls) == looks + 1


@pytest.mark.parametrize("status", GONE)
async def test_u11_one_that_stays_expired_is_an_error_that_can_be_repeated(trial, tmp_path, status):
    async def gone(visit):
        await visit.say("expired", f"{status} Gone")
        return True

    async with trial(seconds=2) as t:
        t.gateway.on("video", gone, gone)
        error = await refused(t, tmp_path, "expired")
        assert error.http_status == status
        assert left_in(tmp_path) == []
        video = await t.session.attach(t.ledger.tasks[0].task_id)
        await t.film(video, tmp_path / "boat.mp4")


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
async def test_u12_a_host_in_trouble_is_asked_again(trial, tmp_path, status):
    async def trouble(visit):
        await visit.say("busy", f"{status} Trouble")
        return True

    async with trial(seconds=2) as t:
        t.gateway.on("video", trouble, times=2)
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path / "boat.mp4")
        assert len(t.ledger.fetches) == 3


def film_head(film, **extra):
    tag = f'"{hashlib.sha256(film).hexdigest()[:16]}"'
    return head("200 OK", extra.get("length", len(film)), ["Content-Type: video/mp4", f"ETag: {tag}"])


async def _cut(visit, film):
    await visit.send(film_head(film) + film[:9000])
    await asyncio.sleep(0.02)


async def _reset(visit, film):
    await _cut(visit, film)
    visit.reset()


async def _stall(visit, film):
    await visit.send(film_head(film) + film[:9000])
    await visit.gone(5)


@pytest.mark.parametrize("way", [_cut, _reset, _stall])
async def test_u13_a_broken_transfer_is_taken_up_where_it_stopped(trial, tmp_path, way):
    async def broken(visit):
        await way(visit, film_of("n75task0001kling3"))

    async with trial(seconds=3) as t:
        t.gateway.on("video", broken)
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path / "boat.mp4")
        first, second = t.ledger.fetches
        assert "range" not in first.headers
        assert second.headers["range"] == "bytes=9000-"
        assert second.headers["if-range"].startswith('"')
        assert t.ledger.sent["films"] <= 1.1 * len(film_of("n75task0001kling3"))


async def test_u13_a_transfer_that_breaks_for_ever_ends_after_the_attempts(trial, tmp_path):
    async def broken(visit):
        visit.reset()

    async with trial(seconds=2, retry=RetryPolicy(attempts=3, initial=0.01, maximum=0.02)) as t:
        t.gateway.on("video", broken, times=0)
        await refused(t, tmp_path, "network")
        assert len(t.ledger.fetches) == 3
        assert left_in(tmp_path) == []


async def _whole(visit, film):
    await visit.say(film, headers=["Content-Type: video/mp4", f'ETag: "{hashlib.sha256(film).hexdigest()[:16]}"'])


async def _wrong_range(visit, film):
    span = f"Content-Range: bytes 100-{len(film) - 1}/{len(film)}"
    await visit.say(film[100:], "206 Partial Content", [span])


async def _later_range(visit, film):
    span = f"Content-Range: bytes 9500-{len(film) - 1}/{len(film)}"
    await visit.say(film[9500:], "206 Partial Content", [span])


async def _not_satisfiable(visit, film):
    await visit.say(b"", "416 Range Not Satisfiable", [f"Content-Range: bytes */{len(film)}"])


async def _other_tag(visit, film):
    span = f"Content-Range: bytes 9000-{len(film) - 1}/{len(film)}"
    await visit.say(b"x" * (len(film) - 9000), "206 Partial Content", [span, 'ETag: "other"'])


async def _no_range(visit, film):
    await visit.say(film[9000:], "206 Partial Content")


@pytest.mark.parametrize("second", [_whole, _wrong_range, _later_range, _not_satisfiable, _other_tag, _no_range])
async def test_u14_two_answers_that_do_not_fit_are_never_glued(trial, tmp_path, second):
    film = film_of("n75task0001kling3")

    async def first(visit):
        await _cut(visit, film)

    async def then(visit):
        await second(visit, film)
        return True

    async with trial(seconds=2) as t:
        t.gateway.on("video", first, then)
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path / "boat.mp4")
    assert left_in(tmp_path) == ["boat.mp4"]


async def test_u14_a_range_that_begins_earlier_overlaps_and_is_not_asked_for_again(trial, tmp_path):
    async def first(visit):
        await _cut(visit, film_of("n75task0001kling3"))

    async def earlier(visit):
        await _wrong_range(visit, film_of("n75task0001kling3"))
        return True

    async with trial(seconds=2) as t:
        t.gateway.on("video", first, earlier)
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path / "boat.mp4")
        assert len(t.ledger.fetches) == 2


FILM = film_of("n75task0001kling3")
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
NOT_A_VIDEO = {
    "html": (PAGE, "text/html"),
    "html-as-mp4": (PAGE, "video/mp4"),
    "json-error": (b'{"code":404,"message":"not found"}', "application/json"),
    "empty": (b"", "video/mp4"),
    "cut-and-announced-so": (FILM[:5000], "video/mp4"),
    "no-moov": (b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08free", "video/mp4"),
    "box-too-long": (b"\0\0\0\x10ftypisom\0\0\0\0\xff\xff\xff\xffmoov", "video/mp4"),
    "gif": (b"GIF89a" + b"\0" * 100, "image/gif"),
}


@pytest.mark.parametrize("body", NOT_A_VIDEO.values(), ids=NOT_A_VIDEO)
async def test_u15_what_is_no_whole_mp4_never_gets_the_files_name(trial, tmp_path, body):
    async def other(visit):
        await visit.say(body[0], headers=[f"Content-Type: {body[1]}"])
        return True

    async with trial(seconds=2) as t:
        t.gateway.on("video", other, times=0)
        error = await refused(t, tmp_path, "not_a_video")
        assert len(error.message) < 300
        assert left_in(tmp_path) == []


async def test_u15_a_body_that_ends_with_the_connection_is_checked_by_its_boxes(trial, tmp_path):
    async def eof_cut(visit):
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nConnection: close\r\n\r\n" + FILM[:5000])

    async with trial(seconds=2) as t:
        t.gateway.on("video", eof_cut, times=0)
        await refused(t, tmp_path, "not_a_video")
        assert left_in(tmp_path) == []


async def test_u16_the_type_octet_stream_is_good_enough(trial, tmp_path):
    async def octets(visit):
        await visit.say(FILM, headers=["Content-Type: application/octet-stream"])
        return True

    async with trial(seconds=2) as t:
        t.gateway.on("video", octets)
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path / "boat.mp4")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_u16_a_compressed_film_is_written_as_it_plays(trial, tmp_path, encoding):
    packed = gzip.compress(FILM) if encoding == "gzip" else zlib.compress(FILM)

    async def compressed(visit):
        await visit.say(packed, headers=["Content-Type: video/mp4", f"Content-Encoding: {encoding}"])
        return True

    async with trial(seconds=2) as t:
        t.gateway.on("video", compressed)
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path / "boat.mp4")


async def _endless(visit):
    await visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while True:
            await visit.send(bytes(CHUNK))


async def _endless_chunks(visit):
    await visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while True:
            await visit.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")


async def _huge(visit):
    await visit.send(head("200 OK", 10**15))
    with contextlib.suppress(ConnectionError):
        while True:
            await visit.send(bytes(CHUNK))


BOMB = gzip.compress(bytes(1 << 28), 9)


async def _bomb(visit):
    await visit.say(BOMB, headers=["Content-Type: video/mp4", "Content-Encoding: gzip"])


@pytest.mark.parametrize("way", [_endless, _endless_chunks, _huge, _bomb])
async def test_u17_a_file_without_an_end_stops_at_the_cap(trial, tmp_path, monkeypatch, way):
    async with trial(seconds=2) as t:
        monkeypatch.setattr(t.session, "_downloads", _allowing(t, max_bytes=CAP))
        t.gateway.on("video", way, times=0)
        await refused(t, tmp_path, "too_large")
        assert left_in(tmp_path) == []
        assert t.ledger.sent["films"] <= CAP + SLACK


def _allowing(t, **limits):
    hosts = (t.gateway.films.removeprefix("http://"),)
    return DownloadPolicy(**{"stall": 0.5, "minimum_speed": 0, "allow_private_hosts": hosts, **limits})


@pytest.mark.parametrize("gap", [0.05, 0.3])
async def test_u18_a_drip_is_too_slow(trial, tmp_path, monkeypatch, gap):
    async def drip(visit):
        await visit.send(film_head(FILM))
        for byte in FILM:
            await visit.send(bytes([byte]))
            await asyncio.sleep(gap)

    async with trial(seconds=1) as t:
        monkeypatch.setattr(t.session, "_downloads", _allowing(t, minimum_speed=1000))
        t.gateway.on("video", drip, times=0)
        await refused(t, tmp_path, "too_slow")
        assert left_in(tmp_path) == []


async def test_u19_a_file_that_is_there_is_never_replaced_unless_asked(trial, tmp_path):
    (tmp_path / "boat.mp4").write_bytes(b"mine")
    async with trial(seconds=2) as t:
        await refused(t, tmp_path, "disk")
        assert (tmp_path / "boat.mp4").read_bytes() == b"mine"
        assert t.ledger.fetches == []
        video = await t.session.attach(t.ledger.tasks[0].task_id)
        await t.session.download(video, tmp_path / "boat.mp4", overwrite=True)
        assert (tmp_path / "boat.mp4").read_bytes() == FILM


@pytest.mark.parametrize("name", ["boat.mp4.part", "boat.mp4"])
@pytest.mark.parametrize("target", ["a-file", "nothing"])
async def test_u20_a_symlink_in_the_way_is_not_followed(trial, tmp_path, name, target):
    films = tmp_path / "films"
    films.mkdir()
    (tmp_path / "a-file").write_bytes(b"precious")
    (films / name).symlink_to(tmp_path / target)
    async with trial(seconds=2) as t:
        await refused(t, films, "disk")
    assert (tmp_path / "a-file").read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()
    assert left_in(films) == [name]
    assert (films / name).is_symlink()


async def test_u20_nor_is_a_fifo_or_a_directory_in_the_place_of_the_part(trial, tmp_path):
    os.mkfifo(tmp_path / "boat.mp4.part")
    async with trial(seconds=2) as t:
        await refused(t, tmp_path, "disk")
        (tmp_path / "boat.mp4.part").unlink()
        (tmp_path / "boat.mp4.part").mkdir()
        video = await t.session.attach(t.ledger.tasks[0].task_id)
        with pytest.raises(DownloadError) as caught:
            await t.session.download(video, tmp_path / "boat.mp4")
        assert caught.value.code == "disk"


async def test_u21_a_directory_that_is_missing_or_vanishes_is_a_disk_error_and_another_one_works(trial, tmp_path):
    films = tmp_path / "films"
    films.mkdir()

    async def vanish(visit):
        for entry in films.iterdir():
            entry.unlink()
        films.rmdir()
        return await play(visit)

    async with trial(seconds=2) as t:
        t.gateway.on("video", vanish)
        await refused(t, films, "disk")
        video = await t.session.attach(t.ledger.tasks[0].task_id)
        with pytest.raises(DownloadError) as caught:
            await t.session.download(video, films / "boat.mp4")
        assert caught.value.code == "disk"
        await t.film(video, tmp_path / "boat.mp4")


@pytest.mark.parametrize("number", [13, 30, 28, 122, 5])
@pytest.mark.parametrize("call", ["write", "open", "link"])
async def test_u21_whatever_the_disk_refuses_is_a_disk_error(trial, tmp_path, monkeypatch, call, number):
    """EACCES, EROFS, ENOSPC, EDQUOT and EIO, at the opening, the writing and the naming of the file."""
    from kling_async import disk, download

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    async def append(transfer, chunks):
        if chunks:
            refuse()

    async with trial(seconds=2) as t:
        with monkeypatch.context() as patch:
            place, name = {
                "write": (download, "_append"),
                "open": (download, "open_part"),
                "link": (disk, "give_name"),
            }[call]
            patch.setattr(place, name, append if call == "write" else refuse)
            error = await refused(t, tmp_path, "disk")
        assert os.strerror(number) in error.message
        assert left_in(tmp_path) == []
        video = await t.session.attach(t.ledger.tasks[0].task_id)
        await t.film(video, tmp_path / "boat.mp4")


async def test_u21_a_directory_on_another_device_gets_the_whole_file(trial, tmp_path, monkeypatch):
    """Where no hard link can be made, the file is renamed in its own directory, and is still never half there."""

    def cross_device(*_, **__):
        raise OSError(18, os.strerror(18))

    monkeypatch.setattr(os, "link", cross_device)
    async with trial(seconds=2) as t:
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path / "boat.mp4")
    assert left_in(tmp_path) == ["boat.mp4"]


async def ran(session, path, films, request):
    """Run a batch of one job and return its outcome."""
    async with session.batch(path, download_to=films) as batch:
        batch.add([("boat", request)])
        return next(iter([outcome async for outcome in batch.run()]), None)


def edit(path, change, *values):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(change, values)


async def broken_off(trial, path, films, request):
    """Make a batch whose one film breaks off for ever, and leave it so."""

    async def broken(visit):
        await _cut(visit, film_of("n75task0001kling3"))

    trial.gateway.on("video", broken, times=0)
    outcome = await ran(trial.session, path, films, request)
    assert (outcome.error.code, outcome.status, outcome.charged) == ("network", Status.SUCCEEDED, "yes")
    trial.gateway.heal()


@pytest.mark.parametrize("number", [13, 5])
async def test_u21_what_a_later_run_may_not_read_is_a_disk_error_of_that_job(trial, tmp_path, monkeypatch, number):
    """The whole film has its name, and the record of that was lost with the process; the file is another user's now."""
    from kling_async.batch import fetching

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    films, path = tmp_path / "films", tmp_path / "night.db"
    async with trial(seconds=4) as t:
        request = t.request()
        assert (await ran(t.session, path, films, request)).ok
        edit(path, "UPDATE job SET state = 'succeeded'")
        async with t.another() as session:
            with monkeypatch.context() as patch:
                patch.setattr(fetching, "digest_of_file", refuse)
                patch.setattr(fetching.Fetching, "_free", refuse)
                outcome = await ran(session, path, films, request)
            assert (type(outcome.error), outcome.error.code) == (DownloadError, "disk")
            assert (outcome.status, outcome.charged, outcome.task_id) == (
                Status.SUCCEEDED,
                "yes",
                outcome.error.task_id,
            )
            assert os.strerror(number) in outcome.error.message
            outcome = await ran(session, path, films, request)
        assert outcome.file.read_bytes() == FILM
        assert (t.ledger.accepted, left_in(films)) == (1, ["boat.mp4"])


@pytest.mark.parametrize("part", ["{", "[]", '{"source": 1, "validator": 2}'])
async def test_u14_a_record_of_a_transfer_that_cannot_be_read_begins_it_anew(trial, tmp_path, part):
    films, path = tmp_path / "films", tmp_path / "night.db"
    async with trial(seconds=4) as t:
        request = t.request()
        await broken_off(t, path, films, request)
        edit(path, "UPDATE job SET part = ?", part)
        outcome = await ran(t.session, path, films, request)
        assert outcome.file.read_bytes() == FILM
        assert "range" not in t.ledger.fetches[-1].headers
