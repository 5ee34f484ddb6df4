"""Ctrl-C and SIGTERM: nothing new is sent, nothing paid is lost, and the exit code tells."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import KEY, QUICK, child

from kling_async.sandbox import Sandbox, ends_after, hang_after_accept
from kling_async.sandbox.server import ThreadedServer


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A gateway whose jobs last a second and a half."""
    with ThreadedServer(Sandbox(api_keys=[KEY])) as server:
        server.sandbox.script(ends_after(1.5))
        monkeypatch.setenv("KLING_GATEWAY", "kling3api")
        monkeypatch.setenv("KLING_API_KEY", KEY)
        monkeypatch.setenv("KLING_BASE_URL", server.url)
        yield server


def started(*flags: str, until: Callable[[dict[str, Any]], bool], rows: int = 6) -> tuple[Any, list[dict[str, Any]]]:
    """Start a run with two slots and return it once an event has come."""
    lines = [json.dumps({"id": f"job-{number}", "prompt": f"prompt {number}"}) for number in range(1, rows + 1)]
    Path("jobs.jsonl").write_text("\n".join(lines))
    process = child("run", "jobs.jsonl", "--json", "-j", "2", *QUICK, *flags)
    events = []
    assert process.stdout is not None
    for line in process.stdout:
        events.append(json.loads(line))
        if until(events[-1]):
            break
    return process, events


def ended(process: subprocess.Popen[str], events: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return events + [json.loads(line) for line in out.splitlines()], err


def second_accepted() -> Callable[[dict[str, Any]], bool]:
    seen: list[str] = []

    def check(event: dict[str, Any]) -> bool:
        seen.extend([event["key"]] if event["event"] == "accepted" else [])
        return len(seen) == 2

    return check


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 7), (signal.SIGHUP, 7)])
def test_the_first_signal_stops_sending_and_waits_for_what_is_paid(
    slow: ThreadedServer, number: signal.Signals, code: int
) -> None:
    process, events = started(until=second_accepted())
    os.kill(process.pid, number)
    events, err = ended(process, events)
    assert process.returncode == code
    assert slow.ledger.accepted == 2
    kinds = [event["event"] for event in events]
    assert kinds.count("downloaded") == 2
    assert events[-1]["not_sent"] == events[-1]["batch"]["planned"] == 4
    assert "Stopping: no new submissions. 2 clips are being made and already paid for." in err
    assert "waiting for them, up to 10 min" in err
    assert "Stopped at 2 of 6, 400 credits spent. Nothing is lost." in err
    assert "go on        kling resume jobs-" in err
    assert events[-1]["exit_code"] == code
    assert len(list(Path("videos").glob("*.mp4"))) == 2


def test_a_second_ctrl_c_leaves_at_once_and_prints_every_task_id(slow: ThreadedServer) -> None:
    process, events = started(until=second_accepted())
    os.kill(process.pid, signal.SIGINT)
    assert process.stdout is not None
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "stopping":
            break
    os.kill(process.pid, signal.SIGINT)
    events, err = ended(process, events)
    assert process.returncode == 130
    ids = {event["task_id"] for event in events if event["event"] == "accepted"}
    assert len(ids) == 2
    assert all(task_id in err for task_id in ids)
    assert "still being made" in err
    assert events[-1]["late"] == 2


def test_leaving_names_the_keys_of_requests_under_way(slow: ThreadedServer) -> None:
    slow.sandbox.script(hang_after_accept(), on="submit")
    process, events = started(until=lambda event: event["event"] == "started")
    while len(slow.ledger.submits) < 2:
        assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "stopping":
            break
    os.kill(process.pid, signal.SIGINT)
    events, err = ended(process, events)
    assert process.returncode == 130
    assert "job-1   was being sent" in err
    assert "job-2   was being sent" in err
    assert events[-1]["in_doubt"] == 2


def test_ctrl_c_before_anything_is_sent_sends_nothing(tmp_path: Path) -> None:
    os.mkfifo("jobs.csv")
    process = child("run", "jobs.csv", "--sandbox")
    with Path("jobs.csv").open("wb"):  # opens once the child reads
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing was sent" in err


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
