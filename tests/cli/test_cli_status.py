"""`kling runs`, `kling status` and `kling stop`: what a journal says, whoever drives it and whatever stands in it."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cli_helpers import Kling
from journals import JOBS, change, driven, sandboxed, varied

from kling_async.batch import Reading
from kling_async.batch.journal import Journal
from kling_async.cli.codes import LOCKED, UNEXPECTED, code_of_error
from kling_async.errors import JournalError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store of runs"


@pytest.fixture
def night(store: Path) -> Path:
    return varied(store / "night-0413.db")


@pytest.fixture
def owner(night: Path) -> Iterator[Journal]:
    with closing(driven(night)) as journal:
        yield journal


def facts(path: Path) -> dict[str, object]:
    with Reading(path) as journal:
        told = journal.facts()
        return {"stop": told.stop, "counts": journal.counts()}


def test_runs_are_listed_newest_first(run_kling: Kling, store: Path, night: Path) -> None:
    sandboxed(varied(store / "older.db"))
    os.utime(store / "older.db", (1, 1))
    done = run_kling("runs")
    head, first, second = done.stdout.splitlines()
    assert done.exit_code == 0
    assert head.split()[:3] == ["run", "source", "gateway"]
    assert first.split() == ["night-0413", "shots.csv", "kling3api", "2/7", "2", "1", "300", "credits", "-"]
    assert second.startswith("older")
    assert "(sandbox)" in second


def test_a_run_names_the_process_that_drives_it(run_kling: Kling, owner: Journal) -> None:
    assert f"process {os.getpid()}" in run_kling("runs").stdout
    assert f"process {os.getpid()} drives it" in run_kling("status").stdout
    assert json.loads(run_kling("status", "--json").stdout)["driven_by"] == os.getpid()


def test_an_empty_store_is_no_error(run_kling: Kling, store: Path) -> None:
    done = run_kling("runs")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "there is no run in" in done.stderr
    assert json.loads(run_kling("runs", "--json").stdout) == {"v": 1, "store": str(store), "runs": []}


def test_a_damaged_or_foreign_file_is_listed_with_its_reason(run_kling: Kling, store: Path, night: Path) -> None:
    (store / "empty.db").touch()
    (store / "letter.db").write_text("Dear Sir or Madam\n" * 500)
    with closing(sqlite3.connect(store / "foreign.db")) as other:
        other.execute("CREATE TABLE song (name)")
        other.execute("PRAGMA user_version = 7")
    change(varied(store / "options.db"), "UPDATE batch SET options = '{'")
    change(varied(store / "states.db"), "UPDATE job SET state = 'paused'")
    with varied(store / "half.db").open("r+b") as file:
        file.truncate(20_000)
    done = run_kling("runs")
    assert done.exit_code == 0
    assert "2/7" in done.stdout
    listed = {line.split()[0]: line for line in done.stdout.splitlines() if "cannot be read" in line}
    assert set(listed) == {"empty", "letter", "foreign", "options", "states", "half"}
    told = {each["run"]: each for each in json.loads(run_kling("runs", "--json").stdout)["runs"]}
    assert told["empty"]["code"] == "not_a_journal"
    assert told["letter"]["code"] == told["options"]["code"] == told["states"]["code"] == "corrupt"
    assert told["night-0413"]["total"] == len(JOBS)


@pytest.mark.parametrize("given", [(), ("night",), ("night-0413",), ("store of runs/night-0413.db",)])
def test_status_takes_the_latest_run_a_prefix_a_name_or_a_path(
    run_kling: Kling, night: Path, given: tuple[str, ...]
) -> None:
    done = run_kling("status", *given)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "night-0413   /data/shots.csv to /data/videos   kling3api"


@pytest.mark.parametrize("command", ["status", "watch", "stop", "export", "spend"])
def test_an_unknown_run_is_a_mistake_of_usage(run_kling: Kling, night: Path, command: str) -> None:
    done = run_kling(command, "morning")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no run 'morning'; there is night-0413" in done.stderr


@pytest.mark.parametrize("command", ["status", "watch", "stop", "export", "spend"])
def test_a_damaged_journal_is_one_line_and_code_1(run_kling: Kling, store: Path, command: str) -> None:
    store.mkdir()
    (store / "letter.db").write_text("Dear Sir or Madam\n" * 500)
    done = run_kling(command, "letter")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


def test_status_counts_and_names_what_is_not_done(run_kling: Kling, night: Path) -> None:
    done = run_kling("status")
    assert "2 of 7 jobs done, 2 failed, 1 in doubt, 1 late, 1 not sent" in done.stdout
    assert "300 credits spent, 400 credits reserved or in doubt" in done.stdout
    assert "1 failed: GenerationFailedError   FAILED   not charged" in done.stdout
    assert "1 failed: InvalidRequestError   INVALID_PROMPT   not charged" in done.stdout
    assert "1 in doubt: sent, and nobody can say whether the gateway took it" in done.stdout
    assert "row 5   lost" in done.stdout
    assert "1 late: no result yet; still being made at the gateway and paid for\n      row 6   slow   task n" in (
        done.stdout
    )


def test_status_names_the_commands_that_go_on(run_kling: Kling, night: Path) -> None:
    told = json.loads(run_kling("status", "--json").stdout)
    assert told["next"] == ["kling resume night-0413", "kling reconcile night-0413", "kling retry night-0413"]
    assert [group["jobs"] for group in told["groups"]] == [1, 1, 1, 1]
    assert told["groups"][0]["first"][0]["key"] == "wolf"


def test_the_commands_name_a_store_that_is_not_the_usual_one(run_kling: Kling, tmp_path: Path) -> None:
    varied(tmp_path / "my jobs" / "day 1.db")
    (tmp_path / "elsewhere").mkdir()
    assert "kling resume 'day 1' --store 'my jobs'" in run_kling("status", "--store", "my jobs").stdout
    done = run_kling("status", "my jobs/day 1.db", "--store", "elsewhere")
    assert "kling resume 'my jobs/day 1.db'\n" in done.stdout


def test_while_a_process_drives_it_nothing_is_late(run_kling: Kling, owner: Journal) -> None:
    done = run_kling("status")
    assert "1 being made" in done.stdout
    assert "late" not in done.stdout
    assert "kling watch night-0413" in done.stdout
    assert "kling stop night-0413" in done.stdout
    assert "resume" not in done.stdout


def test_many_failures_of_one_kind_are_counted_and_few_are_named(run_kling: Kling, night: Path) -> None:
    change(
        night,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        " INSERT INTO job (key, state, attempt, request, digest, error, charged)"
        " SELECT 'more-' || i, 'in_doubt', 1, '{}', x'00', '{}', 'unknown' FROM n",
    )
    done = run_kling("status")
    assert "3,000 in doubt" in done.stdout
    assert "and 2,980 more" in done.stdout
    assert "kling export night-0413" in done.stdout
    assert len(done.stdout.splitlines()) < 60


def test_videos_that_are_not_on_disk_yet_are_left(run_kling: Kling, night: Path) -> None:
    error = json.dumps({"error": "DownloadError", "code": "expired", "message": "the link has expired"})
    change(night, "UPDATE job SET state = 'succeeded', file = NULL, error = ? WHERE key = 'boat'", error)
    change(night, "UPDATE job SET state = 'succeeded', file = NULL WHERE key <> 'boat'")
    done = run_kling("status")
    assert "7 of 7 jobs done, 7 of them not downloaded" in done.stdout
    assert "1 made, but not downloaded   DownloadError   expired   charged" in done.stdout
    assert json.loads(run_kling("status", "--json").stdout)["next"] == ["kling resume night-0413"]


def test_text_from_a_journal_steers_no_terminal(run_kling: Kling, night: Path) -> None:
    evil = "\x1b[2J\x9b31m\u202ewoh\r\nsent: 0"
    change(night, "UPDATE batch SET source = ?, directory = ?, gateway = ?, unit = ?", evil, evil, evil, evil)
    error = json.dumps({"error": evil, "code": evil, "message": evil})
    change(night, "UPDATE job SET error = ?, key = ? || key, task_id = task_id || ?", error, evil, evil)
    for command in ("runs", "status", "export", "spend", "watch"):
        for flags in ((), ("--format", "csv") if command == "export" else ("--json",)):
            done = run_kling(command, *flags)
            assert done.exit_code == 0
            text = done.stdout + done.stderr
            assert not [char for char in text if char != "\n" and (char < " " or "\x7f" <= char <= "\x9f")]
            assert "\u202e" not in text


def test_a_narrow_terminal_is_no_obstacle(run_kling: Kling, night: Path) -> None:
    for command in ("runs", "status", "export", "spend", "watch", "stop"):
        assert run_kling(command, env={"COLUMNS": "20"}).exit_code == 0


@pytest.mark.parametrize(("flags", "how"), [((), "drain"), (("--now",), "now")])
def test_stop_asks_the_process_that_drives_the_run(
    run_kling: Kling, owner: Journal, flags: tuple[str, ...], how: str
) -> None:
    done = run_kling("stop", *flags)
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"Asked process {os.getpid()} to stop night-0413." in done.stderr
    assert "kling resume night-0413" in done.stderr
    assert owner.facts().stop == how
    assert "was asked to" in run_kling("status").stdout


def test_stop_leaves_no_request_behind_where_nobody_drives_the_run(run_kling: Kling, night: Path) -> None:
    done = run_kling("stop")
    assert done.exit_code == 0
    assert "no process drives night-0413" in done.stderr
    assert facts(night)["stop"] is None


def test_looking_changes_no_journal(run_kling: Kling, night: Path) -> None:
    before = night.read_bytes()
    for command in ("runs", "status", "watch", "export", "spend"):
        run_kling(command)
    assert night.read_bytes() == before


def test_a_journal_that_another_process_drives_is_code_9_and_any_other_trouble_with_it_1() -> None:
    assert code_of_error(JournalError("driven", code="locked")) == LOCKED == 9
    assert code_of_error(JournalError("damaged", code="corrupt")) == UNEXPECTED
