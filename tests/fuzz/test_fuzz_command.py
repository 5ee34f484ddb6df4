"""`python -m benchmarks fuzz`, as a process: the same table for the same seed, and an exit code that can be told."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BROKEN = """
import sys
from kling_async.gateways import kling3api
kling3api.same_task = lambda *_: None
from benchmarks.__main__ import main
main(sys.argv[1:])
"""


def run(*words: str, broken: bool = False) -> subprocess.CompletedProcess[str]:
    how = ["-c", BROKEN] if broken else ["-m", "benchmarks"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    command = [sys.executable, *how, "fuzz", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_the_answers_of_a_seed_are_tried_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run("--inputs", "1500", "--seed", "7", "--json", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert "1,500 answers of seed 7" in done.stdout
    assert "slowest: " in done.stdout
    assert "klinggenerator submit text-to-video" in done.stdout
    figures = json.loads(file.read_text())["fuzz"]
    assert sum(sum(outcomes.values()) for outcomes in figures["outcomes"].values()) == figures["inputs"] == 1500
    again = run("--inputs", "1500", "--seed", "7", "--json", str(file), "--processes", "2")
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(file.read_text())["fuzz"]["outcomes"] == figures["outcomes"]


def test_a_broken_promise_is_code_1_and_the_smallest_answer_that_shows_it(tmp_path: Path) -> None:
    file = tmp_path / "broken.jsonl"
    done = run("--inputs", "3000", "--seed", "7", "--save", str(file), broken=True)
    assert done.returncode == 1
    assert "answers break a promise; the smallest of each kind:" in done.stderr
    assert "kling3api, poll: poll: believes an answer about" in done.stderr
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["gateway"] for row in rows} == {"kling3api"}
    assert all(len(base64.b64decode(row["body"])) < 100 for row in rows)
    number = rows[0]["number"]
    one = run("--seed", "7", "--only", str(number))
    assert one.returncode == 0
    assert f"input {number}: kling3api, poll: as it is" in one.stdout
