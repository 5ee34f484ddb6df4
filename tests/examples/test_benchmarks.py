"""Runs the benchmarks at their smallest: whether they work, not how fast anything is."""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(python: str, surroundings: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in surroundings.items() if not name.startswith("KLING_")}
    command = [python, "-m", "benchmarks", "--quick", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_every_way_makes_the_same_requests(python: str, surroundings: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run(python, surroundings, "--json", str(file), "cpu", "--jobs", "20")
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(file.read_text())["cpu"]["ways"]
    assert set(figures) == {"lean", "library", "stream", "batch", "keepalive"}
    assert {(way["submits_per_job"], way["polls_per_job"]) for way in figures.values()} == {(1, 3)}
    assert figures["lean"]["cpu_ratio"]["median"] == 1
    assert "kling_async, session.gather" in done.stdout


def test_waiting_jobs_are_weighed(python: str, surroundings: dict[str, str]) -> None:
    done = run(python, surroundings, "memory", "--jobs", "50")
    assert (done.returncode, done.stderr) == (0, "")
    assert "50 waiting jobs, 1 pairs" in done.stdout


def test_the_rooms_are_profiled(python: str, surroundings: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run(python, surroundings, "--json", str(file), "profile", "--jobs", "20")
    assert (done.returncode, done.stderr) == (0, "")
    rooms = json.loads(file.read_text())["profile"]["rooms"]
    assert set(rooms["adapter"]) == {"submit", "look", "completion"}
    assert rooms["adapter"]["look"]["median"] > 0
    assert "whole, over loopback" in done.stdout


def test_the_journal_is_measured(python: str, surroundings: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run(python, surroundings, "--json", str(file), "journal", "--jobs", "60", "--rows", "400")
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(file.read_text())["journal"]
    assert set(figures["steps"]) == {"1", "64", "200"}
    assert figures["open"]["resumed"]["median"] > 0
    assert "400 jobs on record" in done.stdout


def test_imports_are_timed(python: str, surroundings: dict[str, str]) -> None:
    done = run(python, surroundings, "import", "--times", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "import aiohttp" in done.stdout
