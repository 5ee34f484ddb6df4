"""`kling resume`, `kling retry` and `kling reconcile`: going on with a run that is on record."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from kling_async.batch.amounts import amount_of
from kling_async.batch.batch import Batch, kinds_of, summary_of
from kling_async.batch.entry import Entry
from kling_async.batch.owner import refuse_driven
from kling_async.batch.reading import Facts, Reading
from kling_async.batch.states import State
from kling_async.cli.batch_drive import drive_batch
from kling_async.cli.codes import DONE, IN_DOUBT, USAGE, code_of_batch
from kling_async.cli.commands import kept_directory, look_of, ready
from kling_async.cli.drive import on_loop
from kling_async.cli.order import BatchOrder, bounds_again, setup_again
from kling_async.cli.output import Output, talk
from kling_async.cli.setup import opened
from kling_async.cli.spending import agreed, priced
from kling_async.cli.store import Store
from kling_async.cli.words import count, money, one_line

_RENAMED = {"sandbox_speed": "speed", "sandbox_seed": "seed"}


def resume_run(given: Mapping[str, Any]) -> int:
    """Go on with a run: follow what the gateway has, send what is planned, download what is made."""
    return _again(given, [State.PLANNED], None, "Go on with")


def retry_run(given: Mapping[str, Any]) -> int:
    """Make a new attempt for jobs that failed, and for no others."""
    doubtful = given["in_doubt"]
    states = [State.REJECTED, State.FAILED, State.SUCCEEDED] + ([State.IN_DOUBT] if doubtful else [])
    wanted = [kind.strip() for text in given["only"] for kind in text.split(",") if kind.strip()]

    def prepare(batch: Batch) -> str:
        chosen = batch.retry(wanted, in_doubt=doubtful)
        return f"{count(chosen, 'job gets', 'jobs get')} a new attempt"

    if doubtful:
        talk("Jobs in doubt may have been accepted: sent again, they may be paid for twice.")
    return _again(given, states, prepare, "Try again", wanted)


def _again(
    given: Mapping[str, Any],
    states: list[State],
    prepare: Callable[[Batch], str] | None,
    what: str,
    kinds: list[str] | None = None,
) -> int:
    path = Store(given["store"]).find(given["run"])
    refuse_driven(path)
    with Reading(path) as journal:
        order = _order(path, journal.facts(), given)
        held = journal.counts().held
        there = [entry for state in states for entry in journal.each([state])]
        chosen = there if kinds is None else [entry for entry in there if _chosen(entry, kinds)]
        code = code_of_batch(
            summary_of(journal), downloads=order.directory is not None, signal=None, broken=False, fail_under=None
        )
    if kinds is not None and not chosen:
        return _nothing_chosen(kinds, there, code)
    session = ready(order.setup)
    price = priced(order.setup.adapter(), [entry.asked() for entry in chosen])
    free = order.setup.sandbox or not price.jobs
    if not free and not agreed(price, order.bounds.budget, yes=given["yes"], what=what, held=amount_of(held)):
        return USAGE
    only = None if kinds is None else frozenset(entry.key for entry in chosen)
    return drive_batch(evolve(order, session=session, prepare=prepare, only=only))


def _nothing_chosen(kinds: list[str], there: list[Entry], code: int) -> int:
    """Say that there is nothing to try again; returns how the run stands."""
    if not kinds:
        talk("No job failed: there is nothing to try again.")
        return code
    names = sorted({name for entry in there for name in kinds_of(entry)})
    talk(f"No job failed of the kind {one_line(', '.join(kinds), 100)}; nothing was sent.")
    if names:
        talk(f"  kinds that can be named: {one_line(', '.join(names))}")
    return USAGE


def _chosen(entry: Entry, kinds: list[str]) -> bool:
    wanted = {kind.strip().casefold() for kind in kinds}
    if entry.state is State.SUCCEEDED:  # made, and its video can be had no more
        return "expired" in wanted & kinds_of(entry)
    return not wanted or bool(wanted & kinds_of(entry))


def _order(path: Path, facts: Facts, given: Mapping[str, Any]) -> BatchOrder:
    """Return the order of an earlier run, with the flags that were given now in the place of its own."""
    said = explicit(given)
    options = {**facts.options, "gateway": facts.gateway}
    if not options.get("sandbox"):
        # Where it was sent is where its jobs are, whatever the environment says by now.
        options["base_url"] = facts.base_url
    name = said.get("output", _place(options.get("output"), facts.directory))
    wanted = said.get("no_download") is not True and (options.get("download", True) or "output" in said)
    directory = kept_directory(str(name)) if wanted and name else None
    return BatchOrder(
        path=path,
        setup=setup_again(options, said),
        look=look_of(given),
        bounds=bounds_again(options, said),
        directory=directory,
        source=facts.source,
        store=given["store"],
        content=options.get("content"),
        sidecar=bool(said.get("sidecar", options.get("sidecar"))),
    )


def _place(named: Any, absolute: str | None) -> str | None:
    """Return where the videos of a run go: as its user named it, if that is the same place seen from here."""
    if not isinstance(named, str) or absolute is None:
        return absolute
    return named if str(Path(named).absolute()) == absolute else absolute


def explicit(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that the user typed, without those that are at their default."""
    context = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    return {
        _RENAMED.get(name, name): value for name, value in given.items() if context.get_parameter_source(name) is typed
    }


def reconcile_run(given: Mapping[str, Any]) -> int:
    """Ask the gateway what became of jobs in doubt."""
    path = Store(given["store"]).find(given["run"])
    refuse_driven(path)
    with Reading(path) as journal:
        order = _order(path, journal.facts(), {**given, "no_download": True})
    session = ready(order.setup)
    return on_loop(_reconciled(evolve(order, session=session, directory=None), as_json=given["as_json"]))


async def _reconciled(order: BatchOrder, *, as_json: bool) -> int:
    async with opened(order.setup, order.session) as session, session.batch(order.path) as batch:
        found = await batch.reconcile()
        summary = batch.summary()
        left = list(batch.entries(State.IN_DOUBT))
    if as_json:
        Output(events=True).tell("reconciled", run=order.run, found=list(found.found), left=list(found.left))
    if found.found:
        there = count(len(found.found), "job is", "jobs are")
        talk(f"{there} at {one_line(session.gateway.name)}: {order.command('resume')}")
    if not left:
        talk("No job is in doubt.")
        return DONE
    talk(f"{count(len(left), 'job is', 'jobs are')} still in doubt; {session.gateway.name} cannot tell:")
    for entry in left[:100]:
        talk(f"  {_doubt(entry, summary.unit)}")
    talk(f"  Look at your account there. Only `{order.command('retry')} --in-doubt` sends them again.")
    return IN_DOUBT


def _doubt(entry: Entry, unit: str) -> str:
    from datetime import UTC, datetime

    sent = datetime.fromtimestamp(entry.intent_at or 0, UTC).isoformat(timespec="seconds")
    row = f"row {entry.row}   " if entry.row is not None else ""
    return f"{row}{one_line(entry.key, 80)}   sent {sent}   up to {money(amount_of(entry.reserved), unit)}"
