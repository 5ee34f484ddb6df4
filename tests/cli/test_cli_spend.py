"""`kling spend`: what runs cost, exactly, by whatever one asks."""

import json
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Kling
from journals import change, driven, sandboxed, varied


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store of runs"


@pytest.fixture
def night(store: Path) -> Path:
    return varied(store / "night.db")


def told(run_kling: Kling, *arguments: str) -> dict[str, Any]:
    done = run_kling("spend", *arguments, "--json")
    assert done.exit_code == 0
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def groups(document: dict[str, Any]) -> dict[str | None, tuple[int, str, str]]:
    by = document["by"]
    return {each[by]: (each["jobs"], each["spent"], each["reserved"]) for each in document["groups"]}


def test_what_was_sent_is_counted_and_what_was_refused_or_not_sent_is_not(run_kling: Kling, night: Path) -> None:
    document = told(run_kling, "--by", "run")
    assert groups(document) == {"night": (5, "300", "400")}
    assert document["totals"] == [{"unit": "credits", "jobs": 5, "spent": "300", "reserved": "400", "unpriced": 0}]


def test_days_are_those_on_which_jobs_ended_in_utc(run_kling: Kling, night: Path) -> None:
    change(night, "UPDATE job SET ended_at = 1790812799.9")
    change(night, "UPDATE job SET ended_at = 1790812800 WHERE key = 'boat'")
    change(night, "UPDATE job SET ended_at = NULL WHERE key = 'slow'")
    assert groups(told(run_kling)) == {
        "2026-09-30": (3, "100", "200"),
        "2026-10-01": (1, "200", "0"),
        None: (1, "0", "200"),
    }
    assert [line.split()[0] for line in run_kling("spend").stdout.splitlines()] == [
        *("day", "2026-09-30", "2026-10-01", "not", "all")
    ]


def test_a_model_that_nobody_named_is_the_one_that_the_kind_implies(run_kling: Kling, night: Path) -> None:
    request = json.dumps({"type": "text-to-video", "prompt": "a slow one", "model": "kling-2.6"})
    change(night, "UPDATE job SET request = ? WHERE key = 'slow'", request)
    change(night, "UPDATE job SET request = '{\"type\": \"hologram\"}' WHERE key = 'lost'")
    assert groups(told(run_kling, "--by", "model")) == {
        "kling-2.6": (1, "0", "200"),
        "kling-3.0": (2, "200", "0"),
        "kling-o3": (1, "100", "0"),
        None: (1, "0", "200"),
    }


def test_units_are_never_added_to_each_other(run_kling: Kling, store: Path, night: Path) -> None:
    other = varied(store / "other.db")
    change(other, "UPDATE batch SET unit = 'USD', gateway = 'apimart'")
    change(other, "UPDATE job SET gateway = 'apimart', spent = 100001 WHERE key = 'boat'")
    document = told(run_kling, "--by", "gateway")
    assert {each["unit"]: each["spent"] for each in document["totals"]} == {"USD": "100.100001", "credits": "300"}
    assert [(each["gateway"], each["unit"]) for each in document["groups"]] == [
        *(("apimart", "USD"), ("kling3api", "USD"), ("kling3api", "credits"))
    ]


def test_sums_are_exact(run_kling: Kling, store: Path, night: Path) -> None:
    change(night, "UPDATE job SET spent = 100000, reserved = 0")
    change(night, "UPDATE job SET spent = 900000000000000001 WHERE key = 'boat'")
    (total,) = told(run_kling)["totals"]
    assert Decimal(total["spent"]) == Decimal("900000000000.600001")


def test_what_a_retried_job_may_have_cost_before_is_not_forgotten(run_kling: Kling, night: Path) -> None:
    change(night, "UPDATE job SET state = 'planned', reserved = 0, doubted = 200000000 WHERE key = 'lost'")
    assert groups(told(run_kling, "--by", "run")) == {"night": (5, "300", "400")}


def test_jobs_whose_price_nobody_knows_are_counted_apart(run_kling: Kling, night: Path) -> None:
    change(night, "UPDATE job SET reserved = 0, spent = 0")
    (total,) = told(run_kling)["totals"]
    assert (total["spent"], total["unpriced"]) == ("0", 4)


def test_a_sandbox_costs_nothing_unless_it_is_asked_for(run_kling: Kling, store: Path, night: Path) -> None:
    sandboxed(varied(store / "played.db"))
    done = run_kling("spend", "--by", "run")
    assert "played" not in done.stdout
    assert "1 run of the sandbox not counted; --sandbox counts it" in done.stderr
    assert set(groups(told(run_kling, "--by", "run", "--sandbox"))) == {"night", "played"}
    assert set(groups(told(run_kling, "played", "--by", "run"))) == {"played"}


def test_named_runs_are_counted_once_and_alone(run_kling: Kling, store: Path, night: Path) -> None:
    varied(store / "morning.db")
    assert groups(told(run_kling, "night", "nig", "--by", "run")) == {"night": (5, "300", "400")}


def test_a_journal_that_cannot_be_read_is_named_and_makes_code_1(run_kling: Kling, store: Path, night: Path) -> None:
    (store / "letter.db").write_text("Dear Sir or Madam\n" * 500)
    done = run_kling("spend", "--by", "run")
    assert done.exit_code == 1
    assert "night" in done.stdout
    assert "not counted: letter" in done.stderr
    done = run_kling("spend", "--json")
    assert [each["run"] for each in json.loads(done.stdout)["not_counted"]] == ["letter"]


def test_an_empty_store_costs_nothing(run_kling: Kling) -> None:
    done = run_kling("spend")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "nothing was spent\n")
    assert told(run_kling)["groups"] == []


def test_spend_works_while_a_process_drives_the_run(run_kling: Kling, night: Path) -> None:
    with closing(driven(night)):
        assert groups(told(run_kling, "--by", "run")) == {"night": (5, "300", "400")}
