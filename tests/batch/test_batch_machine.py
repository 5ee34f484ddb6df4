"""A batch in the hands of chance: whatever happens, nothing is lost and nothing is paid for twice."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from batch_virtual import WALL, Disk, LoopWriter, Program, check, clip, made, set_clocks, standing
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from virtual import START

from kling_async import InvalidRequestError, JournalError, KlingError, Timeouts
from kling_async.batch import State, writer
from kling_async.sandbox import (
    Sandbox,
    accepted_then,
    answer,
    drop_after_accept,
    drop_before_accept,
    empty,
    fail,
    garbage,
    half_body,
    hang_after_accept,
    html,
    http,
    no_url,
    reset_after_accept,
    slow,
)

DAY = 86_400
FAULTS = {
    "429": http(429),
    "429, wait": http(429, retry_after=7),
    "400": http(400, code="INVALID_PROMPT"),
    "401": http(401),
    "402": http(402),
    "403": http(403),
    "503, nothing accepted": http(503),
    "500 after accept": accepted_then(500),
    "hang up": drop_after_accept(),
    "hang up, nothing accepted": drop_before_accept(),
    "reset": reset_after_accept(),
    "half": half_body(),
    "silence": hang_after_accept(),
    "garbage": garbage(),
    "empty": empty(),
    "html": html(502),
    "another answer": answer({"code": 200}, accept=True),
    "slow": slow(30),
    "failed": fail(),
    "no url": no_url(2),
}
FAULTY = st.lists(st.sampled_from(sorted(FAULTS)), max_size=8)
LOOKS = {"500": http(500), "429": http(429), "half": half_body(), "garbage": garbage(), "404": http(404)}
SECONDS = st.sampled_from([0.003, 0.02, 0.05, 0.085, 0.3, 3.0, 40.0, 120.0, 700.0])
REMEMBERED = 3600
PLANNED_AT_THE_END = ("budget", "max_cost_per_job")


class Forgetful(Sandbox):
    """Forgets a key after an hour, as far as the adapters may rely on it."""

    def handle(self, call, now):
        for place, (_, _, task_id) in list(self.replays.items()):
            if now - self.tasks[task_id].accepted_at > REMEMBERED:
                del self.replays[place]
        return super().handle(call, now)


def is_on(self):
    return self.is_on


class Nights(RuleBasedStateMachine):
    """Programs that make one batch, one after the other; the model is the gateway's ledger."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.disk = Disk(writer._transaction)
        set_clocks(self.patch)
        self.patch.setattr(writer, "_transaction", self.disk.transaction)
        self.patch.setattr("kling_async.batch.journal.Writer", LoopWriter)
        memory = Path("/dev/shm")
        self.directory = TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.path = Path(self.directory.name) / "night.db"
        self.program = None
        self.is_on = False
        self.now = START
        self.jobs = self.changes = 0
        self.twice, self.knowingly = set(), set()
        self.down = False

    @initialize(
        gateway=st.sampled_from(["kling3api", "keyed", "apimart"]),
        budget=st.sampled_from([None, 800, 2000]),
        slots=st.sampled_from([1, 4, 64]),
        patience=st.sampled_from([100, 1800]),
        count=st.integers(0, 12),
        faults=FAULTY,
    )
    def begin(self, gateway, budget, slots, patience, count, faults):
        self.sandbox = Forgetful(median=60)
        self.gateway = gateway
        self.budget = None if gateway == "apimart" else budget
        self.session = {"concurrency": slots, "timeouts": Timeouts(submit=30)}
        self.rules = {"budget": self.budget, "patience": patience}
        self.start()
        self.add(count, again=False, seconds=5)
        self.spoil_submits(faults)

    def start(self):
        self.is_on = True
        program = Program(self.path, self.sandbox, self.now, gateway=self.gateway, session=self.session, **self.rules)
        with suppress(JournalError):
            self.program = program.open()
            self.program.session.wire.down = self.down

    def running(self):
        """Return the program, if it reads a run; chance does not look behind the scenes."""
        return self.program if self.program is not None and self.program.is_running else None

    def idle(self):
        return self.program if self.program is not None and not self.program.is_running else None

    # What the user does.

    @precondition(lambda self: not self.is_on)
    @rule()
    def restart(self):
        self.start()

    @precondition(is_on)
    @rule(count=st.integers(1, 9), again=st.booleans(), seconds=st.sampled_from([3, 5, 5, 15]))
    def add(self, count, again, seconds):
        first, self.jobs = self.jobs, self.jobs + count
        items = [(f"k{number}", clip(number)) for number in range(0 if again else first, first)]
        items += [(f"k{number}", clip(number, duration=seconds)) for number in range(first, self.jobs)]
        if self.program is not None:
            with suppress(JournalError, InvalidRequestError):
                self.program.batch.add(items)

    @precondition(is_on)
    @rule(number=st.integers(0, 20))
    def change(self, number):
        self.changes += 1
        if self.program is not None:
            with suppress(JournalError, InvalidRequestError):
                self.program.batch.add((f"k{number}", clip(f"{number}, changed {self.changes}")))

    @precondition(is_on)
    @rule(seconds=SECONDS)
    def run(self, seconds):
        if program := self.idle():
            program.read()
            program.wait(seconds)

    @precondition(is_on)
    @rule()
    def leave(self):
        if program := self.running():
            program.reader.cancel()
            program.turn(3)

    @precondition(is_on)
    @rule(in_doubt=st.booleans())
    def retry(self, in_doubt):
        if program := self.idle():
            before = standing(self.path).values()
            with suppress(KlingError):
                program.batch.retry(in_doubt=in_doubt)
            doubtful = {entry.asked().prompt for entry in before if entry.state is State.IN_DOUBT}
            self.knowingly |= doubtful if in_doubt else set()
            self.twice |= self.knowingly | {entry.asked().prompt for entry in before if entry.state is State.FAILED}

    @precondition(is_on)
    @rule()
    def reconcile(self):
        if program := self.idle():
            with suppress(KlingError):
                program.do(program.batch.reconcile())

    @precondition(is_on)
    @rule()
    def close(self):
        self.end(Program.close)

    def end(self, how):
        self.is_on = False
        if self.program is not None:
            self.now, self.program = how(self.program), None

    # What befalls it.

    @precondition(is_on)
    @rule()
    def kill(self):
        self.end(Program.kill)

    @precondition(is_on)
    @rule(turns=st.integers(1, 30))
    def turn(self, turns):
        if self.program is not None:
            self.program.turn(turns)

    @precondition(is_on)
    @rule(seconds=SECONDS)
    def wait(self, seconds):
        if self.program is not None:
            self.program.wait(seconds)

    @precondition(lambda self: not self.is_on)
    @rule(hours=st.sampled_from([0.01, 0.5, 1.1]))
    def sleep(self, hours):
        self.now += hours * 3600

    @rule(faults=FAULTY)
    def spoil_submits(self, faults):
        for fault in faults:
            self.sandbox.next(FAULTS[fault])

    @rule(fault=st.sampled_from(sorted(LOOKS)))
    def spoil_a_look(self, fault):
        self.sandbox.next(LOOKS[fault], on="poll")

    @rule(seconds=st.sampled_from([-365 * DAY, -DAY, -1, 1, DAY, 365 * DAY]))
    def set_the_wall_clock(self, seconds):
        WALL.offset += seconds

    @rule(writes=st.integers(0, 3), full=st.booleans())
    def fill_the_disk(self, writes, full):
        self.disk.fail_next, self.disk.full = writes, full and writes == 3

    @rule(down=st.booleans())
    def cut_the_line(self, down):
        self.down = down
        if self.program is not None:
            self.program.session.wire.down = down

    # What must hold.

    @invariant()
    def nothing_is_lost_or_paid_for_twice(self):
        if self.path.exists() and self.path.stat().st_size:
            check(self.path, self.sandbox, twice=self.twice)
            if self.budget is not None and not self.knowingly:
                assert self.sandbox.ledger.net <= self.budget

    @invariant()
    def a_run_breaks_for_a_full_disk_only(self):
        reader = self.program.reader if self.program is not None else None
        if reader is not None and reader.done() and not reader.cancelled() and reader.exception() is not None:
            assert isinstance(reader.exception(), JournalError)
            assert reader.exception().code == "full"

    def teardown(self):
        try:
            if hasattr(self, "sandbox"):
                self.end_well()
        finally:
            if self.program is not None:
                self.program.kill()
            self.directory.cleanup()
            self.patch.undo()

    def end_well(self):
        """When nothing goes wrong any more, another run brings everything to its end."""
        self.sandbox.forget()
        self.disk.full, self.disk.fail_next, self.down = False, 0, False
        self.end(Program.kill)
        self.start()
        self.program.do(made(self.program.batch))
        summary = self.program.batch.summary()
        note(str(summary))
        assert (summary.submitting, summary.accepted) == (0, 0)
        assert not summary.planned or summary.stopped.code in PLANNED_AT_THE_END
        if summary.planned:
            left = self.budget - (summary.spent + summary.reserved)
            cheapest = min(entry.estimate for entry in standing(self.path).values() if entry.state is State.PLANNED)
            assert cheapest > left * 10**6
        self.end(Program.close)
        self.nothing_is_lost_or_paid_for_twice()
        made_here = {entry.task_id for entry in standing(self.path).values() if entry.video is not None}
        assert made_here <= {submit.task_id for submit in self.sandbox.ledger.submits if submit.accepted}


TestNights = Nights.TestCase
TestNights.settings = settings(max_examples=60, stateful_step_count=30)
