"""What goes wrong in the soak: a seeded mixture of faults of submits, of looks and of downloads."""

from collections.abc import Sequence
from itertools import accumulate
from random import Random

from attrs import field, frozen

from kling_async.sandbox import (
    Action,
    accepted_then,
    answer,
    drop_after_accept,
    drop_before_accept,
    empty,
    ends_after,
    expired_link,
    fail,
    garbage,
    half_body,
    hang_after_accept,
    html,
    http,
    lie_about,
    no_url,
    reset_after_accept,
    slow,
    stuck,
)


@frozen
class Fault:
    """One way in which a call goes wrong.

    Args:
        name: what it is called.
        share: how often it strikes, of all calls of its kind.
        action: what the sandbox does.
        doubtful: nobody who reads the answer can know whether the job was accepted.
    """

    name: str
    share: float
    action: Action
    doubtful: bool = False


@frozen
class Mixture:
    """Faults of one kind of call; a seed draws one of them, or none."""

    faults: Sequence[Fault]
    _random: Random
    _steps: Sequence[float] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_steps", tuple(accumulate(fault.share for fault in self.faults)))

    def draw(self) -> Fault | None:
        """Draw the fault of the next call."""
        number = self._random.random()
        if number >= self._steps[-1]:
            return None
        return next(fault for fault, step in zip(self.faults, self._steps, strict=True) if number < step)


TWIN = "the id of another job"
"""The one fault that the gateway has to make up itself: it depends on the jobs that it has."""


def of_submits(patience: float) -> tuple[Fault, ...]:
    """Return what goes wrong with a tenth of all submits, half of it so that nobody can know what became of the job.

    Args:
        patience: seconds after which a client gives an answer up.
    """
    elsewhere = (("Location", "/elsewhere"),)
    return (
        Fault("429", 0.003, http(429)),
        Fault("429, Retry-After", 0.001, http(429, retry_after=patience / 90)),
        Fault("429, Retry-After in words", 0.0005, http(429, retry_after="soon")),
        Fault("400", 0.004, http(400)),
        Fault("slow", 0.006, slow(patience / 20)),
        *(Fault(f"{status}", 0.002, http(status), doubtful=True) for status in (500, 502, 503, 504)),
        *(Fault(f"{status}, accepted", 0.002, accepted_then(status), doubtful=True) for status in (500, 502, 503, 504)),
        Fault("closed before acceptance", 0.004, drop_before_accept(), doubtful=True),
        Fault("closed after acceptance", 0.003, drop_after_accept(), doubtful=True),
        Fault("reset after acceptance", 0.004, reset_after_accept(), doubtful=True),
        Fault("no answer", 0.002, hang_after_accept(), doubtful=True),
        Fault("too late", 0.001, slow(patience * 1.5), doubtful=True),
        Fault("half an answer", 0.003, half_body(), doubtful=True),
        Fault("HTML, 200", 0.002, html(200), doubtful=True),
        Fault("HTML, 200, accepted", 0.002, html(200, accept=True), doubtful=True),
        Fault("garbage", 0.002, garbage(), doubtful=True),
        Fault("empty", 0.001, empty(), doubtful=True),
        Fault("a list", 0.001, answer([], accept=True), doubtful=True),
        Fault("redirected", 0.001, answer("", 307, headers=elsewhere), doubtful=True),
        Fault(TWIN, 0.002, answer(lambda said: said, accept=True), doubtful=True),
        # What the gateway does later with a job that it takes.
        Fault("fails", 0.020, fail("the picture could not be made")),
        Fault("fails at once", 0.003, fail("refused by the filter", after=0)),
        Fault("never ends", 0.002, stuck()),
        Fault("ends at once", 0.005, ends_after(0)),
        Fault("no URL at first", 0.010, no_url(1)),
        Fault("no URL at all", 0.001, no_url()),
        Fault("another's id in the first looks", 0.005, lie_about(times=2)),
        Fault("an unknown status at first", 0.005, lie_about(times=2, status="PAUSED")),
        Fault("no status at first", 0.003, lie_about(times=1, status=None)),
        Fault("an expired link", 0.010, expired_link()),
    )


def of_looks(patience: float) -> tuple[Fault, ...]:
    """Return what goes wrong with one look in sixteen; see `of_submits`."""
    return (
        Fault("429", 0.001, http(429)),
        Fault("429, Retry-After", 0.0005, http(429, retry_after=patience / 90)),
        *(Fault(f"{status}", 0.005, http(status)) for status in (500, 502, 503, 504)),
        Fault("closed", 0.006, drop_after_accept()),
        Fault("reset", 0.006, reset_after_accept()),
        Fault("no answer", 0.001, hang_after_accept()),
        Fault("slow", 0.003, slow(patience / 20)),
        Fault("HTML, 200", 0.003, html(200)),
        Fault("HTML, 502", 0.003, html(502)),
        Fault("garbage", 0.003, garbage()),
        Fault("half an answer", 0.003, half_body()),
        Fault("empty", 0.003, empty()),
    )


def of_downloads() -> tuple[Fault, ...]:
    """Return what goes wrong with one download in seven."""
    return (
        Fault("500", 0.02, http(500)),
        Fault("503", 0.02, http(503)),
        Fault("closed", 0.03, drop_after_accept()),
        Fault("reset", 0.03, reset_after_accept()),
        Fault("half a file", 0.04, half_body()),
    )


UNKNOWN_SHARE = 0.02
"""Of the accepted jobs, so many are unknown to the gateway (404) when they are looked at first."""
