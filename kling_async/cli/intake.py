"""From the rows of a file to the jobs of a batch: their names, what of them is done, and the limits in force."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

from attrs import evolve

from kling_async.batch.amounts import amount_of
from kling_async.batch.keys import Names, Planned, digest_of
from kling_async.batch.reading import Reading
from kling_async.batch.states import State
from kling_async.cli.order import Bounds
from kling_async.cli.places import is_used
from kling_async.cli.problems import Problem
from kling_async.cli.reading import Job
from kling_async.cli.store import Store, is_begun
from kling_async.cli.words import one_line
from kling_async.errors import JournalError
from kling_async.gateways.protocol import Gateway
from kling_async.session import KlingSession


def address_of(gateway: Gateway, here: str) -> str:
    """Return where a gateway is, "" for its documented address."""
    return "" if here.rstrip("/") == gateway.base_url.rstrip("/") else here.rstrip("/")


def planned(jobs: Sequence[Job]) -> list[Planned]:
    """Return the jobs of a batch: a row's own name is its key, else a hash of what it asks for."""
    names = Names()
    return [
        Planned(
            key=job.key if job.named else names.derived(job.request),
            request=job.request,
            row=job.row,
            name=job.key,
            input=json.dumps(dict(job.values), ensure_ascii=False),
        )
        for job in jobs
    ]


def unsent(path: Path, items: Sequence[Planned]) -> list[Planned]:
    """Return what would be sent: rows that are new to the journal, changed, or still planned."""
    if not is_begun(path):
        return list(items)
    with Reading(path) as journal:
        sent = {key: digest for key, state, digest in journal.stands() if state is not State.PLANNED}
    return [item for item in items if sent.get(item.key) != digest_of(item.request)]


def changed_rows(path: Path, items: Sequence[Planned]) -> list[Problem]:
    """Return a problem for each row whose name belongs to another request that was sent already."""
    if not is_begun(path):
        return []
    fixed = (State.PLANNED, State.REJECTED)  # what was surely never accepted takes the new request
    with Reading(path) as journal:
        sent = {key: digest for key, state, digest in journal.stands() if state not in fixed}
    return [
        Problem(f"row {item.row}", "id", f"{one_line(repr(item.key), 60)} was sent with another request", row=item.row)
        for item in items
        if item.key in sent and sent[item.key] != digest_of(item.request)
    ]


def unused(path: Path) -> Path:
    """Return the name of a journal that does not exist yet."""
    if not is_used(path):
        return path
    return next(
        each for number in count(2) if not is_used(each := path.with_name(f"{path.stem}-{number}{path.suffix}"))
    )


def twin_of(store: Store, content: bytes, session: KlingSession | None) -> Path | None:
    """Return the run that a file of another name, with the very same rows, was made in; None for a new one."""
    if session is None or store.file is not None:
        return None  # simulated, or a journal that was named
    for path in store.runs():
        try:
            with Reading(path) as journal:
                facts = journal.facts()
        except JournalError:
            continue
        paid = not facts.options.get("sandbox")
        same = (facts.gateway, facts.base_url) == (session.gateway.name, session.base_url)
        if paid and same and facts.options.get("content") == content.hex():
            return path
    return None


def held_by(path: Path) -> Decimal:
    """Return what the jobs of a run take of a budget already."""
    if not is_begun(path):
        return Decimal(0)
    with Reading(path) as journal:
        return amount_of(journal.counts().held)


def kept(bounds: Bounds, path: Path) -> Bounds:
    """Return the limits, with the budget of the run's journal where none is given now."""
    if bounds.budget is not None or not is_begun(path):
        return bounds
    with Reading(path) as journal:
        return evolve(bounds, budget=journal.facts().options.get("budget"))


def bounds_of(given: Mapping[str, Any]) -> Bounds:
    """Return the flags about limits. Raises `click.BadParameter`."""
    names = ("budget", "max_cost_per_job", "max_failures", "deadline", "fail_under")
    return Bounds(**{name: given[name] for name in names})
