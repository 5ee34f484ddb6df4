"""`kling status`: where one run stands, what went wrong, and the command that goes on."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from attrs import define, field

from kling_async.batch.entry import Entry
from kling_async.batch.outcomes import STATUS
from kling_async.batch.states import State
from kling_async.cli.on_record import Known, command, known, told_error
from kling_async.cli.output import plain_json
from kling_async.cli.pouring import pour, text
from kling_async.cli.store import Store
from kling_async.cli.words import columns, count, money, one_line

FAILURES_NAMED = 5
"""Failures of one kind that are named."""
DOUBTS_NAMED = 20
"""Jobs in doubt, or late, that are named."""

PAID = {"no": "not charged", "yes": "charged", "unknown": "may have been charged"}
"""Who pays, in words."""
_TITLES = {
    State.FAILED: "failed",
    State.REJECTED: "failed",
    State.SUCCEEDED: "made, but not downloaded",
    State.IN_DOUBT: "in doubt: sent, and nobody can say whether the gateway took it",
    State.SUBMITTING: "in doubt: the program ended while it was being sent",
    State.ACCEPTED: "late: no result yet; still being made at the gateway and paid for",
}


@define
class _Group:
    """Jobs to which the same happened; the first of them are kept."""

    state: State
    error: str | None
    code: str | None
    charged: str | None
    jobs: int = 0
    first: list[Entry] = field(factory=list)

    def take(self, entry: Entry) -> None:
        """Count a job."""
        self.jobs += 1
        most = FAILURES_NAMED if self.state in (State.FAILED, State.REJECTED, State.SUCCEEDED) else DOUBTS_NAMED
        if len(self.first) < most:
            self.first.append(entry)


def show_status(run: str | None, store: str | None, *, as_json: bool) -> int:
    """Print the summary of a run."""
    path = Store(store).find(run)
    with known(path) as seen:
        groups = _groups(seen)
        following = _next(seen, store, more=any(group.jobs > len(group.first) for group in groups))
        if as_json:
            return pour([plain_json(_document(seen, groups, following))])
        return pour(map(text, _lines(seen, groups, following)))


def _groups(seen: Known) -> list[_Group]:
    """Gather what did not end well, the largest group first; while a run is driven, what is under way is not late."""
    states = [State.FAILED, State.REJECTED, State.IN_DOUBT]
    if seen.driver is None:
        states += [State.SUBMITTING, State.ACCEPTED]
    if seen.downloads:
        states.append(State.SUCCEEDED)
    found: dict[tuple[str | None, ...], _Group] = {}
    # One state after the other comes from an index, however many jobs are done.
    for entry in chain.from_iterable(seen.reading.each([state]) for state in states):
        error, code, _ = told_error(entry)
        if entry.state is State.SUCCEEDED and error is None:
            continue
        kind = (entry.state, error, code, entry.charged)
        found.setdefault(kind, _Group(*kind)).take(entry)
    order = list(_TITLES)
    return sorted(found.values(), key=lambda group: (order.index(group.state), -group.jobs))


def _lines(seen: Known, groups: Iterable[_Group], following: Iterable[tuple[str, str]]) -> Iterator[str]:
    facts, summary = seen.facts, seen.summary
    whence = f"   {'stdin' if facts.source == '-' else one_line(facts.source)}" if facts.source else ""
    where = f" to {one_line(facts.directory)}" if facts.directory else ""
    sandbox = " (sandbox)" if seen.simulated else ""
    yield f"{one_line(seen.path.stem, 80)}{whence}{where}   {one_line(facts.gateway, 60)}{sandbox}"
    yield counts_in_words(seen)
    unit = one_line(summary.unit, 20)
    held = f", {money(summary.reserved, unit)} reserved or in doubt" if summary.reserved else ""
    yield f"{money(summary.spent, unit)} spent{held}"
    yield "no process drives it" if seen.driver is None else f"process {seen.driver} drives it{_stopping(facts.stop)}"
    first = True
    for group in groups:
        if first:
            yield from ("", "Not done:")
            first = False
        yield from _group_lines(group)
    if following:
        yield ""
        yield from (f"  {line}" for line in columns(following))


def _stopping(stop: str | None) -> str:
    return "" if stop is None else ", and was asked to end at once" if stop == "now" else ", and was asked to stop"


def counts_in_words(seen: Known) -> str:
    """Return "2,117 of 4,800 done, 47 failed, 24 being made, 2,612 not sent"."""
    summary = seen.summary
    here = "being made" if seen.driver is not None else "late"
    missing = summary.succeeded if seen.downloads else 0
    parts = [
        (missing, "of them not downloaded"),
        (summary.failed + summary.rejected, "failed"),
        (summary.in_doubt, "in doubt"),
        (summary.submitting, "being sent" if seen.driver is not None else "cut off while being sent"),
        (summary.accepted, here),
        (summary.planned, "not sent"),
    ]
    told = [f"{number:,} {words}" for number, words in parts if number]
    return ", ".join([f"{summary.done:,} of {count(summary.total, 'job')} done", *told])


def _group_lines(group: _Group) -> Iterator[str]:
    words = [one_line(part, 80) for part in (group.error, group.code, PAID.get(group.charged or "", "")) if part]
    if group.state is State.ACCEPTED:
        words = []
    joint = ": " if group.state in (State.FAILED, State.REJECTED) and words else "   " if words else ""
    yield f"  {group.jobs:,} {_TITLES[group.state]}{joint}{'   '.join(words)}"
    for entry in group.first:
        message = told_error(entry)[2]
        parts = [f"row {entry.row}"] if entry.row is not None else []
        parts += [one_line(entry.key, 80)] + ([one_line(message)] if message else [])
        parts += [f"task {one_line(entry.task_id, 140)}"] if entry.task_id else []
        yield f"      {'   '.join(parts)}"
    if group.jobs > len(group.first):
        yield f"      and {group.jobs - len(group.first):,} more"


def _next(seen: Known, store: str | None, *, more: bool) -> list[tuple[str, str]]:
    """Return what can be done now, each with its command."""
    summary = seen.summary
    if seen.driver is not None:
        verbs = [("look", "watch"), ("stop", "stop")]
    else:
        unfinished = summary.unfinished or (summary.succeeded and seen.downloads)
        possible = (
            ("go on", "resume", unfinished),
            ("find out", "reconcile", summary.in_doubt),
            ("again", "retry", summary.failed + summary.rejected),
        )
        verbs = [(words, verb) for words, verb, holds in possible if holds]
    verbs += [("every job", "export")] if more else []
    return [(words, command(verb, seen.path, store)) for words, verb in verbs]


def _document(seen: Known, groups: Iterable[_Group], following: Iterable[tuple[str, str]]) -> dict[str, Any]:
    told = [
        {
            "status": STATUS[group.state],
            "error": group.error,
            "code": group.code,
            "charged": group.charged,
            "jobs": group.jobs,
            "first": [
                {"key": each.key, "row": each.row, "task_id": each.task_id, "message": told_error(each)[2]}
                for each in group.first
            ],
        }
        for group in groups
    ]
    return {"v": 1, **seen.to_dict(), "groups": told, "next": [line for _, line in following]}
