"""`kling spend`: what the runs on record cost, by day, model, gateway or run."""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import define, field

from kling_async.batch.amounts import amount_of
from kling_async.batch.entry import Entry
from kling_async.batch.states import State
from kling_async.cli.codes import DONE, UNEXPECTED
from kling_async.cli.on_record import Known, known, moment, object_in
from kling_async.cli.output import plain_json, talk
from kling_async.cli.pouring import pour, text
from kling_async.cli.store import Store
from kling_async.cli.words import columns, count, money, one_line
from kling_async.errors import JournalError, KlingError
from kling_async.requests import default_model

Label = Callable[[Known, Entry], str | None]


@define
class _Spent:
    """Money in millionths, and the jobs that cost it."""

    jobs: int = 0
    spent: int = 0
    reserved: int = 0
    unpriced: int = 0

    def take(self, entry: Entry) -> None:
        """Add a job."""
        self.jobs += 1
        self.spent += entry.spent
        self.reserved += entry.reserved + entry.doubted
        self.unpriced += not entry.held and entry.charged != "no"

    def add(self, other: "_Spent") -> None:
        """Add a group."""
        self.jobs += other.jobs
        self.spent += other.spent
        self.reserved += other.reserved
        self.unpriced += other.unpriced


@define
class _Account:
    """The sums of all journals, by unit of money and label."""

    label: Label
    groups: dict[tuple[str, str | None], _Spent] = field(factory=dict)
    left_out: list[dict[str, Any]] = field(factory=list)
    sandboxes: int = 0

    def take(self, seen: Known) -> None:
        """Add every job of a journal that cost something, or may have: all of them, or none if it cannot be read."""
        found: dict[str | None, _Spent] = {}
        for entry in seen.reading.each(State):
            if entry.held or entry.state not in (State.PLANNED, State.REJECTED):
                found.setdefault(self.label(seen, entry), _Spent()).take(entry)
        for label, spent in found.items():
            self.groups.setdefault((seen.facts.unit, label), _Spent()).add(spent)

    def sums(self) -> dict[str, _Spent]:
        """Return the sum for each unit."""
        found: dict[str, _Spent] = {}
        for (unit, _), spent in self.groups.items():
            found.setdefault(unit, _Spent()).add(spent)
        return found


def show_spend(runs: Sequence[str], store: str | None, *, by: str, sandbox: bool, as_json: bool) -> int:
    """Print what was spent. A journal that cannot be read is named, and makes the exit code 1."""
    place = Store(store)
    paths = list(dict.fromkeys(place.find(name) for name in runs)) or place.runs()
    account = _Account(_labels(by))
    for path in paths:
        _add(account, path, simulated=sandbox or bool(runs), named=bool(runs))
    lines = [plain_json(_document(account, by))] if as_json else map(text, _lines(account, by))
    code = pour(lines)
    for each in account.left_out:
        talk(f"not counted: {one_line(each['run'], 80)}   {one_line(each['problem'])}")
    if account.sandboxes:
        them = "it" if account.sandboxes == 1 else "them"
        talk(f"{count(account.sandboxes, 'run')} of the sandbox not counted; --sandbox counts {them}")
    return code if code != DONE or not account.left_out else UNEXPECTED


def _add(account: _Account, path: Path, *, simulated: bool, named: bool) -> None:
    try:
        with known(path) as seen:
            if seen.simulated and not simulated:
                account.sandboxes += 1
            else:
                account.take(seen)
    except JournalError as error:
        if named:
            raise
        account.left_out.append({"run": path.stem, "code": error.code, "problem": error.message})


def _labels(by: str) -> Label:
    """Return what names the group of a job."""
    if by == "model":
        return _Models()
    return {"day": _day, "gateway": _gateway, "run": _run}[by]


def _day(seen: Known, entry: Entry) -> str | None:
    ended = moment(entry.ended_at)
    return None if ended is None else f"{ended:%Y-%m-%d}"


def _gateway(seen: Known, entry: Entry) -> str | None:
    return entry.gateway or seen.facts.gateway


def _run(seen: Known, entry: Entry) -> str | None:
    return seen.path.stem


class _Models:
    """Names the model of a job; a request is read strictly only once for each kind and model."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str | None] = {}

    def __call__(self, seen: Known, entry: Entry) -> str | None:
        row = object_in(entry.request)
        kind = (str(row.get("type")), str(row.get("model")))
        if kind not in self._names:
            self._names[kind] = _model(entry)
        return self._names[kind]


def _model(entry: Entry) -> str | None:
    try:
        return default_model(entry.asked())
    except (KlingError, ValueError):  # of a version that made other requests
        return None


def _lines(account: _Account, by: str) -> Iterator[str]:
    if not account.groups:
        talk("nothing was spent")
        return
    head = (by, "jobs", "spent", "reserved or in doubt", "of unknown price")
    rows = [_cells("not ended" if by == "day" else "unknown", key, spent) for key, spent in _sorted(account)]
    totals = [_cells("", (unit, "all"), spent) for unit, spent in sorted(account.sums().items())]
    yield from columns([head, *rows, *totals], right=(1, 2, 3, 4))


def _cells(missing: str, key: tuple[str, str | None], spent: _Spent) -> tuple[str, ...]:
    unit, label = key
    name = missing if label is None else one_line(label, 80)
    amounts = (money(amount_of(micro), one_line(unit, 20)) for micro in (spent.spent, spent.reserved))
    return (name, f"{spent.jobs:,}", *amounts, f"{spent.unpriced:,}")


def _sorted(account: _Account) -> list[tuple[tuple[str, str | None], _Spent]]:
    return sorted(account.groups.items(), key=lambda item: (item[0][0], item[0][1] is None, item[0][1] or ""))


def _document(account: _Account, by: str) -> dict[str, Any]:
    groups = [{by: label, "unit": unit, **_told(spent)} for (unit, label), spent in _sorted(account)]
    totals = [{"unit": unit, **_told(spent)} for unit, spent in sorted(account.sums().items())]
    return {
        "v": 1,
        "by": by,
        "groups": groups,
        "totals": totals,
        "sandbox_runs_left_out": account.sandboxes,
        "not_counted": account.left_out,
    }


def _told(spent: _Spent) -> dict[str, Any]:
    return {
        "jobs": spent.jobs,
        "spent": _amount(amount_of(spent.spent)),
        "reserved": _amount(amount_of(spent.reserved)),
        "unpriced": spent.unpriced,
    }


def _amount(amount: Decimal) -> str:
    return f"{amount:f}"
