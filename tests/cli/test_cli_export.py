"""`kling export`: every job once and in order, as exact JSON or as a table that no spreadsheet runs."""

import csv
import io
import json
import os
import stat
import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import ROOT, Kling, events_in
from journals import JOBS, change, driven, varied

COLUMNS = ["key", "status", "task_id", "url", "file", "credits", "charged", "error", "code", "message", "row"]


@pytest.fixture
def night(tmp_path: Path) -> Path:
    return varied(tmp_path / "store of runs" / "night.db")


def many(path: Path, jobs: int) -> None:
    """Add jobs to a journal, each with some words."""
    change(
        path,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " INSERT INTO job (key, state, attempt, request, digest, error)"
        " SELECT 'more-' || i, 'failed', 1, '{}', x'00', ? FROM n",
        *(jobs, json.dumps({"message": "word " * 80})),
    )


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def child(script: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", script, sys.executable],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **settings,
    )


def test_every_job_is_one_line_in_order_with_the_promised_columns(run_kling: Kling, night: Path) -> None:
    done = run_kling("export")
    rows = events_in(done.stdout)
    assert (done.exit_code, done.stderr) == (0, "")
    assert [list(row) for row in rows] == [COLUMNS] * len(JOBS)
    assert [row["key"] for row in rows] == list(JOBS)
    assert [row["status"] for row in rows] == [
        *("succeeded", "succeeded", "failed", "failed", "in_doubt", "in_progress", "queued")
    ]
    assert [row["credits"] for row in rows] == ["200", "100", "0", "0", None, None, None]
    assert [row["charged"] for row in rows] == ["yes", "yes", "no", "no", "unknown", None, None]
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]


def test_a_job_that_is_done_has_its_url_and_its_file(run_kling: Kling, night: Path) -> None:
    boat, *_, dear = events_in(run_kling("export").stdout)
    assert boat["url"].startswith("http://127.0.0.1:")
    assert boat["file"] == "/data/videos/boat.mp4"
    assert (dear["url"], dear["file"], dear["task_id"]) == (None, None, None)


def test_a_video_that_is_made_and_not_downloaded_has_a_url_and_no_file(run_kling: Kling, night: Path) -> None:
    change(night, "UPDATE job SET state = 'succeeded' WHERE key = 'boat'")
    boat, *_ = events_in(run_kling("export").stdout)
    assert (boat["status"], bool(boat["url"]), boat["file"]) == ("succeeded", True, None)


def test_credits_are_exact(run_kling: Kling, night: Path) -> None:
    change(night, "UPDATE job SET spent = 123456789012000001 WHERE key = 'boat'")
    change(night, "UPDATE job SET spent = 100000 WHERE key = 'fox'")
    assert [row["credits"] for row in events_in(run_kling("export").stdout)][:2] == ["123456789012.000001", "0.1"]


def test_a_table_holds_the_same_as_the_json_lines(run_kling: Kling, night: Path) -> None:
    done = run_kling("export", "--format", "csv")
    rows = table(done.stdout)
    objects = events_in(run_kling("export").stdout)
    assert list(rows[0]) == COLUMNS
    assert rows == [{name: "" if value is None else str(value) for name, value in row.items()} for row in objects]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_no_cell_is_a_formula(run_kling: Kling, night: Path, start: str) -> None:
    evil = f"{start}1+cmd|' /C calc'!A0"
    error = json.dumps({"error": evil, "code": evil, "message": evil})
    change(night, "UPDATE job SET key = ? || id, error = ?, task_id = ? || id", evil, error, evil)
    rows = table(run_kling("export", "--format", "csv").stdout)
    for name in ("key", "task_id", "error", "code", "message"):
        assert all(row[name].startswith("'") for row in rows)


def test_control_characters_are_seen_in_a_table_and_exact_in_json(run_kling: Kling, night: Path) -> None:
    key = 'a\x00\x1b[2J\x9b\u202e\u3042\n,"b'
    change(night, "UPDATE job SET key = ? WHERE key = 'boat'", key)
    lines, cells = run_kling("export").stdout, run_kling("export", "--format", "csv").stdout
    assert events_in(lines)[0]["key"] == key
    assert table(cells)[0]["key"] == r"a\x00\x1b[2J\x9b\u202e" + "\u3042" + r"\n" + ',"b'
    for text in (lines, cells):
        assert not set(text) & {"\x00", "\x1b", "\x9b", "\u202e"}


def test_a_file_appears_whole_and_for_its_owner_only(run_kling: Kling, night: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done = run_kling("export", "-o", "out/results.csv")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "7 jobs in out/results.csv\n")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.csv"]
    file = tmp_path / "out" / "results.csv"
    assert len(table(file.read_text())) == len(JOBS)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_replaced_only_on_demand(run_kling: Kling, night: Path, tmp_path: Path) -> None:
    file = tmp_path / "results"
    file.write_text("mine")
    done = run_kling("export", "-o", "results")
    assert done.exit_code == 2
    assert "exists already; --force replaces it" in done.stderr
    assert file.read_text() == "mine"
    assert run_kling("export", "-o", "results", "--force").exit_code == 0
    assert len(events_in(file.read_text())) == len(JOBS)


def test_a_link_stays_a_link(run_kling: Kling, night: Path, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    assert run_kling("export", "-o", "link", "--force").exit_code == 0
    assert (tmp_path / "link").is_symlink()
    assert len(events_in((tmp_path / "real").read_text())) == len(JOBS)


@pytest.mark.parametrize("target", ["/dev/full", ".", "nowhere/results.csv"])
def test_what_is_no_file_is_not_replaced(run_kling: Kling, night: Path, target: str) -> None:
    done = run_kling("export", "-o", target, "--force")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    if target == "/dev/full":
        assert stat.S_ISCHR(Path(target).stat().st_mode)


def test_an_export_that_breaks_leaves_no_file(run_kling: Kling, night: Path, tmp_path: Path) -> None:
    many(night, 2000)
    change(night, "PRAGMA wal_checkpoint(TRUNCATE)")
    size = night.stat().st_size
    with night.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 3))
    done = run_kling("export", "-o", "results.csv")
    assert done.exit_code == 1
    assert "damaged" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["store of runs"]


def test_an_export_works_while_a_process_drives_the_run(run_kling: Kling, night: Path) -> None:
    with closing(driven(night)):
        assert len(events_in(run_kling("export", "night").stdout)) == len(JOBS)


def test_a_reader_that_leaves_early_ends_the_export_quietly(night: Path) -> None:
    many(night, 20_000)
    done = child('"$0" -m kling_async export | head -1')
    assert (done.returncode, done.stderr) == (0, "")
    assert len(events_in(done.stdout)) == 1


@pytest.mark.parametrize(("closed", "reason"), [(">&-", "it is closed"), (">/dev/full", "No space left on device")])
def test_a_stdout_that_cannot_be_written_is_one_line_and_code_1(night: Path, closed: str, reason: str) -> None:
    done = child(f'exec "$0" -m kling_async export {closed}')
    assert (done.returncode, done.stderr) == (1, f"stdout cannot be written: {reason}\n")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_large_run_is_never_all_in_memory(run_kling: Kling, night: Path, kind: str) -> None:
    many(night, 5000)
    run_kling("export", "-o", "first", "--format", kind)
    tracemalloc.start()
    try:
        run_kling("export", "-o", "second", "--format", kind)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert Path("second").stat().st_size > 2_000_000
    assert peak < 1_000_000
