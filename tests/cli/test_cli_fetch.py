"""`kling fetch`: what a run left behind is taken up by its task id, and never paid again."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from cli_helpers import KEY, QUICK, Kling, child, events_in

from kling_async.disk import file_name
from kling_async.sandbox import Sandbox, ends_after
from kling_async.sandbox.server import ThreadedServer


def submitted(run_kling: Kling, prompt: str = "a fox", *flags: str) -> str:
    """Submit a job with the command itself and return its task id."""
    done = run_kling("make", prompt, "-o", "made.mp4", "--json", *flags, *QUICK)
    return str(next(event["task_id"] for event in events_in(done.stdout) if event["event"] == "accepted"))


def test_fetch_downloads_what_was_made_and_pays_for_nothing(run_kling: Kling, gateway: ThreadedServer) -> None:
    ids = [submitted(run_kling)]
    Path("made.mp4").unlink()
    ids.append(submitted(run_kling))
    done = run_kling("fetch", *ids, ids[0], "-o", "out", *QUICK)
    assert done.exit_code == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(f"out/{file_name(task_id)}" for task_id in ids)
    assert len(gateway.ledger.submits) == 2
    assert "2 done of 2 clips" in done.stderr


def test_fetch_without_download_prints_the_urls(run_kling: Kling, gateway: ThreadedServer) -> None:
    done = run_kling("fetch", submitted(run_kling), "--no-download", *QUICK)
    assert (done.exit_code, done.stdout.startswith(gateway.url)) == (0, True)
    assert not Path("videos").exists()


def test_fetch_tells_the_events_of_a_run(run_kling: Kling, gateway: ThreadedServer) -> None:
    task_id = submitted(run_kling)
    events = events_in(run_kling("fetch", task_id, "--json", *QUICK).stdout)
    assert [event["event"] for event in events] == ["started", "succeeded", "downloaded", "summary"]
    assert {event["key"] for event in events[1:3]} == {task_id}


@pytest.mark.parametrize("flags", [("no task",), (".",), (), ("x", "--sandbox"), ("x", "-o", "/proc"), ("x", "-o", "")])
def test_fetch_refuses_what_cannot_be_a_task_or_a_place(
    run_kling: Kling, gateway: ThreadedServer, flags: tuple[str, ...]
) -> None:
    assert run_kling("fetch", *flags).exit_code == 2


def test_a_job_that_is_late_names_the_command_that_goes_on_with_it(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("x.csv").write_text("prompt\nx [sandbox: stuck]\n")
    done = run_kling("run", "x.csv", "--timeout", "0.3", "--json", *QUICK)
    late = next(event for event in events_in(done.stdout) if event["event"] == "late")
    assert "`kling resume x-" in late["message"]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("      row 1")]
    assert f"task {late['task_id']}" in line
    assert "kling fetch" not in done.stderr  # a run on record takes it up by itself
    assert "attach" not in done.output
    again = run_kling("fetch", late["task_id"], "--timeout", "0.3", *QUICK)
    assert again.exit_code == 7
    assert f"kling fetch {late['task_id']}" in again.stderr


def test_a_clip_that_was_not_downloaded_names_the_command_that_fetches_it(
    run_kling: Kling, gateway: ThreadedServer
) -> None:
    done = run_kling("make", "x [sandbox: truncated_mp4]", "--json", *QUICK)
    failed = next(event for event in events_in(done.stdout) if event["event"] == "download_failed")
    assert f"kling fetch {failed['task_id']}" in done.stderr


def test_ctrl_c_waits_for_what_is_fetched_and_a_second_one_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadedServer(Sandbox(api_keys=[KEY])) as server:
        server.sandbox.script(ends_after(30))
        settings = {"KLING_GATEWAY": "kling3api", "KLING_API_KEY": KEY, "KLING_BASE_URL": server.url}
        made = child("make", "a fox", "--json", "--timeout", "0.3", *QUICK, env=settings)
        out, _ = made.communicate(timeout=60)
        task_id = next(event["task_id"] for event in events_in(out) if event["event"] == "accepted")
        process = child("fetch", task_id, "--json", *QUICK, env=settings)
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] in ("started", "stopping"):
                time.sleep(0.5)  # until it looks
                os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "1 clip is being made" in err
    assert f"kling fetch {task_id}" in err
