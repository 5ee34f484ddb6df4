"""`kling plan`: what a file would ask for, what would be refused before sending, and what it should cost."""

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from shutil import disk_usage
from typing import Any

from attrs import define, field

from kling_async.cli.checking import refusal
from kling_async.cli.codes import DONE, USAGE
from kling_async.cli.commands import checked, print_json, print_lines
from kling_async.cli.intake import address_of, changed_rows, planned, unsent
from kling_async.cli.places import is_file
from kling_async.cli.problems import Problem, problem_lines
from kling_async.cli.reading import Job
from kling_async.cli.setup import Setup
from kling_async.cli.showing import Look
from kling_async.cli.store import Store
from kling_async.cli.words import columns, count, money, one_line, span
from kling_async.flow.durations import PRIOR_MEDIAN as MEDIAN
from kling_async.gateways.protocol import Gateway
from kling_async.requests import Request
from kling_async.settings import slot_limit

ASSUMED_SLOTS = 20
"""Where the gateway's own number is still to be found out."""
MEGABYTES = {"std": 0.8, "pro": 1.6, "4k": 5.0}
"""Rough sizes of a second of video, by quality."""


@define
class _Group:
    """Jobs of one kind and quality."""

    jobs: int = 0
    seconds: int = 0
    credits: Decimal = Decimal(0)
    unpriced: int = 0


@define
class _Plan:
    gateway: Gateway
    groups: dict[tuple[str, str], _Group] = field(factory=dict)
    refused: list[Problem] = field(factory=list)
    refused_rows: int = 0
    twins: list[tuple[int, int]] = field(factory=list)
    unit: str = "credits"
    run: str = ""
    ended: int = 0
    megabytes: float = 0.0
    slots: int | None = None
    directory: str = ""
    changed: list[Problem] = field(factory=list)

    def add(self, jobs: Sequence[Job]) -> None:
        """Check and price jobs."""
        seen: dict[Request, int] = {}
        for job in jobs:
            first = seen.setdefault(job.request, job.row)
            if first != job.row:
                self.twins.append((job.row, first))
            faults = refusal(self.gateway, job.request)
            if faults:
                self.refused_rows += 1
                self.refused += [Problem(f"row {job.row}", name, words, code, job.row) for name, code, words in faults]
            else:
                self._price(job.request)

    def _price(self, request: Request) -> None:
        group = self.groups.setdefault((request.kind, request.quality), _Group())
        group.jobs += 1
        group.seconds += getattr(request, "duration", 0)
        self.megabytes += MEGABYTES.get(request.quality, 1.0) * getattr(request, "duration", 10)
        cost = self.gateway.estimate(request)
        if cost is None:
            group.unpriced += 1
        else:
            group.credits += cost.amount
            self.unit = cost.unit

    @property
    def total(self) -> Decimal:
        """What everything with a known price costs."""
        return sum((group.credits for group in self.groups.values()), Decimal(0))


def plan_file(given: Mapping[str, Any]) -> int:
    """Read a file as `run` does and print the plan."""
    setup = Setup(gateway=given["gateway"])
    gateway = setup.adapter()
    name = given["file"]
    reading = checked(name, given["kind"], look=Look(json=given["as_json"]))
    jobs = reading.jobs[: given["limit"]]
    store = Store(given["store"])
    address = address_of(gateway, os.environ.get("KLING_BASE_URL") or gateway.base_url)
    path = store.journal_for(name, setup.name, reading.content, sandbox=False, address=address)
    path = store.latest_for(path)
    items = planned(jobs)
    left = {item.row for item in unsent(path, items)}
    there = path.stem if is_file(path) else ""
    plan = _Plan(gateway, run=there, slots=slot_limit(given["concurrency"]), directory=given["output"])
    plan.ended = len(jobs) - len(left)
    plan.changed = changed_rows(path, items)
    plan.add([job for job in jobs if job.row in left])
    if given["as_json"]:
        print_json(_document(plan, given["file"], len(jobs)))
    else:
        print_lines(_lines(plan, given["file"], len(jobs)))
    return USAGE if plan.refused or plan.changed else DONE


def _lines(plan: _Plan, name: str, jobs: int) -> list[str]:
    prices = plan.gateway.prices_as_of
    dated = f"prices of {prices.isoformat()}" if prices else "no published prices"
    shown = "stdin" if name == "-" else one_line(name)
    lines = [f"{shown}   {count(jobs, 'row')} for {plan.gateway.name}, {dated}", ""]
    cells = [("type", "quality", "jobs", "seconds", plan.unit)]
    for (kind, quality), group in sorted(plan.groups.items()):
        length = f"{group.seconds:,}" if group.seconds else "-"
        cells.append((kind, quality, f"{group.jobs:,}", length, _amount(group)))
    made = sum(group.jobs for group in plan.groups.values())
    unpriced = sum(group.unpriced for group in plan.groups.values())
    total = _amount(_Group(made, 0, plan.total, unpriced))
    cells.append(("all", "", f"{made:,}", f"{sum(group.seconds for group in plan.groups.values()):,}", total))
    lines += columns(cells, right=(2, 3, 4))
    if plan.twins:
        lines += ["", f"{count(len(plan.twins), 'row asks', 'rows ask')} for the same as an earlier row; each is paid:"]
        twins = [Problem(f"row {row}", "", f"the same as row {first}") for row, first in plan.twins]
        lines += problem_lines(twins)
    if plan.run:
        ended = count(plan.ended, "row was", "rows were")
        lines += ["", f"  done    {ended} sent before, in run {plan.run}; the table is what is left"]
    lines += ["", *_forecast(plan, made)]
    if plan.changed:
        rows = count(len(plan.changed), "row asks", "rows ask")
        lines += ["", f"{rows} for something else than was sent under that name, so that `run` would refuse the file:"]
        lines += problem_lines(plan.changed)
    if plan.refused:
        would = count(plan.refused_rows, "row would fail", "rows would fail")
        lines += ["", f"{would} at {plan.gateway.name} before anything is sent for it:"]
        lines += problem_lines(plan.refused)
    return [*lines, "", "Nothing was sent."]


def _forecast(plan: _Plan, made: int) -> list[str]:
    """Say what time and what room the jobs should take; both are rough, and said so."""
    lanes = min(plan.slots or ASSUMED_SLOTS, made) or 1
    seconds = made * MEDIAN / lanes
    slots = (
        f"at {count(lanes, 'slot')}, {MEDIAN:g} s a clip"
        if plan.slots
        else f"at as many slots as the gateway has, {ASSUMED_SLOTS} assumed, {MEDIAN:g} s a clip"
    )
    free = _free(plan.directory)
    room = f" to {one_line(plan.directory)} ({free} free)" if free else ""
    size = f"{plan.megabytes / 1000:,.1f} GB" if plan.megabytes >= 1000 else f"{plan.megabytes:,.0f} MB"
    return [f"  time    about {span(max(seconds, MEDIAN if made else 0))} {slots}", f"  disk    about {size}{room}"]


def _free(directory: str) -> str:
    """Return the room on a disk in words, or "" where nobody can tell."""
    place = Path(directory)
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        return f"{disk_usage(place).free / 1e9:,.0f} GB"
    except OSError:
        return ""


def _amount(group: _Group) -> str:
    if group.unpriced and not group.credits:
        return "unknown"
    return money(group.credits, "").strip() + (f" + {group.unpriced} unknown" if group.unpriced else "")


def _document(plan: _Plan, name: str, jobs: int) -> dict[str, Any]:
    groups = [
        {
            "type": kind,
            "quality": quality,
            "jobs": group.jobs,
            "seconds": group.seconds,
            "cost": f"{group.credits:f}",
            "unpriced": group.unpriced,
        }
        for (kind, quality), group in sorted(plan.groups.items())
    ]
    prices = plan.gateway.prices_as_of
    return {
        "v": 1,
        "file": one_line(name),
        "gateway": plan.gateway.name,
        "prices_as_of": prices.isoformat() if prices else None,
        "rows": jobs,
        "run": plan.run or None,
        "sent_before": plan.ended,
        "changed": [each.row for each in plan.changed],
        "megabytes": round(plan.megabytes, 1),
        "groups": groups,
        "cost": f"{plan.total:f}",
        "unit": plan.unit,
        "same_as_earlier": [{"row": row, "earlier": first} for row, first in plan.twins],
        "refused": [
            {"row": each.row, "field": each.field, "code": each.code, "message": one_line(each.message)}
            for each in plan.refused
        ],
    }
