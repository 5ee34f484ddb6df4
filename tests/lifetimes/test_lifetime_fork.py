"""A forked child can use nothing of its parent's sessions and batches, is told so by name, and harms nobody (H22)."""

import json
import subprocess
import sys
from pathlib import Path

from kling_async.batch import Reading, State

HERE = Path(__file__).parent


def program(what, loop_name, gateway, directory):
    """Run `lifetime_forks`; returns what it said and what was complained of."""
    # Python's own warning about forks and threads says no more than that they are dangerous.
    quiet = ("-W", "error", "-W", "ignore:This process .* is multi-threaded:DeprecationWarning")
    ended = subprocess.run(
        [sys.executable, *quiet, HERE / "lifetime_forks.py", what, loop_name, gateway.url, directory],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_a_forked_child_is_refused_by_name_whatever_it_uses_and_its_parent_goes_on(gateway, tmp_path, loop_name):
    said = program("parent", loop_name, gateway, tmp_path)
    errors = [(line["use"], line["error"]) for line in said if "use" in line]
    assert len(errors) == 2 * 30
    allowed = {"leave": "NoneType", "submit afterwards": "SessionClosedError"}
    assert [(use, error) for use, error in errors if error != allowed.get(use, "ConfigurationError")] == []
    assert [line["child"] for line in said if "child" in line] == [0, 0]
    (last,) = [line for line in said if "outcomes" in line]
    assert last == {"outcomes": [True] * 11, "done": 6}
    assert len(gateway.accepted()) == 1 + 1 + 11
    with Reading(tmp_path / "night.db") as journal:
        assert journal._rows("PRAGMA integrity_check") == [("ok",)]
        assert {entry.state for entry in journal.each(State)} == {State.DOWNLOADED}
    assert len(list((tmp_path / "videos").iterdir())) == 6
    assert not (tmp_path / "other.db").exists()
    assert not (tmp_path / "child.mp4").exists()


def test_a_session_made_before_a_fork_may_be_opened_after_it_and_names_its_jobs_anew(gateway, tmp_path):
    said = program("opened", "asyncio", gateway, tmp_path)
    assert [line["child"] for line in said if "child" in line] == [0, 0]
    made = [line for line in said if "made" in line]
    assert len(made) == 3
    assert len({task_id for line in made for task_id in line["made"]}) == 6
    assert len({key for line in made for key in line["keys"]}) == 6
    assert not any(call["replayed"] for call in gateway.ledger()["submits"])
