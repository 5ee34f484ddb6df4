"""Ctrl-C at any moment, once and twice, and out of the user's own code: a prompt and quiet end, and nothing is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest
from attrs import define
from lifetime_judges import judge_files, judge_journal, resumed
from lifetime_watch import live

from kling_async.batch import State

pytestmark = pytest.mark.usefixtures("signals_arrive")

HERE = Path(__file__).parent
MOMENTS = int(os.environ.get("KLING_INTERRUPTS", "10"))
"""Moments at which a program is interrupted, of each kind and on each event loop."""
LONGEST = 0.9
"""Seconds within which they fall; the program lasts about as long."""
AT_ONCE = 2
INTERRUPTED = -signal.SIGINT
PATIENCE = 15


@define
class Ended:
    """How the program ended, what it said and what was complained of."""

    code: int
    lines: list
    complaints: str
    seconds: float

    @property
    def stuck(self):
        """Whether asyncio lost a step of a task under the second Ctrl-C, so that it took a third."""
        return any("lost_steps" in line for line in self.lines)

    @property
    def jobs(self):
        return [job for line in self.lines for job in line.get("jobs", [])]


def started(gateway, loop_name, place, *where):
    place.mkdir()
    program = HERE / "lifetime_interrupted.py", loop_name, gateway.url, place, *where
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-W", "always", *program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"LIFETIME_NAME": name_of(place)},
    )


def name_of(place):
    """Return what the prompts of a program begin with."""
    return f"{place.name}-"


def ended(process, begun):
    try:
        out, complaints = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        out, complaints = pushed(process)
    finally:
        process.kill()
    return Ended(
        process.returncode, [json.loads(line) for line in out.splitlines()], complaints, time.monotonic() - begun
    )


def pushed(process):
    """Interrupt a program that hangs once more, if it is asyncio that hangs; return what it said and complained of."""
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        out, complaints = process.communicate(timeout=5)
        if '"lost_steps": ["' in out:
            return out, complaints
        pytest.fail(f"hung without cause: {out} {complaints}")
    process.send_signal(signal.SIGABRT)  # faulthandler tells where it hangs
    pytest.fail(f"hangs: {process.communicate()}")


def judge(gateway, place, run):
    """The program ended promptly; whatever is paid for is known or in doubt, and the batch can go on."""
    assert run.seconds < 12 or run.stuck
    for word in ("unexpectedly", "adapter", "sk-lifetimes"):
        assert word not in run.complaints, run.complaints
    paid = gateway.accepted(name_of(place))
    known = {task_id for _, task_id, _ in run.jobs}
    doubtful = {prompt for prompt, _, status in run.jobs if status == "in_doubt"}
    said = {prompt for prompt, _, _ in run.jobs}
    assert {prompt for prompt, task_id in paid.items() if prompt in said and task_id not in known} <= doubtful
    judge_files(place / "videos")
    if (place / "night.db").exists():
        judge_journal(place / "night.db", paid)
        live(lambda: resumed(gateway, place))
        entries = judge_journal(place / "night.db", gateway.accepted(name_of(place)))
        assert {entry.state for entry in entries} <= {State.DOWNLOADED, State.IN_DOUBT}
        judge_files(place / "videos")


def judge_noise(run):
    """Nothing is said but that the program was interrupted."""
    assert run.code in (0, INTERRUPTED), run.complaints
    # Without a word, where it was ending by itself already.
    assert run.complaints == "" or run.complaints.endswith("\nKeyboardInterrupt\n"), run.complaints
    named = set(re.findall(r"^[\w.]*?(\w+(?:Error|Exception|Warning|Interrupt|Exit))\b", run.complaints, re.MULTILINE))
    assert named <= {"KeyboardInterrupt", "CancelledError"}, run.complaints
    for word in ("never", "destroyed", "ignored", "nclosed"):
        assert word not in run.complaints, run.complaints


def interrupted_at(gateway, loop_name, root, seed):
    """Interrupt the program at a moment of the seed, every other time twice."""
    random = Random(seed)
    process = started(gateway, loop_name, root / f"seed{seed}")
    process.stdout.readline()
    time.sleep(LONGEST * random.random())
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    if seed % 2:
        time.sleep(0.06 * random.random())
        process.send_signal(signal.SIGINT)
    return ended(process, begun)


def test_ctrl_c_at_any_moment_ends_a_program_quietly_and_loses_nothing(gateway, tmp_path, loop_name):
    seeds = range(2 * MOMENTS)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        runs = list(threads.map(partial(interrupted_at, gateway, loop_name, tmp_path), seeds))
    for seed in seeds:
        judge(gateway, tmp_path / f"seed{seed}", runs[seed])
    assert sum(run.stuck for run in runs) <= 1 + MOMENTS / 10
    assert not any(run.stuck for run in runs[::2])
    for run in runs[::2]:
        # A second one strikes anywhere, also in Python's own clean-up, which then complains for itself.
        judge_noise(run)
        assert [line["unfinished"] for line in run.lines if "unfinished" in line] == [[]]
        assert [job for job in run.jobs if job[2] == "in_doubt"] == []
    assert sum(run.code == INTERRUPTED for run in runs) > MOMENTS / 2


WHERE = [
    "callback",
    "observer of SUBMITTING",
    "observer of ACCEPTED",
    "observer of SUCCEEDED",
    "input",
    "task",
    "block",
]


@pytest.mark.parametrize("where", WHERE)
def test_an_interrupt_out_of_the_users_own_code_ends_a_program_quietly_and_loses_nothing(
    gateway, tmp_path, loop_name, where
):
    run = ended(started(gateway, loop_name, tmp_path / "here", where), time.monotonic())
    assert run.code == INTERRUPTED
    judge_noise(run)
    judge(gateway, tmp_path / "here", run)


def test_a_program_that_nobody_interrupts_says_nothing(gateway, tmp_path, loop_name):
    run = ended(started(gateway, loop_name, tmp_path / "here"), time.monotonic())
    assert (run.code, run.complaints) == (0, "")
    assert {status for _, _, status in run.jobs} == {"succeeded"}
    assert len(gateway.accepted()) == len(run.jobs) == 55
