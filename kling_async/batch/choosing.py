"""Which planned job is sent next: in their order, within the user's limits, and none that is under way already."""

from collections import deque
from collections.abc import Callable

from kling_async.batch.entry import Entry
from kling_async.batch.inputs import Inputs
from kling_async.batch.journal import Journal
from kling_async.batch.limits import Limits
from kling_async.batch.states import State
from kling_async.errors import KlingError

PAGE = 256
UNPRICED = 2**62
"""Stands for a price that nobody knows: no budget is ever enough for it."""
LOOK_AHEAD = 1000
"""Jobs of an iterator that are taken in, one after the other too dear, before no cheaper one is looked for."""


class Choice:
    """Chooses the planned jobs of one run.

    Args:
        journal: holds them.
        limits: what may be spent.
        inputs: jobs that are not planned yet.
        only: the names of the jobs that are sent, or None for all.
        wake: called when more jobs have been planned.
    """

    def __init__(
        self, journal: Journal, limits: Limits, inputs: Inputs, only: frozenset[str] | None, wake: Callable[[], None]
    ) -> None:
        self.flying: set[int] = set()
        """The numbers of jobs that are under way."""
        self.skipped: tuple[int, KlingError, Entry] | None = None
        """The cheapest job that was left aside: its price, why, and itself."""
        self._journal = journal
        self._limits = limits
        self._inputs = inputs
        self._only = only
        self._wake = wake
        self._back: deque[Entry] = deque()
        self._page: deque[Entry] = deque()
        self._seen = 0
        self._as_of = 0
        self._taken_before = inputs.taken

    def next(self) -> Entry | None:
        """Return the next job that may be sent within the limits, or None where there is none now."""
        if self._as_of != self._journal.replanned:
            self._read_anew()
        ceiling = self._limits.ceiling
        if self.skipped is not None and (ceiling is None or self.skipped[0] <= ceiling):
            self.rewind()  # something was given back that may pay for one left aside
        for _ in range(len(self._back)):
            entry = self._back.popleft()
            if self.fits(entry):
                return entry
            self.flying.discard(entry.id)  # it is planned in the journal, and is found there again
        while (found := self._planned()) is not None:
            if self.fits(found):
                return found
        self.pull()
        return None

    def pull(self) -> bool:
        """Have more jobs taken in; False where there are none, or where too many in a row could not be sent.

        An input may be endless: one that fits is not looked for without end, nor one of the wanted names.
        """
        if self._only is not None:
            return False
        ceiling = self._limits.ceiling
        if self.skipped is not None and ceiling is not None:
            enough = ceiling <= 0 or self._inputs.taken - self._taken_before >= LOOK_AHEAD
            if enough:
                return False
        return self._inputs.pull(self._wake)

    def sent(self, entry: Entry) -> None:
        """Take note that a job goes out."""
        self.flying.add(entry.id)
        self._taken_before = self._inputs.taken

    def put_back(self, entry: Entry) -> None:
        """Take a job back that is to be sent again, before those that came after it."""
        self._back.append(entry)

    def rewind(self) -> None:
        """Begin anew with the first planned job."""
        self.skipped = None
        self._page.clear()
        self._seen = 0

    def _read_anew(self) -> None:
        """Forget what was read ahead: its request may have been changed since."""
        self._as_of = self._journal.replanned
        self.flying.difference_update(entry.id for entry in self._back)
        self._back.clear()
        self.rewind()

    def fits(self, entry: Entry) -> bool:
        """Tell whether a job may be sent now; one that may not is left aside."""
        objection = self._limits.objection(entry.estimate)
        if objection is None:
            return True
        price = entry.estimate if entry.estimate is not None else UNPRICED
        if self.skipped is None or price < self.skipped[0]:
            self.skipped = (price, objection, entry)
        return False

    def _planned(self) -> Entry | None:
        """Return the next job from the journal that is wanted and not under way."""
        while True:
            if not self._page:
                most = self._limits.ceiling if self.skipped is not None else None
                if most is not None and most < 0:
                    return None
                self._page.extend(self._journal.page([State.PLANNED], self._seen, PAGE, most))
                if not self._page:
                    return None
            entry = self._page.popleft()
            self._seen = entry.id
            wanted = self._only is None or entry.key in self._only
            if wanted and entry.id not in self.flying:
                return entry
