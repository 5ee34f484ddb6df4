"""What is sane in what an adapter says: claims that raise `AssertionError` with a sentence if they do not hold."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import get_args

from kling_async.errors import Charged, KlingError
from kling_async.gateways.protocol import Accepted
from kling_async.results import Cost, Snapshot, Status
from kling_async.wire import HttpResponse, is_task_id

LONGEST_TEXT = 4096


def claim(holds: bool, message: str) -> None:
    """Raise unless something holds."""
    if not holds:
        raise AssertionError(message)


def check_error(error: KlingError, response: HttpResponse, where: str) -> None:
    """Check that an error is bounded, printable, JSON-ready, and tells the real status."""
    claim(error.http_status in (None, response.status), f"{where}: http_status is {error.http_status}")
    claim(error.charged in get_args(Charged), f"{where}: charged is {error.charged!r}")
    for name in ("message", "code", "request_id", "raw"):
        text = getattr(error, name)
        fits = text is None or (isinstance(text, str) and len(text) <= LONGEST_TEXT)
        claim(fits, f"{where}: {name} is not a bounded text")
        claim(text is None or text.replace("\n", " ").isprintable(), f"{where}: {name} is not printable: {text!r:.80}")
    claim(error.task_id is None or is_task_id(error.task_id), f"{where}: task_id is {error.task_id!r:.80}")
    foreign = [
        chained for chained in (error.__cause__, error.__context__) if not isinstance(chained, KlingError | None)
    ]
    claim(not foreign, f"{where}: {foreign!r:.200} is chained to the error")
    json.dumps(error.to_dict(), allow_nan=False)


def check_accepted(taken: Accepted, where: str) -> None:
    """Check what was read from the answer to a submit."""
    claim(isinstance(taken, Accepted), f"{where}: is read as {taken!r:.80}, not Accepted")
    claim(is_task_id(taken.task_id), f"{where}: accepts the task id {taken.task_id!r:.80}")
    if taken.snapshot is not None:
        claim(taken.snapshot.task_id == taken.task_id, f"{where}: the snapshot is of another task")
        check_snapshot(taken.snapshot, where)


def check_found(found: Mapping[str, Snapshot], task_id: str, where: str) -> None:
    """Check what was read from the answer to a look at one job."""
    claim(isinstance(found, Mapping), f"{where}: is read as {found!r:.80}, not a mapping")
    claim(set(found) <= {task_id}, f"{where}: tells of {sorted(map(str, found))}, asked was {task_id}")
    for name, snapshot in found.items():
        claim(snapshot.task_id == name, f"{where}: the snapshot is of another task")
        check_snapshot(snapshot, where)


def check_snapshot(snapshot: Snapshot, where: str = "snapshot") -> None:
    """Check that every fact of a snapshot has a sane type and size."""
    claim(isinstance(snapshot.status, Status), f"{where}: status is {snapshot.status!r}")
    claim(sound_amount(snapshot.credits), f"{where}: credits are {snapshot.credits!r}")
    done = snapshot.progress
    claim(done is None or (isinstance(done, float) and 0 <= done <= 1), f"{where}: progress is {done!r}")
    length = snapshot.duration
    sane = length is None or (isinstance(length, float) and math.isfinite(length) and length >= 0)
    claim(sane, f"{where}: duration is {length!r}")
    for name in ("created_at", "finished_at", "estimated_at", "expires_at"):
        moment = getattr(snapshot, name)
        aware = moment is None or (isinstance(moment, datetime) and moment.utcoffset() is not None)
        claim(aware, f"{where}: {name} is {moment!r}, not an aware datetime")
    for address in (*snapshot.urls, *filter(None, [snapshot.thumbnail_url])):
        claim(isinstance(address, str) and address.isprintable(), f"{where}: a URL is {address!r:.80}")
    for text in filter(None, (snapshot.raw_status, snapshot.code, snapshot.message)):
        sane = isinstance(text, str) and len(text) <= LONGEST_TEXT and text.replace("\n", " ").isprintable()
        claim(sane, f"{where}: {text!r:.80} is not a bounded, printable text")


def sound_amount(amount: Decimal | None) -> bool:
    """Tell whether an amount is None, or finite and not below 0."""
    return amount is None or (isinstance(amount, Decimal) and amount.is_finite() and amount >= 0)


def sound_cost(cost: Cost) -> bool:
    """Tell whether a cost has a sound amount and a unit."""
    return isinstance(cost, Cost) and sound_amount(cost.amount) and isinstance(cost.unit, str) and bool(cost.unit)
