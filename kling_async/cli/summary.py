"""The end of a run in words: what is done, what is not and why, who was charged, what is in doubt."""

from collections.abc import Iterable, Iterator, Sequence

from kling_async.cli.events import Event
from kling_async.cli.tally import Tally
from kling_async.cli.words import count, fetch_command, money, one_line, span

MOST_NAMED = 100
"""Failures of one kind that are named; what is in doubt or late is always named."""

_TITLES = {
    "failed": "failed",
    "download_failed": "made, but not downloaded",
    "late": "still being made at the gateway, and paid for",
    "in_doubt": "in doubt: sent, and nobody can say whether the gateway took it",
    "not_sent": "not sent",
}
_PAID = {"no": "not charged", "yes": "charged", "unknown": "may have been charged"}


def summary_lines(tally: Tally, now: float, gateway: str = "the gateway") -> list[str]:
    """Return the summary, one line each."""
    counts = tally.counts
    parts = [f"{counts['succeeded']:,} done"]
    for kind, words in (("failed", "failed"), ("late", "late"), ("in_doubt", "in doubt"), ("not_sent", "not sent")):
        if counts[kind]:
            parts.append(f"{counts[kind]:,} {words}")
    if counts["download_failed"]:
        parts.append(f"{counts['download_failed']:,} not downloaded")
    left_out = f"; {count(tally.left_out, 'row was', 'rows were')} not valid and left out" if tally.left_out else ""
    took = span(now - tally.began)
    lines = [f"{', '.join(parts)} of {count(tally.total, 'clip')} in {took}; {_spend(tally)}{left_out}"]
    if tally.troubles:
        lines += ["", "Not done:"]
        for kind in _TITLES:
            lines += _of_kind(kind, [each for each in tally.troubles if each.kind == kind], recorded=tally.recorded)
    if counts["in_doubt"]:
        lines.append(
            f"  Look at {one_line(gateway, 60)} before you send again what is in doubt: it may have been charged."
        )
    return lines


def _spend(tally: Tally) -> str:
    spent = f"{money(tally.spent)} spent"
    if tally.unpriced:
        spent += f", and {count(tally.unpriced, 'clip')} whose cost the gateway does not tell"
    return spent


def _of_kind(kind: str, events: Sequence[Event], *, recorded: bool) -> Iterator[str]:
    if kind == "not_sent":
        if events:
            rows = _ranges(event.job.row for event in events if event.job is not None)
            yield f"  {len(events):,} not sent, not charged: rows {rows}"
        return
    groups: dict[tuple[str, str, str], list[Event]] = {}
    for event in events:
        error = event.error
        name = type(error).__name__ if error is not None else ""
        groups.setdefault((name, (error.code if error else "") or "", event.charged), []).append(event)
    for (name, code, charged), members in sorted(groups.items(), key=lambda item: -len(item[1])):
        words = [one_line(part, 80) for part in (name, code, _PAID.get(charged, "")) if part]
        yield f"  {len(members):,} {_TITLES[kind]}{': ' if kind == 'failed' else '   '}{'   '.join(words)}"
        members.sort(key=lambda event: event.job.row if event.job is not None else 0)
        shown = members if kind in ("late", "in_doubt") else members[:MOST_NAMED]
        yield from (f"      {_one(event, recorded=recorded)}" for event in shown)
        if len(members) > len(shown):
            yield f"      and {len(members) - len(shown):,} more (--json names every one)"


def _one(event: Event, *, recorded: bool) -> str:
    job, error = event.job, event.error
    parts = [f"row {job.row}", one_line(job.key, 80)] if job is not None else []
    parts.append(one_line(error.message if error is not None else event.message))
    if event.task_id and event.kind in ("late", "download_failed") and not recorded:
        command = fetch_command(event.task_id)
        parts += [] if command in parts[-1] else [command]
    elif event.task_id:
        parts.append(f"task {one_line(event.task_id, 140)}")
    if error is not None and event.kind == "in_doubt":
        parts += [f"HTTP {error.http_status}"] if error.http_status else []
        parts += [f"request {one_line(error.request_id, 140)}"] if error.request_id else []
        parts += [f"sent {error.attempts} x"] if error.attempts else []
    return "   ".join(parts)


def _ranges(rows: Iterable[int], most: int = 20) -> str:
    """Return "3, 7-12, 20"."""
    found: list[list[int]] = []
    for row in sorted(rows):
        if found and row == found[-1][1] + 1:
            found[-1][1] = row
        else:
            found.append([row, row])
    told = [str(first) if first == last else f"{first}-{last}" for first, last in found[:most]]
    return ", ".join(told) + (", …" if len(found) > most else "")
