"""Runs examples/bulk.py against the sandbox."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kling_async.sandbox import ThreadedServer

Run = Callable[[Path, Path], subprocess.CompletedProcess[str]]


@pytest.fixture
def run(python: str, examples: Path, surroundings: dict[str, str]) -> Run:
    def run(file: Path, folder: Path) -> subprocess.CompletedProcess[str]:
        words = [python, str(examples / "bulk.py"), str(file), str(folder), "--poll-max", "0.4", "--rate", "100/s"]
        return subprocess.run(words, env=surroundings, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_a_csv_file_becomes_videos_and_a_summary(run: Run, gateway: ThreadedServer, tmp_path: Path) -> None:
    file = tmp_path / "shots.csv"
    good = [f"shot {number},5,16:9" for number in range(6)]
    file.write_text(
        "\n".join(["prompt,duration,aspect_ratio", *good, "too long,a minute,16:9", "[sandbox: fail],3,1:1"])
    )
    done = run(file, tmp_path / "videos")
    assert done.returncode == 0
    assert done.stdout == "8 rows: 1 GenerationFailedError, 6 saved, 1 unreadable; 1200 credits\n"
    assert "row 7: " in done.stderr
    saved = list((tmp_path / "videos").glob("*.mp4"))
    assert len(saved) == 6
    assert all(each.read_bytes()[4:8] == b"ftyp" for each in saved)
    assert set(gateway.ledger.accepted_per_prompt.values()) == {1}
    assert gateway.ledger.accepted == 7


def test_a_jsonl_file_leaves_a_line_for_each_job(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "shots.jsonl"
    rows = [
        {"id": "fox", "prompt": "a red fox", "duration": 3},
        {"type": "image-to-video", "prompt": "it turns its head", "image": "https://example.com/fox.png"},
        {"prompt": "a link that is gone [sandbox: not_a_video]"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(file, tmp_path / "videos")
    assert done.returncode == 0
    assert done.stdout == "3 rows: 1 not downloaded, 2 saved; 520 credits\n"
    told = [json.loads(line) for line in (tmp_path / "videos" / "outcomes.jsonl").read_text().splitlines()]
    by_prompt = {line["request"]["prompt"]: line for line in told}
    assert by_prompt["it turns its head"]["request"]["type"] == "image-to-video"
    assert Path(by_prompt["a red fox"]["file"]).exists()
    assert by_prompt["a link that is gone [sandbox: not_a_video]"]["file"] is None
    assert {line["status"] for line in told} == {"succeeded"}
    assert sorted(line["key"] for line in told) == ["fox", "row-2", "row-3"]


def test_an_empty_file_is_no_error(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "nothing.csv"
    file.write_text("prompt,duration\n")
    assert run(file, tmp_path / "videos").stdout == "0 rows: nothing to do; 0 credits\n"
