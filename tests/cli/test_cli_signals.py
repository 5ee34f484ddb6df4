"""Ctrl-C while the sandbox serves. What it does to a run, the rows H20 of the fault matrix tell."""

import os
import signal
from pathlib import Path

from cli_helpers import KEY, QUICK, child


def test_the_sandbox_serves_until_a_signal(tmp_path: Path) -> None:
    process = child("sandbox", "--speed", "1000")
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    run = child(
        "make",
        "a fox",
        *("--base-url", url, "--gateway", "apiin", "-o", "fox.mp4", *QUICK),
        env={"KLING_API_KEY": KEY},
    )
    out, _ = run.communicate(timeout=60)
    assert (run.returncode, out) == (0, "fox.mp4\n")
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "export KLING_BASE_URL=" + url in err
    assert "took 1 job" in err
