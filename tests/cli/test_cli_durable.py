"""Runs on record: the same file goes on where it stopped, within its budget, and the exit code tells."""

import csv
import json
import os
import shlex
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import EXAMPLE, KEY, QUICK, Kling, child, events_in

from kling_async.batch import Reading
from kling_async.sandbox import Sandbox, drop_after_accept, ends_after, expired_link, fail, http
from kling_async.sandbox.server import ThreadedServer


def rows(*prompts: str, name: str = "shots.csv") -> str:
    """Write a file of prompts and return its name."""
    Path(name).write_text("id,prompt\n" + "".join(f"job-{n},{prompt}\n" for n, prompt in enumerate(prompts, 1)))
    return name


def journal() -> Path:
    """Return the one journal in the store."""
    (found,) = Path(os.environ["KLING_STORE"]).glob("*.db")
    return found


def prompts(server: ThreadedServer) -> list[str]:
    """Return what was accepted, in order."""
    return [submit.prompt for submit in server.ledger.submits if submit.task_id]


def test_the_same_file_again_sends_nothing_again(run_kling: Kling, gateway: ThreadedServer) -> None:
    first = run_kling("run", rows("a", "b", "c"), *QUICK)
    assert (first.exit_code, gateway.ledger.accepted) == (0, 3)
    again = run_kling("run", "shots.csv", *QUICK)
    assert (again.exit_code, gateway.ledger.accepted) == (0, 3)
    assert again.stdout == ""
    assert "Nothing is left to do: 3 of 3 done; 600 credits spent." in again.stderr
    assert len(list(Path("videos").iterdir())) == 3


def test_a_longer_file_sends_only_its_new_rows(run_kling: Kling, gateway: ThreadedServer) -> None:
    run_kling("run", rows("a", "b"), *QUICK)
    assert run_kling("run", rows("a", "b", "c"), *QUICK).stdout == "videos/job-3.mp4\n"
    assert sorted(prompts(gateway)) == ["a", "b", "c"]


def test_a_row_that_was_taken_out_of_the_file_is_not_sent(run_kling: Kling, gateway: ThreadedServer) -> None:
    first = run_kling("run", rows("a", "b", "c"), "--yes", "--budget", "200", "-j", "1", *QUICK)
    assert (first.exit_code, prompts(gateway)) == (5, ["a"])
    Path("shots.csv").write_text("id,prompt\njob-1,a\njob-3,c\n")
    assert run_kling("run", "shots.csv", *QUICK).exit_code == 0
    assert prompts(gateway) == ["a", "c"]


def test_a_changed_row_that_was_made_is_refused_by_name(run_kling: Kling, gateway: ThreadedServer) -> None:
    run_kling("run", rows("a"), *QUICK)
    done = run_kling("run", rows("another prompt"), *QUICK)
    assert done.exit_code == 2
    assert "row 1   id   'job-1' was sent with another request" in done.stderr
    assert run_kling("plan", "shots.csv").exit_code == 2
    assert prompts(gateway) == ["a"]


def test_rows_without_names_are_known_by_what_they_ask_for(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("x.csv").write_text("prompt\na fox\na fox\nan owl\n")
    assert run_kling("run", "x.csv", *QUICK).exit_code == 0
    Path("x.csv").write_text("prompt\nan owl\na hen\na fox\na fox\n")  # in another order
    done = run_kling("run", "x.csv", *QUICK)
    assert done.stdout == "videos/002-hen.mp4\n"
    assert sorted(prompts(gateway)) == ["a fox", "a fox", "a hen", "an owl"]


def test_fresh_begins_anew(run_kling: Kling, gateway: ThreadedServer) -> None:
    run_kling("run", rows("a"), *QUICK)
    assert run_kling("run", "shots.csv", "--fresh", *QUICK).stdout == "videos/job-1-2.mp4\n"
    assert prompts(gateway) == ["a", "a"]
    assert len(list(Path(os.environ["KLING_STORE"]).glob("*.db"))) == 2


def test_a_budget_of_1000_makes_five_jobs_of_200_and_a_larger_one_five_more(
    run_kling: Kling, gateway: ThreadedServer
) -> None:
    name = rows(*(f"prompt {n}" for n in range(12)))
    first = run_kling("run", name, "--yes", "--budget", "1000", *QUICK)
    assert (first.exit_code, gateway.ledger.accepted) == (5, 5)
    assert "Stopped by a limit of yours" in first.stderr
    assert "kling resume shots-" in first.stderr
    second = run_kling("resume", "--yes", "--budget", "2000", *QUICK)
    assert (second.exit_code, gateway.ledger.accepted) == (5, 10)
    assert gateway.ledger.charged == 2000
    assert run_kling("resume", "--yes", *QUICK).exit_code == 5  # the budget that was given last stays in force
    assert gateway.ledger.accepted == 10
    assert run_kling("resume", "--yes", "--budget", "none", *QUICK).exit_code == 0
    assert gateway.ledger.accepted == 12


def test_a_price_above_the_limit_for_one_job_is_left(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("x.csv").write_text("id,prompt,quality\na,cheap,std\nb,dear,pro\nc,cheap too,std\n")
    done = run_kling("run", "x.csv", "--max-cost-per-job", "200", *QUICK)
    assert (done.exit_code, sorted(prompts(gateway))) == (5, ["cheap", "cheap too"])
    assert "at most 200 credits is allowed for one job" in done.stderr


def test_too_many_failures_end_the_run(run_kling: Kling, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(fail("no"))
    done = run_kling("run", rows(*map(str, range(9))), "--max-failures", "3", "-j", "1", *QUICK)
    assert (done.exit_code, gateway.ledger.accepted) == (5, 3)
    assert "3 jobs failed; the run ends at 3" in done.stderr


@pytest.mark.parametrize(("share", "code"), [("60%", 0), ("70%", 3)])
def test_failures_within_the_share_are_no_failure_of_the_run(
    run_kling: Kling, gateway: ThreadedServer, share: str, code: int
) -> None:
    name = rows("a", "b", "c [sandbox: fail]")
    assert run_kling("run", name, "--fail-under", share, *QUICK).exit_code == code


def test_a_deadline_that_passes_sends_nothing_new(run_kling: Kling, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(ends_after(1.5))
    done = run_kling("run", rows("a", "b", "c"), "--deadline", "0.5", "-j", "1", *QUICK)
    assert (done.exit_code, gateway.ledger.accepted) == (5, 1)
    assert "the deadline has passed" in done.stderr
    assert len(list(Path("videos").glob("*.mp4"))) == 1  # what was paid for is waited for


def test_an_empty_account_is_code_6_and_a_top_up_goes_on(run_kling: Kling, gateway: ThreadedServer) -> None:
    gateway.sandbox.balance = 400
    gateway.sandbox.reset()
    done = run_kling("run", rows("a", "b", "c", "d"), "-j", "1", *QUICK)
    assert (done.exit_code, gateway.ledger.accepted) == (6, 2)
    gateway.sandbox.balance = None
    assert run_kling("resume", "--yes", *QUICK).exit_code == 0
    assert gateway.ledger.accepted == 4


def test_a_lost_answer_is_code_8_and_only_an_express_word_sends_it_again(
    run_kling: Kling, gateway: ThreadedServer
) -> None:
    gateway.sandbox.script(drop_after_accept(), on="submit", times=1)
    done = run_kling("run", rows("a", "b"), "-j", "1", *QUICK)
    assert (done.exit_code, prompts(gateway)) == (8, ["a", "b"])
    assert "kling reconcile shots-" in done.stderr
    for command in (("run", "shots.csv"), ("resume", "--yes"), ("retry", "--yes")):
        assert run_kling(*command, *QUICK).exit_code == 8
        assert prompts(gateway) == ["a", "b"]
    told = run_kling("reconcile", *QUICK)
    assert told.exit_code == 8
    assert "row 1   job-1   sent 20" in told.stderr
    assert "up to 200 credits" in told.stderr
    again = run_kling("retry", "--in-doubt", "--yes", *QUICK)
    assert (again.exit_code, prompts(gateway)) == (0, ["a", "b", "a"])
    assert "may be paid for twice" in again.stderr


def test_what_is_in_doubt_stays_reserved_in_the_budget(run_kling: Kling, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(drop_after_accept(), on="submit", times=1)
    run_kling("run", rows("a", "b", "c", "d"), "--yes", "--budget", "600", "-j", "1", *QUICK)
    assert len(prompts(gateway)) == 3


def test_a_gateway_that_knows_keys_resolves_a_lost_answer_by_itself(run_kling: Kling, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(drop_after_accept(), on="submit", times=1)
    done = run_kling("run", rows("a", "b"), "--gateway", "apimart", *QUICK)
    assert (done.exit_code, gateway.ledger.accepted) == (0, 2)


def test_failed_rows_are_a_file_that_runs_as_it_is(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("x.csv").write_text('id,prompt,duration\nok,fine,5\nbad,"=1+1, [sandbox: fail =cmd]",10\n')
    done = run_kling("run", "x.csv", *QUICK)
    assert done.exit_code == 3
    (path,) = Path("videos").glob("*.failures.csv")
    assert f"failures     {path}" in done.stderr
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["prompt"] == "=1+1, [sandbox: fail =cmd]"
    assert row["duration"] == "10"
    assert row["error"].startswith("GenerationFailedError FAILED: ")
    gateway.sandbox.script(ends_after(0.1))
    assert run_kling("run", str(path), "--limit", "1", *QUICK).exit_code in (0, 3)
    assert prompts(gateway)[-1] == "=1+1, [sandbox: fail =cmd]"


def test_retry_makes_a_new_attempt_of_the_kinds_that_are_named(run_kling: Kling, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(http(400, "INVALID_PROMPT"), on="submit", times=1)
    done = run_kling("run", rows("a", "b [sandbox: fail]"), "-j", "1", *QUICK)
    assert (done.exit_code, prompts(gateway)) == (3, ["b [sandbox: fail]"])
    again = run_kling("retry", "--only", "INVALID_PROMPT,nothing-else", "--yes", *QUICK)
    assert again.exit_code == 3
    assert "1 job gets a new attempt" in again.stderr
    assert prompts(gateway) == ["b [sandbox: fail]", "a"]
    assert not list(Path("videos").glob("job-2*"))


def test_a_sidecar_says_what_was_asked_for_and_never_the_signed_url(run_kling: Kling, gateway: ThreadedServer) -> None:
    assert run_kling("run", rows("a fox"), "--sidecar", *QUICK).exit_code == 0
    told = json.loads(Path("videos/job-1.mp4.json").read_text())
    assert (told["key"], told["request"]["prompt"], told["file"]) == ("job-1", "a fox", "job-1.mp4")
    assert told["size"] == Path("videos/job-1.mp4").stat().st_size
    assert "http" not in Path("videos/job-1.mp4.json").read_text()


def test_a_full_stop_by_another_terminal_drains_and_is_code_7(gateway: ThreadedServer, run_kling: Kling) -> None:
    gateway.sandbox.script(ends_after(1.2))
    process, _ = begun("shots.csv", "-j", "1", count=1)
    assert run_kling("stop").exit_code == 0
    out, err = process.communicate(timeout=60)
    assert process.returncode == 7
    assert "Stopping: no new submissions. 1 clip is being made" in err
    assert events_in(out)[-1]["downloaded"] == 1
    assert gateway.ledger.accepted == 1
    assert run_kling("resume", "--yes", *QUICK).exit_code == 0
    assert gateway.ledger.accepted == 3


def begun(name: str, *flags: str, count: int) -> tuple[Any, list[dict[str, Any]]]:
    """Start a run of three rows and return it once so many jobs were accepted."""
    process = child("run", rows("a", "b", "c", name=name), "--json", *QUICK, *flags)
    events: list[dict[str, Any]] = []
    assert process.stdout is not None
    for line in process.stdout:
        events.append(json.loads(line))
        if sum(event["event"] == "accepted" for event in events) == count:
            break
    return process, events


def test_a_second_process_is_refused_by_name_and_readers_are_welcome(run_kling: Kling, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(ends_after(2.5))
    process, _ = begun("shots.csv", count=3)
    try:
        for command in (("run", "shots.csv"), ("resume", "--yes"), ("retry", "--yes"), ("reconcile",)):
            refused = run_kling(*command, *QUICK)
            assert refused.exit_code == 9
            assert f"is driven by process {process.pid}" in refused.stderr
        assert run_kling("status").exit_code == 0
        assert run_kling("runs").exit_code == 0
    finally:
        process.communicate(timeout=60)
    assert (process.returncode, gateway.ledger.accepted) == (0, 3)


def test_kill_dash_9_loses_nothing_and_the_same_command_goes_on(run_kling: Kling, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(ends_after(1.2))
    process, _ = begun("shots.csv", "-j", "2", count=2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    done = run_kling("run", "shots.csv", *QUICK)
    assert (done.exit_code, sorted(prompts(gateway))) == (0, ["a", "b", "c"])
    assert len(list(Path("videos").glob("*.mp4"))) == 3


def test_a_simulation_that_was_killed_is_begun_anew_where_it_was(run_kling: Kling) -> None:
    flags = ("--sandbox", "--sandbox-speed", "150", "-j", "2")
    process = child("run", rows("a", "b", "c", "d", "e", "f"), "--json", *flags)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "downloaded":
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    done = run_kling("run", "shots.csv", "--json", *flags)
    assert done.exit_code == 0
    assert events_in(done.stdout)[-1]["batch"]["downloaded"] == 6
    assert len(list(Path("videos").glob("*.mp4"))) == 6


def test_resume_keeps_the_flags_of_the_first_run_and_never_the_key(run_kling: Kling, gateway: ThreadedServer) -> None:
    run_kling("run", rows("a", "b"), "--yes", "--budget", "200", "-o", "films", "--sidecar", *QUICK)
    assert run_kling("resume", "--yes", "--budget", "none").exit_code == 0
    assert sorted(path.name for path in Path("films").iterdir()) == [
        "job-1.mp4",
        "job-1.mp4.json",
        "job-2.mp4",
        "job-2.mp4.json",
    ]
    kept = b"".join(path.read_bytes() for path in journal().parent.iterdir())
    assert KEY.encode() not in kept


def test_looking_at_runs_does_not_change_which_is_the_latest(run_kling: Kling, gateway: ThreadedServer) -> None:
    run_kling("run", rows("a", name="old.csv"), *QUICK)
    run_kling("run", rows("b", name="new.csv"), *QUICK)
    for command in (("runs",), ("status", "old"), ("export", "old")):
        assert run_kling(*command).exit_code == 0
    assert json.loads(run_kling("status", "--json").stdout)["run"].startswith("new-")


def test_the_commands_that_are_named_next_can_be_pasted(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("my store").mkdir()
    done = run_kling("run", rows("a", "b [sandbox: fail]"), "--store", "my store", *QUICK)
    (again,) = [line for line in done.stderr.splitlines() if line.startswith("  again")]
    command = shlex.split(again.partition("kling ")[2].partition("   ")[0])
    assert command[0] == "retry"
    assert run_kling(*command, "--yes", *QUICK).exit_code == 3
    assert gateway.ledger.accepted == 3


def test_an_unknown_run_is_a_mistake_of_usage(run_kling: Kling) -> None:
    done = run_kling("resume", "nothing-like-it", "--yes")
    assert done.exit_code == 2
    assert "there is no run 'nothing-like-it'" in done.stderr


def test_a_damaged_journal_starts_nothing_and_is_code_1(run_kling: Kling, gateway: ThreadedServer) -> None:
    run_kling("run", rows("a"), *QUICK)
    path = journal()
    path.write_bytes(b"not a journal" * 1000)
    for leftover in path.parent.glob("*.db-*"):
        leftover.unlink()
    done = run_kling("run", "shots.csv", *QUICK)
    assert done.exit_code == 1
    assert str(path) in done.stderr
    assert gateway.ledger.accepted == 1


def test_the_same_rows_under_another_name_are_not_paid_for_again(run_kling: Kling, gateway: ThreadedServer) -> None:
    run_kling("run", rows("a", "b"), *QUICK)
    Path("shots.csv").rename("moved.csv")
    done = run_kling("run", "moved.csv", *QUICK)
    assert (done.exit_code, gateway.ledger.accepted) == (2, 2)
    assert "The same rows ran before, as shots-" in done.stderr
    assert "kling resume shots-" in done.stderr
    assert run_kling("run", "moved.csv", "--fresh", *QUICK).exit_code == 0
    assert gateway.ledger.accepted == 4


def test_the_file_goes_on_with_its_latest_run(run_kling: Kling, gateway: ThreadedServer) -> None:
    run_kling("run", rows("a", "b"), *QUICK)
    assert run_kling("run", "shots.csv", "--fresh", "--yes", "--budget", "200", *QUICK).exit_code == 5
    assert run_kling("run", "shots.csv", "--yes", "--budget", "none", *QUICK).exit_code == 0
    assert sorted(prompts(gateway)) == ["a", "a", "b", "b"]


def test_a_video_that_is_gone_is_paid_for_again_only_with_a_word(run_kling: Kling, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(expired_link(404, times=10**6))
    done = run_kling("run", rows("a"), *QUICK)
    assert done.exit_code == 3
    for words in (("retry", "--yes"), ("retry", "--only", "expired"), ("resume", "--yes")):
        assert run_kling(*words, *QUICK).exit_code in (2, 3)
        assert gateway.ledger.accepted == 1
    run_kling("retry", "--only", "expired", "--yes", *QUICK)
    assert gateway.ledger.accepted == 2


def test_resume_knows_its_gateway_and_its_address_without_the_environment(
    run_kling: Kling, gateway: ThreadedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_kling("run", rows("a", "b"), "--yes", "--budget", "200", *QUICK)
    monkeypatch.delenv("KLING_GATEWAY")
    monkeypatch.delenv("KLING_BASE_URL")
    assert run_kling("resume", "--yes", "--budget", "none", *QUICK).exit_code == 0
    assert gateway.ledger.accepted == 2


def test_retry_sends_nothing_but_what_is_tried_again(run_kling: Kling, gateway: ThreadedServer) -> None:
    name = rows("a [sandbox: fail]", "b", "c")
    run_kling("run", name, "--yes", "--budget", "200", "-j", "1", "--max-failures", "1", *QUICK)
    assert len(prompts(gateway)) == 1
    run_kling("retry", "--yes", "--budget", "none", *QUICK)
    assert prompts(gateway) == ["a [sandbox: fail]", "a [sandbox: fail]"]


def test_a_kind_of_failure_that_nobody_had_is_told_with_those_that_are(
    run_kling: Kling, gateway: ThreadedServer
) -> None:
    run_kling("run", rows("a [sandbox: fail]"), *QUICK)
    done = run_kling("retry", "--only", "nonsense", "--yes", *QUICK)
    assert done.exit_code == 2
    assert "kinds that can be named: failed, generationfailed, generationfailederror" in done.stderr
    assert gateway.ledger.accepted == 1


def test_the_budget_that_would_be_enough_is_named(run_kling: Kling, gateway: ThreadedServer) -> None:
    done = run_kling("run", rows("a", "b", "c"), "--yes", "--budget", "300", *QUICK)
    assert "the next job costs 200 credits, and of 300 credits 100 are left" in done.stderr
    assert "--budget 600\n" in done.stderr
    assert run_kling("resume", "--yes", "--budget", "600", *QUICK).exit_code == 0


def test_a_reader_leaves_the_journal_one_file_at_the_end(run_kling: Kling, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(ends_after(1.5))
    process, _ = begun("shots.csv", count=3)
    with Reading(journal()) as looking:
        looking.counts()
        process.communicate(timeout=60)
        shutil.copy(journal(), "copy.db")  # without its log
    assert json.loads(run_kling("status", "./copy.db", "--json").stdout)["downloaded"] == 3


def test_what_is_paid_and_what_is_simulated_never_share_a_journal(run_kling: Kling, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(ends_after(5))
    late = run_kling("run", rows("a"), "--store", "x.db", "--timeout", "0.3", *QUICK)
    assert late.exit_code == 7
    mixed = run_kling("run", "shots.csv", "--store", "x.db", "--sandbox")
    assert mixed.exit_code == 2
    assert "is a run that was paid for; this one would be simulated" in mixed.stderr
    assert json.loads(run_kling("status", "./x.db", "--json").stdout)["accepted"] == 1


def test_another_address_has_a_journal_of_its_own(run_kling: Kling, gateway: ThreadedServer) -> None:
    run_kling("run", rows("a"), *QUICK)
    with ThreadedServer(Sandbox(speed=1000, api_keys=[KEY])) as other:
        done = run_kling("run", "shots.csv", "--base-url", other.url, *QUICK)
        assert (done.exit_code, other.ledger.accepted) == (0, 1)
    assert gateway.ledger.accepted == 1


def test_resume_from_elsewhere_finds_the_videos_place(
    run_kling: Kling, gateway: ThreadedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_kling("run", rows("a", "b"), "--yes", "--budget", "200", *QUICK)
    here = Path.cwd()
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    done = run_kling("resume", "--yes", "--budget", "none", *QUICK)
    assert done.stdout == f"{here}/videos/job-2.mp4\n"


def test_a_budget_over_unknown_prices_is_refused_before_anything(run_kling: Kling, gateway: ThreadedServer) -> None:
    done = run_kling("run", rows("a"), "--gateway", "apimart", "--yes", "--budget", "100", *QUICK)
    assert done.exit_code == 2
    assert "a price that nobody knows" in done.stderr
    assert not Path(os.environ["KLING_STORE"]).exists()


def test_plan_counts_what_was_sent_before(run_kling: Kling, gateway: ThreadedServer) -> None:
    run_kling("run", rows("a", "b"), *QUICK)
    told = run_kling("plan", rows("a", "b", "c"))
    assert "2 rows were sent before, in run shots-" in told.stdout
    assert gateway.ledger.accepted == 2
    document = json.loads(run_kling("plan", "shots.csv", "--json").stdout)
    assert (document["sent_before"], document["cost"]) == (2, "200")


def test_the_journal_of_a_run_is_sound(run_kling: Kling, gateway: ThreadedServer) -> None:
    run_kling("run", rows("a", "b"), *QUICK)
    with sqlite3.connect(journal()) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert oct(journal().stat().st_mode)[-3:] == "600"


def test_the_example_killed_three_times_ends_with_the_same_files_and_the_same_spend(tmp_path: Path) -> None:
    with ThreadedServer(Sandbox(speed=200, seed=5)) as undisturbed:
        whole = child("run", str(EXAMPLE), "-o", "whole", "--fresh", *environment(undisturbed), **variables())
        whole.communicate(timeout=60)
    with ThreadedServer(Sandbox(speed=200, seed=5)) as server:
        for wanted in (2, 8, 8):
            process = child("run", str(EXAMPLE), "-o", "films", "--json", *environment(server), **variables())
            assert process.stdout is not None
            seen = 0
            for line in process.stdout:
                seen += json.loads(line)["event"] == "downloaded"
                if seen == wanted:
                    break
            os.kill(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)
        last = child("run", str(EXAMPLE), "-o", "films", "--json", *environment(server), **variables())
        out, _ = last.communicate(timeout=60)
        batch = events_in(out)[-1]["batch"]
        assert server.ledger.duplicates == []
        assert server.ledger.accepted == undisturbed.ledger.accepted
        assert server.ledger.charged == undisturbed.ledger.charged
        missing = {path.name for path in Path("whole").glob("*.mp4")} - {path.name for path in Path("films").iterdir()}
        assert len(missing) == batch["in_doubt"]


def environment(server: ThreadedServer) -> tuple[str, ...]:
    """Return the flags for a sandbox on loopback."""
    store = f"{server.url.rpartition(':')[2]}.db"
    return ("--gateway", "kling3api", "--base-url", server.url, "--store", store, *QUICK)


def variables() -> dict[str, Any]:
    """Return the environment that holds the key."""
    return {"env": {"KLING_API_KEY": KEY}}
