"""Runs examples/overnight.py against the sandbox, more than once."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kling_async.sandbox import ThreadedServer, drop_after_accept

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "films"


@pytest.fixture
def run(python: str, examples: Path, surroundings: dict[str, str], tmp_path: Path, folder: Path) -> Run:
    file = tmp_path / "prompts.txt"
    file.write_text("a paper boat\na red fox\n\na red fox\n", encoding="utf-8")

    def run(budget: int, **more: str) -> subprocess.CompletedProcess[str]:
        words = [python, str(examples / "overnight.py"), str(file), str(folder), "--budget", str(budget)]
        return subprocess.run(
            [*words, "--poll-max", "0.4"],
            env=surroundings | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_a_larger_budget_makes_what_the_first_one_left(run: Run, gateway: ThreadedServer, folder: Path) -> None:
    first = run(500)
    assert first.returncode == 1
    assert first.stdout.startswith("3 of 3 lines are new\n")
    assert first.stdout.endswith("2 of 3 done; 400 credits spent\n")
    assert "1 not sent: the next job costs 200 credits, and of 500 credits 100 are left" in first.stderr
    second = run(600)
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout.startswith("0 of 3 lines are new\n")
    assert second.stdout.endswith("3 of 3 done; 600 credits spent\n")
    assert dict(gateway.ledger.accepted_per_prompt) == {"a paper boat": 1, "a red fox": 2}
    assert len(list(folder.glob("*.mp4"))) == 3
    assert run(600).stdout == "0 of 3 lines are new\n3 of 3 done; 600 credits spent\n"


def test_what_was_accepted_before_a_kill_is_not_made_again(run: Run, gateway: ThreadedServer, folder: Path) -> None:
    assert run(5000, KLING_FAILPOINT="accepted.committed:3").returncode == -signal.SIGKILL
    assert run(5000).returncode == 0
    assert gateway.ledger.accepted == 3
    assert len(list(folder.glob("*.mp4"))) == 3


def test_a_job_in_doubt_is_named_and_not_sent_again(run: Run, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(drop_after_accept(), on="submit", nth=1)
    for _ in range(2):
        done = run(5000)
        assert done.returncode == 1
        assert "look for it in your account: " in done.stderr
    assert gateway.ledger.accepted == 3
