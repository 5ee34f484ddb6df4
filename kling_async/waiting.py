"""Where jobs wait: the line for their turn to be sent, and the agenda of looks and deadlines. No loop, no clock."""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from kling_async.task import TaskFuture

SWEEP = 1000
"""So many ended jobs are carried along before a queue is swept."""


class Line:
    """Jobs that wait to be sent: first come, first served; a refused one goes back to where it was."""

    def __init__(self) -> None:
        self._queue: deque[TaskFuture] = deque()
        self._returned: list[tuple[int, TaskFuture]] = []
        self._number = count()
        self._left = 0

    def __bool__(self) -> bool:
        while self._returned and self._returned[0][1].done():
            heapq.heappop(self._returned)
        while self._queue and self._queue[0].done():
            self._queue.popleft()
        return bool(self._returned or self._queue)

    def __len__(self) -> int:
        """About how many jobs wait: some of them may have been withdrawn."""
        return len(self._queue) + len(self._returned)

    def __iter__(self) -> Iterator[TaskFuture]:
        yield from [entry[1] for entry in self._returned]
        yield from list(self._queue)

    def join(self, job: TaskFuture) -> None:
        """Put a new job at the end."""
        job.order = next(self._number)
        self._queue.append(job)

    def put_back(self, job: TaskFuture) -> None:
        """Put a refused job before every job that came after it."""
        heapq.heappush(self._returned, (job.order, job))

    def take(self) -> TaskFuture:
        """Take the first job; there is one if the line is true."""
        return heapq.heappop(self._returned)[1] if self._returned else self._queue.popleft()

    def left(self) -> None:
        """Take note that a waiting job has ended, and sweep when many have."""
        self._left += 1
        if self._left > SWEEP and self._left > len(self._queue) // 2:
            self._queue = deque(job for job in self._queue if not job.done())
            self._left = 0


class Agenda:
    """When to look at which job, and when to stop looking. Each call costs O(log n) at most."""

    def __init__(self) -> None:
        self._looks: list[tuple[float, int, TaskFuture]] = []
        self._ends: list[list[Any]] = []
        self._number = count()
        self._forgotten = 0

    def look(self, job: TaskFuture, due: float, judged_at: float = math.inf) -> None:
        """Plan the next look at a job.

        Args:
            job: the job.
            due: when to look.
            judged_at: when that is judged anew, if it is earlier.
        """
        job.due = due
        heapq.heappush(self._looks, (min(due, judged_at), next(self._number), job))

    def next_look(self) -> float:
        """Return when something is due, a look or a judgement, or infinity."""
        while self._looks and self._looks[0][2].done():
            heapq.heappop(self._looks)
        return self._looks[0][0] if self._looks else math.inf

    def unsure(self, now: float) -> Iterator[TaskFuture]:
        """Take the jobs at the head whose look is not due and should be judged anew."""
        while self.next_look() <= now and self._looks[0][2].due > now:
            yield heapq.heappop(self._looks)[2]

    def scatter(self, now: float, seconds: float, random: Callable[[], float]) -> None:
        """Spread the looks that are due over some seconds: they became due all at once."""
        late = [entry for entry in self._looks if entry[2].due <= now]
        if len(late) < 2:
            return
        kept = [entry for entry in self._looks if entry[2].due > now]
        for _, number, job in late:
            job.due = now + seconds * random()
            kept.append((job.due, number, job))
        heapq.heapify(kept)
        self._looks = kept

    def take(self, now: float, batch: int, minimum: float) -> list[TaskFuture]:
        """Take the job that is due; where one request may ask about many, those that are due next go with it.

        Args:
            now: the time.
            batch: how many jobs one request may ask about.
            minimum: seconds between two looks at one job.
        """
        jobs = [heapq.heappop(self._looks)[2]]
        kept: list[tuple[float, int, TaskFuture]] = []
        while self._looks and len(jobs) < batch and len(kept) < batch:
            entry = heapq.heappop(self._looks)
            job = entry[2]
            if not job.done() and (job.looked_at is None or now - job.looked_at >= minimum):
                jobs.append(job)
            elif not job.done():
                kept.append(entry)
        for entry in kept:
            heapq.heappush(self._looks, entry)
        return jobs

    def end(self, job: TaskFuture, deadline: float) -> None:
        """Plan to stop looking at a job."""
        job.expiry = [deadline, next(self._number), job]
        heapq.heappush(self._ends, job.expiry)

    def next_end(self) -> float:
        """Return the next deadline, or infinity; it may be that of a job which has ended."""
        return self._ends[0][0] if self._ends else math.inf

    def forget(self, job: TaskFuture) -> None:
        """Drop the deadline of a job that has ended, and sweep when many have."""
        if job.expiry is None:
            return
        job.expiry[2] = None
        job.expiry = None
        self._forgotten += 1
        if self._forgotten > SWEEP and self._forgotten > len(self._ends) // 2:
            self._ends = [entry for entry in self._ends if entry[2] is not None]
            heapq.heapify(self._ends)
            self._forgotten = 0

    def ended(self, now: float) -> list[TaskFuture]:
        """Take the jobs whose time is up."""
        jobs = []
        while self._ends and (self._ends[0][2] is None or self._ends[0][0] <= now):
            job = heapq.heappop(self._ends)[2]
            if job is None:
                self._forgotten -= 1
            elif not job.done():
                job.expiry = None
                jobs.append(job)
        return jobs
