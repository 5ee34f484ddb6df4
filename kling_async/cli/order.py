"""What a durable run is asked for, and how its flags are kept in the journal for `kling resume`."""

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from kling_async.batch.batch import Batch
from kling_async.batch.keys import Planned
from kling_async.cli.on_record import command
from kling_async.cli.setup import Setup
from kling_async.cli.showing import Look
from kling_async.session import KlingSession


@frozen(kw_only=True)
class Bounds:
    """The user's own limits.

    Args:
        budget: what all jobs of the batch may cost, "none" for no limit, or None where nobody said.
        max_cost_per_job: what one may cost, or None.
        max_failures: a number or a share that ends the run, as text, or None.
        deadline: seconds from the start, or None.
        fail_under: the share of done jobs, 0 to 1, from which failures are no failure of the run, or None.
    """

    budget: str | None = None
    max_cost_per_job: str | None = None
    max_failures: str | None = None
    deadline: float | None = None
    fail_under: float | None = None

    @property
    def limit(self) -> Decimal | None:
        """The budget as an amount."""
        return None if self.budget in (None, "none") else Decimal(str(self.budget))


@frozen(kw_only=True)
class BatchOrder:
    """A durable run.

    Args:
        path: the journal.
        directory: where videos go, as the user named it; None for nowhere.
        items: what is to be made; nothing for all that the journal holds.
        source: the file it came from, or None where the journal knows.
        sidecar: whether each video gets a JSON file beside it.
        left_out: rows of the file that are not valid and left out.
        store: what `--store` named, or None.
        content: a hash of the file that the items came from, or None.
        only: the names of the planned jobs that are sent, or None for the items, or all.
        prepare: changes the batch before it runs; returns what to say about that, or "".
        session: the session, if it is made already; not entered.
    """

    path: Path
    setup: Setup
    look: Look
    bounds: Bounds
    directory: Path | None
    items: Sequence[Planned] = ()
    source: str | None = None
    sidecar: bool = False
    left_out: int = 0
    store: str | None = None
    content: str | None = None
    only: frozenset[str] | None = None
    prepare: Callable[[Batch], str] | None = None
    session: KlingSession | None = None

    @property
    def run(self) -> str:
        """The run's name."""
        return self.path.stem

    def command(self, verb: str) -> str:
        """Return the command that does something with this run, as a shell takes it."""
        return command(verb, self.path, self.store)

    def options(self) -> str:
        """Return the flags as the journal keeps them; the key is never among them."""
        setup = {name: getattr(self.setup, name) for name in _SETUP}
        bounds = {name: getattr(self.bounds, name) for name in _BOUNDS}
        known = {**setup, **bounds, "sidecar": self.sidecar, "download": self.directory is not None}
        known["output"] = None if self.directory is None else str(self.directory)
        known["content"] = self.content
        return json.dumps(known, default=str)


_SETUP = (
    *("gateway", "api_key_file", "base_url", "concurrency", "rate", "poll_min", "poll_max", "poll_first"),
    *("timeout", "submit_timeout", "allow_private_host", "sandbox", "speed", "seed"),
)
_BOUNDS = ("budget", "max_cost_per_job", "max_failures", "fail_under")


def setup_again(options: Mapping[str, Any], given: Mapping[str, Any]) -> Setup:
    """Return the session's flags of an earlier run, with those given now in their place."""
    known = {name: options[name] for name in _SETUP if name in options}
    known["allow_private_host"] = tuple(known.get("allow_private_host") or ())
    return evolve(Setup(**known), **{name: value for name, value in given.items() if name in _SETUP})


def bounds_again(options: Mapping[str, Any], given: Mapping[str, Any]) -> Bounds:
    """Return the limits of an earlier run, with those given now in their place; a deadline is not kept."""
    known = {name: options[name] for name in _BOUNDS if name in options}
    changed = {name: value for name, value in given.items() if name in (*_BOUNDS, "deadline")}
    return Bounds(**{**known, **changed})
