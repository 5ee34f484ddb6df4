"""Logs hold no key at any level, prompts at DEBUG at most, no signature of a URL, and one line for each event."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from canary import KEY, PRIVATE, PROMPT, SIGNATURE, leaks, leaks_of
from echoing_gateway import FAULTS, Fault, Said, Visit, answer, echoing_gateway
from log_records import Records
from test_canary_exceptions import raised_by, session_at

from kling_async import DownloadError, DownloadPolicy, KlingError, TextToVideo, Video

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
LOUD = ("INFO", "WARNING", "ERROR", "CRITICAL")


def test_the_whole_catalogue_leaves_no_secret_in_the_log() -> None:
    """The program has asyncio log every callback and every asyncio task, with the arguments and results it shows."""
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    done = subprocess.run(
        [sys.executable, "-X", "dev", HERE / "catalogue_child.py"],
        check=False,
        env={**os.environ, "PYTHONASYNCIODEBUG": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100
    log = done.stderr
    assert "DEBUG\x1fkling_async\x1fPOST /api/generate: HTTP 400" in log
    assert log.count("Executing <Task finished") > 100
    assert leaks(log) == []
    assert "SECRETSIG" not in log
    assert [line for line in log.splitlines() if PRIVATE in line and line.startswith(LOUD)] == []


FORGED = "BAD\r\nERROR kling_async the account is empty\n\x1b[2J\u202e\u2028"


def _forging(visit: Visit) -> Said:
    import json

    told = {"code": FORGED, "message": FORGED, "type": FORGED, "request_id": FORGED, "error": {"code": FORGED}}
    return answer(json.dumps(told), "400 No")


def _forged_end(visit: Visit) -> Said:
    from echoing_gateway import ending

    return ending("failed", error={"code": FORGED, "message": FORGED})(visit)


@pytest.mark.parametrize(
    "faults",
    [{"submit": _forging}, {"poll": _forging}, {"poll": _forged_end}, {"balance": _forging}, {"download": _forging}],
    ids=lambda faults: f"{next(iter(faults))}, {next(iter(faults.values())).__name__}",
)
async def test_a_gateway_forges_no_line_of_the_log(faults: dict[str, Fault], logged: Records, tmp_path: Path) -> None:
    with echoing_gateway(**faults) as gateway:
        async with session_at(gateway.url, "apimart") as session:
            error = await raised_by(session.generate(TextToVideo("a boat")))
            await raised_by(session.balance())
            await raised_by(session.download(Video("t", f"{gateway.url}/videos/x.mp4"), tmp_path / "x.mp4"))
            async with session.batch(tmp_path / "b.db", patience=0.05) as batch:
                batch.add([("mine", TextToVideo("a boat"))])
                async for _ in batch.run():
                    pass
    assert error is None or isinstance(error, KlingError)
    _one_line_each(logged)


def _one_line_each(logged: Records) -> None:
    ours = [record for record in logged.records if record.name == "kling_async"]
    assert ours
    assert [record.getMessage() for record in ours if not record.getMessage().isprintable()] == []
    assert [record for record in ours if record.exc_info] == []


def _telling(text: str) -> Fault:
    """Return a refusal that quotes the request's prompt, or a link, in each of its texts."""
    import json

    told = {"code": text, "message": text, "type": text, "request_id": text, "error": {"code": text, "message": text}}
    return lambda _: answer(json.dumps(told), "503 No")


@pytest.mark.parametrize("text", [PROMPT, f"https://cdn.example/v.mp4?X-Amz-Signature={SIGNATURE}"])
@pytest.mark.parametrize("operation", ["submit", "poll"])
async def test_what_a_gateway_quotes_is_not_logged(operation: str, text: str, logged: Records, tmp_path: Path) -> None:
    with echoing_gateway(**{operation: _telling(text)}) as gateway:
        async with session_at(gateway.url) as session, session.batch(tmp_path / "b.db", patience=0.05) as batch:
            batch.add([("mine", TextToVideo(PROMPT))])
            async for _ in batch.run():
                pass
            await raised_by(session.generate(TextToVideo(PROMPT)))
    told = "\n".join(logged.lines())
    assert "mine" in told
    assert PRIVATE not in told
    assert SIGNATURE not in told


async def test_a_name_made_from_a_prompt_is_logged_without_its_words(logged: Records, tmp_path: Path) -> None:
    with echoing_gateway() as gateway:
        async with session_at(gateway.url) as session, session.batch(tmp_path / "b.db") as batch:
            batch.add([TextToVideo(PROMPT), TextToVideo(f"{PROMPT} [sandbox: fail]")])
            keys = [outcome.key async for outcome in batch.run()]
    assert all(key.startswith("paper-boat-sails-down-the-gutter-") for key in keys)
    told = "\n".join(logged.lines())
    assert all(key.rpartition("-")[2] in told for key in keys)
    words = ("paper", "boat", "sails", "gutter", "past", "confidential", "marzipan", "factory")
    assert [word for word in words if word in told] == []


# Signed URLs.


@pytest.mark.parametrize("name", list(FAULTS)[::7])
async def test_no_error_of_a_download_holds_the_signature_of_its_url(
    name: str, logged: Records, tmp_path: Path
) -> None:
    def quoting(visit: Visit) -> Said:
        return answer(f"http://x/v.mp4?X-Amz-Signature={SIGNATURE} was signed with {SIGNATURE}")

    for fault in (FAULTS[name], quoting):
        with echoing_gateway(download=fault) as gateway:
            video = Video("t", f"{gateway.url}/videos/x.mp4?X-Amz-Signature={SIGNATURE}")
            async with session_at(gateway.url, downloads=DownloadPolicy(stall=0.3)) as session:
                error = await raised_by(session.download(video, tmp_path / "x.mp4"))
            assert isinstance(error, DownloadError)
            assert SIGNATURE[:10] not in repr(error) + str(error) + str(error.to_dict())
            assert leaks_of(error, SIGNATURE) == {}, "nor do the locals of a traceback"
            assert any(SIGNATURE in visit.target for visit in gateway.visits)
    assert SIGNATURE[:10] not in "\n".join(logged.lines())


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/v.mp4?sig=@",
        "http://user:@@127.0.0.1/v.mp4?sig=@",
        "http://0x7f000001/v.mp4?sig=@",
        "http://[::1/v.mp4?sig=@",
        "http://127.0.0.1:99999/v.mp4?sig=@",
        "http://127.0.0.1:9/v.mp4?sig=@",
        "http://127.0.0.1/v mp4?sig=@",
        "https://@",
        "@",
    ],
)
async def test_a_url_that_is_refused_is_not_quoted(url: str, logged: Records, tmp_path: Path) -> None:
    with echoing_gateway() as gateway:
        async with session_at(gateway.url) as session:
            video = Video(
                "t", url.replace("@", SIGNATURE, 1) if url == "@" else url.replace("sig=@", f"sig={SIGNATURE}")
            )
            error = await raised_by(session.download(video, tmp_path / "x.mp4"))
    assert isinstance(error, DownloadError)
    assert SIGNATURE[:10] not in repr(error) + str(error) + str(error.to_dict())
    assert SIGNATURE[:10] not in "\n".join(logged.lines())


async def test_a_redirect_to_a_signed_url_is_not_quoted(logged: Records, tmp_path: Path) -> None:
    def away(visit: Visit) -> Said:
        return answer("", "302 Go", f"Location: http://10.0.0.1/v.mp4?X-Amz-Signature={SIGNATURE}")

    with echoing_gateway(download=away) as gateway:
        async with session_at(gateway.url) as session:
            error = await raised_by(session.download(Video("t", f"{gateway.url}/videos/x.mp4"), tmp_path / "x.mp4"))
    assert isinstance(error, DownloadError)
    assert error.code == "blocked"
    assert leaks_of(error, SIGNATURE) == {}
    assert SIGNATURE[:10] not in "\n".join(logged.lines())


def test_a_key_sent_in_clear_text_is_warned_of_without_the_key(logged: Records) -> None:
    from kling_async import KlingSession

    KlingSession("kling3api", api_key=KEY, base_url="http://gateway.example/prefix")
    (line,) = logged.lines(logging.WARNING)
    assert "in clear text" in line
    assert leaks(line) == []


def test_the_log_of_a_test_does_show_what_is_looked_for(logged: Records) -> None:
    """Otherwise none of these tests could fail."""
    log = logging.getLogger("kling_async")
    log.debug("a key %s", KEY)
    assert logged.leaks()
    logged.records.clear()
    _raise_and_log(log)
    assert logged.leaks()
    with pytest.raises(AssertionError):
        _one_line_each(logged)


def _raise_and_log(log: logging.Logger) -> None:
    quoted: Any = {"authorization": KEY}
    try:
        quoted["cookie"]
    except KeyError:
        log.exception("the adapter failed")
