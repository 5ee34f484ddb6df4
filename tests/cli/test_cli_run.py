"""`kling run` against a gateway on loopback: what reaches it, what is written where, and how it ends."""

import json
import os
import shutil
from decimal import Decimal
from pathlib import Path

import pytest
from cli_helpers import EXAMPLE, KEY, QUICK, Kling, child, events_in

from kling_async.cli import commands
from kling_async.mp4 import problem_with
from kling_async.sandbox import http
from kling_async.sandbox.server import ThreadedServer


def jobs_file(*prompts: str, name: str = "jobs.jsonl") -> str:
    Path(name).write_text("".join(json.dumps({"id": f"job-{n}", "prompt": p}) + "\n" for n, p in enumerate(prompts, 1)))
    return name


def test_the_example_ends_with_code_3_with_real_videos_and_every_failure_named(run_kling: Kling) -> None:
    done = run_kling("run", str(EXAMPLE), "--sandbox", "--sandbox-speed", "1000", "--rate", "none", "-o", "out")
    assert done.exit_code == 3
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert len(paths) == 29
    assert all(path.parent == Path("out") and path.suffix == ".mp4" for path in paths)
    for path in paths:
        with path.open("rb") as file:
            assert problem_with(file, path.stat().st_size) is None
    for words in ("refused-text", "refused-again", "INVALID_PROMPT", "broken-dream", "could not finish", "not charged"):
        assert words in done.stderr


@pytest.mark.parametrize("gateway", ["apiin", "klinggenerator", "apimart"])
def test_what_another_gateway_does_not_make_fails_before_sending_and_nothing_else(
    run_kling: Kling, gateway: str
) -> None:
    flags = ("--sandbox", "--gateway", gateway, "--sandbox-speed", "1000", "--rate", "none", "--json", "--no-download")
    done = run_kling("run", str(EXAMPLE), *flags)
    assert done.exit_code == 3
    failed = {event["key"]: event["error"] for event in events_in(done.stdout) if event["event"] == "failed"}
    told = {"refused-text": "InvalidRequestError", "refused-again": "InvalidRequestError"}
    assert failed.items() >= {**told, "broken-dream": "GenerationFailedError"}.items()
    assert {error for key, error in failed.items() if key not in ("broken-dream", *told)} <= {"UnsupportedError"}


def test_nothing_is_sent_while_one_row_is_not_valid(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("jobs.csv").write_text("id,prompt,duration\na,fine,5\nb,too short,2\n")
    done = run_kling("run", "jobs.csv", *QUICK)
    assert done.exit_code == 2
    assert "  row 2   duration   2 is not between 3 and 120" in done.stderr
    assert done.stdout == ""
    assert gateway.ledger.submits == []


def test_skip_invalid_goes_on_with_the_good_rows(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("jobs.csv").write_text("id,prompt,duration\na,fine,5\nb,too short,2\n")
    done = run_kling("run", "jobs.csv", "--skip-invalid", *QUICK)
    assert (done.exit_code, done.stdout) == (0, "videos/a.mp4\n")
    assert len(gateway.ledger.submits) == 1


def test_rows_come_from_stdin(run_kling: Kling, gateway: ThreadedServer) -> None:
    done = run_kling("run", "-", "-o", "out", *QUICK, input="prompt\nA paper boat in the rain\n")
    assert (done.exit_code, done.stdout) == (0, "out/001-paper-boat-in-the-rain.mp4\n")


def test_a_file_that_is_there_is_never_overwritten(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("videos").mkdir()
    Path("videos/job-1.mp4").write_text("mine")
    Path("videos/job-1-2.mp4").symlink_to("nowhere")
    done = run_kling("run", jobs_file("a fox"), *QUICK)
    assert done.stdout == "videos/job-1-3.mp4\n"
    assert Path("videos/job-1.mp4").read_text() == "mine"


def test_the_names_of_rows_cannot_leave_the_directory(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("jobs.csv").write_text('id,prompt\n../../up,x\n/etc/passwd,x\nFOX,x\nfox,x\n"a\u202eb",x\n')
    done = run_kling("run", "jobs.csv", "--skip-invalid", *QUICK)
    assert done.exit_code == 0
    files = [Path(line) for line in done.stdout.splitlines()]
    assert len(files) == 4
    assert {path.resolve().parent for path in files} == {Path("videos").resolve()}
    assert len({path.name.casefold() for path in files}) == 4


def test_limit_takes_the_first_rows(run_kling: Kling, gateway: ThreadedServer) -> None:
    done = run_kling("run", jobs_file("a", "b", "c"), "--limit", "2", "--no-download", *QUICK)
    assert done.exit_code == 0
    assert len(gateway.ledger.submits) == 2
    assert not Path("videos").exists()
    assert all(line.startswith(gateway.url) for line in done.stdout.splitlines())


def test_every_event_is_a_line_of_json_and_the_summary_is_the_last(run_kling: Kling, gateway: ThreadedServer) -> None:
    done = run_kling("run", jobs_file("fine", "no [sandbox: reject INVALID_PROMPT]"), "--json", *QUICK)
    events = events_in(done.stdout)
    assert {event["v"] for event in events} == {1}
    assert all(event["t"].endswith("Z") for event in events)
    kinds = [event["event"] for event in events]
    assert kinds[0] == "started"
    assert sorted(kinds[1:-1]) == ["accepted", "downloaded", "failed", "succeeded"]
    by_kind = {event["event"]: event for event in events}
    assert by_kind["accepted"]["task_id"] == by_kind["succeeded"]["task_id"]
    assert (by_kind["failed"]["key"], by_kind["failed"]["row"]) == ("job-2", 2)
    assert (by_kind["failed"]["code"], by_kind["failed"]["charged"]) == ("INVALID_PROMPT", "no")
    assert Decimal(by_kind["succeeded"]["credits"]) == 200
    assert by_kind["downloaded"]["file"] == "videos/job-1.mp4"
    summary = events[-1]
    assert summary["event"] == "summary"
    assert (summary["succeeded"], summary["failed"], summary["exit_code"]) == (1, 1, done.exit_code)


@pytest.mark.parametrize(
    ("prompt", "code", "words"),
    [
        ("fine", 0, "1 done"),
        ("x [sandbox: fail]", 3, "not charged"),
        ("x [sandbox: truncated_mp4]", 3, "not downloaded"),
        ("x [sandbox: stuck]", 7, "kling resume jobs-"),
        ("x [sandbox: drop_after_accept]", 8, "in doubt"),
    ],
)
def test_the_exit_code_says_how_it_ended(
    run_kling: Kling, gateway: ThreadedServer, prompt: str, code: int, words: str
) -> None:
    done = run_kling("run", jobs_file(prompt), "--timeout", "0.5", *QUICK)
    assert done.exit_code == code
    assert words in done.stderr


@pytest.mark.parametrize(("status", "code"), [(401, 4), (403, 4), (402, 6)])
def test_a_refused_key_and_an_empty_account_have_codes_of_their_own(
    run_kling: Kling, gateway: ThreadedServer, status: int, code: int
) -> None:
    gateway.sandbox.script(http(status), on="submit")
    assert run_kling("run", jobs_file("a", "b"), *QUICK).exit_code == code


@pytest.mark.parametrize("key", ["", "with blank", "line\nbreak", "ключ"])
def test_without_a_key_that_can_be_one_nothing_is_sent(
    run_kling: Kling, gateway: ThreadedServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("KLING_API_KEY", key)
    done = run_kling("run", jobs_file("a"), *QUICK)
    assert done.exit_code == 4
    assert not key or key not in done.output
    assert gateway.ledger.submits == []


def test_the_key_may_come_from_a_file(
    run_kling: Kling, gateway: ThreadedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KLING_API_KEY")
    Path("key").write_text(f"{KEY}\n")
    assert run_kling("run", jobs_file("a"), "--api-key-file", "key", *QUICK).exit_code == 0
    assert run_kling("run", jobs_file("a"), "--api-key-file", "missing", *QUICK).exit_code == 4


def test_a_key_that_the_gateway_echoes_is_in_no_output(run_kling: Kling, gateway: ThreadedServer) -> None:
    for status in (400, 401, 500):
        body = json.dumps({"code": status, "message": f"key {KEY} refused", "error_message": KEY})
        gateway.sandbox.next(http(status, code=f"CODE-{KEY}", body=body))
        done = run_kling("run", jobs_file("a"), "--json", "-vv", *QUICK)
        assert done.exit_code != 0
        assert KEY not in done.output


def test_a_gateways_words_cannot_steer_the_terminal(run_kling: Kling, gateway: ThreadedServer) -> None:
    evil = "\x1b]0;owned\x07[/nope] [link=x]y[/link]\u202e\r\nfake line"
    gateway.sandbox.script(http(400, body=json.dumps({"code": 400, "message": evil})), on="submit")
    done = run_kling("run", jobs_file("a"), *QUICK)
    assert done.exit_code == 3
    assert not set(done.output) & {"\x1b", "\x07", "\u202e", "\r"}
    assert "\nfake line" not in done.output


@pytest.mark.parametrize(
    "flags",
    [
        ("--concurrency", "0"),
        ("--concurrency", "some"),
        ("--rate", "fast"),
        ("--poll-min", "1x"),
        ("--timeout", "-5"),
        ("--gateway", "kling3ap"),
        ("--base-url", "ftp://host"),
        ("--poll-min", "5", "--poll-max", "1"),
        ("--sandbox", "--base-url", "http://127.0.0.1:1"),
        ("--allow-private-host", "http://x/"),
        ("--limit", "0"),
        ("--nonsense",),
    ],
)
def test_a_wrong_flag_is_a_usage_error_before_anything_is_sent(
    run_kling: Kling, gateway: ThreadedServer, flags: tuple[str, ...]
) -> None:
    done = run_kling("run", jobs_file("a"), *flags)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert gateway.ledger.submits == []


def test_the_sandbox_ignores_the_environment(run_kling: Kling, gateway: ThreadedServer) -> None:
    flags = ("--sandbox", "--sandbox-speed", "1000", "--json", "--no-download")
    done = run_kling("run", jobs_file("a"), *flags, env={"KLING_GATEWAY": "apimart"})
    assert events_in(done.stdout)[0]["gateway"] == "kling3api"
    assert gateway.ledger.submits == []


def test_an_output_directory_that_cannot_be_made_costs_nothing(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("taken").write_text("")
    assert run_kling("run", jobs_file("a"), "-o", "taken/in", *QUICK).exit_code == 2
    assert gateway.ledger.submits == []


@pytest.mark.parametrize("directory", ["/proc", ""])
def test_an_output_directory_that_takes_no_file_costs_nothing(
    run_kling: Kling, gateway: ThreadedServer, directory: str
) -> None:
    done = run_kling("run", jobs_file("a"), "-o", directory, *QUICK)
    assert done.exit_code == 2
    assert "names no directory" in done.stderr or "cannot be written to" in done.stderr
    assert gateway.ledger.submits == []


def test_a_full_disk_costs_nothing(run_kling: Kling, gateway: ThreadedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 0))
    done = run_kling("run", jobs_file("a"), *QUICK)
    assert (done.exit_code, gateway.ledger.submits) == (2, [])
    assert "has no room: 0 bytes are free" in done.stderr


def test_a_video_that_finds_no_place_on_the_disk_stops_new_submissions(
    run_kling: Kling, gateway: ThreadedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 0))
    done = run_kling("run", jobs_file(*map(str, range(60))), "-j", "2", "--json", *QUICK)
    summary = events_in(done.stdout)[-1]
    assert (done.exit_code, summary["exit_code"]) == (1, 1)
    assert summary["not_sent"] > 0
    assert summary["download_failed"] == gateway.ledger.accepted == 60 - summary["not_sent"]
    assert "Stopped by the disk" in done.stderr


def test_a_reader_that_leaves_does_not_stop_the_run(gateway: ThreadedServer) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = child("run", jobs_file("a", "b"), *QUICK, stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert "Broken" not in err
    assert sorted(path.name for path in Path("videos").iterdir()) == ["job-1.mp4", "job-2.mp4"]


def test_a_full_disk_behind_stdout_is_told_and_is_code_1(gateway: ThreadedServer) -> None:
    with Path("/dev/full").open("wb") as full:
        process = child("run", jobs_file("a", "b"), *QUICK, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stdout cannot be written" in err
    assert len(list(Path("videos").iterdir())) == 2


def test_a_run_without_rich_tells_plain_lines(gateway: ThreadedServer) -> None:
    code = "import sys; sys.modules['rich'] = None; from kling_async.cli import main; sys.exit(main())"
    environment = {"PYTHONSTARTUP": ""}
    process = child("run", jobs_file("a"), "--progress", "rich", *QUICK, env=environment, program=("-c", code))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "videos/job-1.mp4\n")
    assert "1 done" in err
