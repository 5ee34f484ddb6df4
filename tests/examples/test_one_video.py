"""Runs examples/one_video.py against the sandbox."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kling_async.sandbox import ThreadedServer, drop_after_accept, fail, http, not_a_video

Run = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def run(python: str, examples: Path, surroundings: dict[str, str], tmp_path: Path) -> Run:
    def run(prompt: str) -> subprocess.CompletedProcess[str]:
        words = [python, str(examples / "one_video.py"), prompt, str(tmp_path / "boat.mp4")]
        return subprocess.run(words, env=surroundings, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_it_makes_a_video_and_saves_it(run: Run, gateway: ThreadedServer, tmp_path: Path) -> None:
    done = run("a paper boat in the rain")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "boat.mp4").read_bytes()[4:8] == b"ftyp"
    assert "200 credits" in done.stdout
    assert dict(gateway.ledger.accepted_per_prompt) == {"a paper boat in the rain": 1}


def test_an_empty_prompt_is_refused_without_a_request(run: Run, gateway: ThreadedServer) -> None:
    done = run(" ")
    assert done.returncode == 1
    assert "change the request: prompt: " in done.stderr
    assert not gateway.ledger.submits


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (http(402), "top up the account"),
        (drop_after_accept(), "it may have been accepted and charged"),
        (fail("the sky fell"), "the gateway could not make it (charged: no)"),
        (not_a_video(), "the video is made and paid for: session.attach('n75"),
    ],
)
def test_each_error_gets_its_advice(run: Run, gateway: ThreadedServer, action: object, words: str) -> None:
    gateway.sandbox.script(action)
    done = run("a red fox")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(gateway.ledger.submits) == 1
