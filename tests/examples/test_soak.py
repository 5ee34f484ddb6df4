"""Runs the soak at its smallest, and shows that it notices what it is there to notice."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.processes import measured
from benchmarks.soak import batch, virtual
from benchmarks.soak.command import claims_broken
from benchmarks.soak.verdict import Ended, contradiction
from kling_async.gateways.kling3api import Kling3Api

ROOT = Path(__file__).parents[2]


def soaked(python: str, surroundings: dict[str, str], file: Path, *words: str) -> dict[str, dict[str, Any]]:
    environment = {name: value for name, value in surroundings.items() if not name.startswith("KLING_")}
    command = [python, "-m", "benchmarks", "--json", str(file), "soak", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, dict[str, Any]] = json.loads(file.read_text())["soak"]
    return found


@pytest.mark.parametrize(("way", "jobs"), [("virtual", 400), ("batch", 200), ("sockets", 100)])
def test_every_request_has_one_outcome_and_none_is_paid_for_twice(
    python: str, surroundings: dict[str, str], tmp_path: Path, way: str, jobs: int
) -> None:
    found = soaked(python, surroundings, tmp_path / "figures.json", f"--{way}", "--jobs", str(jobs))
    assert set(found) == {f"{way}, kling3api", f"{way}, apimart"}
    for figures in found.values():
        assert (figures["jobs"], figures["outcomes"]) == (jobs, jobs)
        assert (figures["duplicates"], figures["contradictions"], figures["tasks_left"]) == (0, 0, 0)
        assert figures["refills"]  # the account ran out of money and was filled again
        assert len(figures["gateway"]["struck"]) > 10
        if way == "sockets":
            assert figures["films"]["whole"] == figures["films"]["asked"] > 0
            assert set(figures["descriptors_after"]) == {figures["descriptors_before"]}


def test_the_same_seed_gives_the_same_run() -> None:
    once, again = (measured("benchmarks.soak.virtual", gateway="apimart", jobs=200, seed=7) for _ in range(2))
    for measure in ("memory", "peak", "wall", "cpu", "wakeups"):
        del once[measure], again[measure]
    assert once == again


def test_a_client_that_sends_what_is_in_doubt_again_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kling3Api, "dedupes_by_key", True)
    figures = virtual.run("kling3api", 400, 0)
    assert figures["duplicates"] > 0
    assert any("paid for" in words for words in claims_broken(figures))


def test_a_batch_that_sends_what_is_in_doubt_again_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kling3Api, "dedupes_by_key", True)
    assert batch.run("kling3api", 200, 0)["duplicates"] > 0


FAILED = Ended(7, "GenerationFailedError", "failed", "n75", "no")
MADE = Ended(7, "Success", "succeeded", "n75", "yes")
DOUBTED = Ended(7, "SubmissionInDoubtError", "in_doubt", None, "unknown")
REFUSED = Ended(7, "InvalidRequestError", "failed", None, "no")


@pytest.mark.parametrize(
    ("end", "charges", "refunds", "spoilt", "task_id", "words"),
    [
        (MADE, 1, 0, False, "n75", None),
        (MADE, 1, 0, True, "n75", None),
        (FAILED, 1, 1, False, "n75", None),
        (DOUBTED, 1, 0, True, "n75", None),
        (DOUBTED, 0, 0, True, None, None),
        (REFUSED, 0, 0, False, None, None),
        (MADE, 2, 0, False, "n75", "paid for 2 times"),
        (DOUBTED, 2, 0, True, "n75", "paid for 2 times"),
        (DOUBTED, 1, 0, False, "n75", "every answer was clear"),
        (REFUSED, 1, 0, False, "n75", "no id of it"),
        (MADE, 0, 0, False, None, "never accepted"),
        (MADE, 1, 0, False, "n76", "is task n76"),
        (FAILED, 1, 0, False, "n75", "says it was not"),
        (MADE, 1, 1, False, "n75", "says it was"),
    ],
)
def test_an_outcome_is_held_against_the_record(
    end: Ended, charges: int, refunds: int, spoilt: bool, task_id: str | None, words: str | None
) -> None:
    said = contradiction(end, charges, refunds, spoilt, task_id)
    assert (said is None) if words is None else (said is not None and words in said)


def sound() -> dict[str, object]:
    return {
        "jobs": 1000,
        "outcomes": 1000,
        "duplicates": 0,
        "contradictions": 0,
        "words": [],
        "tasks_left": 0,
        "kinds": {"Success": 990, "GenerationTimeoutError": 10},
        "gateway": {"struck": {"submit: never ends": 10}},
        "memory": [40e6] * 10,
        "wakeups": 100,
        "requests": 50,
        "descriptors_before": 8,
        "descriptors_after": [8, 8],
    }


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"outcomes": 999}, "999 outcomes of 1000"),
        ({"duplicates": 1}, "paid for more than once"),
        ({"contradictions": 1}, "contradictions"),
        ({"tasks_left": 1}, "tasks were left"),
        ({"memory": [40e6] * 9 + [60e6]}, "memory grew"),
        ({"wakeups": 10_000}, "wake-ups"),
        ({"descriptors_after": [8, 9]}, "descriptors"),
        ({"kinds": {"Success": 999, "ConnectionFailedError": 1}}, "given up"),
        ({"kinds": {"Success": 970, "GenerationTimeoutError": 30}}, "unseen"),
        ({"films": {"wrong": ["job 3 has another file"]}}, "wrong films"),
        ({"films": {"strange_files": ["3.mp4.part"]}}, "left beside"),
    ],
)
def test_a_claim_that_does_not_hold_is_told(changed: dict[str, object], words: str) -> None:
    assert claims_broken(sound()) == []
    (broken,) = claims_broken(sound() | changed)
    assert words in broken
