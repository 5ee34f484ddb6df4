"""Standard streams that are closed, full, or left by their reader: one line and an exit code, never an abort."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import EXAMPLE, ROOT, Kling

RUN = ("run", str(EXAMPLE), "--sandbox", "--sandbox-speed", "1000", "--limit", "3", "--rate", "none")


def shell(arguments: tuple[str, ...], closed: str) -> subprocess.CompletedProcess[str]:
    """Run the command from a shell that redirects or closes a stream."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m kling_async "$@" {closed}', sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("closed", "code"), [("<&-", 0), ("2>&-", 0), (">&-", 1), ("<&- 2>&-", 0), ("<&- >&- 2>&-", 1)]
)
def test_a_closed_standard_stream_does_not_end_a_run(closed: str, code: int) -> None:
    done = shell(RUN, closed)
    assert done.returncode == code
    assert len(list(Path("videos").glob("*.mp4"))) == 3
    assert ("stdout cannot be written" in done.stderr) is (closed == ">&-")


@pytest.mark.parametrize(("closed", "code"), [("2>&-", 0), (">&-", 1)])
def test_a_sandbox_with_a_closed_stream_serves_until_a_signal(closed: str, code: int) -> None:
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$0" -m kling_async sandbox {closed}', sys.executable],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen = process.stdout if code == 0 else process.stderr
    assert seen is not None
    while "http://127.0.0.1:" not in seen.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == code


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",), ("gateways",)])
def test_a_full_disk_behind_stdout_is_one_line_and_code_1_for_every_command(arguments: tuple[str, ...]) -> None:
    done = shell(arguments, ">/dev/full")
    assert done.returncode == 1
    assert done.stderr == "stdout cannot be written: No space left on device\n"


def test_the_sandbox_key_is_no_word_of_a_message(run_kling: Kling) -> None:
    Path("x.csv").write_text("prompt\nx [sandbox: fail the sandbox says so]\n")
    done = run_kling("run", "x.csv", "--sandbox", "--sandbox-speed", "1000")
    assert "the sandbox says so" in done.stderr
    assert "***" not in done.stderr
