"""What is sane in what an adapter says: claims that raise `AssertionError` with a sentence if they do not hold."""

import json
import math
import pickle
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, get_args

from kling_async.errors import Charged, KlingError
from kling_async.gateways.protocol import Accepted
from kling_async.gateways.reading import MAX_AMOUNT, MAX_URL, MAX_URLS
from kling_async.results import Balance, Cost, Snapshot, Status
from kling_async.wire import HttpResponse, is_task_id

LONGEST_TEXT = 4096


def claim(holds: bool, message: str) -> None:
    """Raise unless something holds."""
    if not holds:
        raise AssertionError(message)


def check_text(text: object, where: str, longest: int = LONGEST_TEXT) -> None:
    """Check that a text is bounded, and one line without a character that steers a terminal or turns a text round."""
    claim(isinstance(text, str) and len(text) <= longest, f"{where} is not a bounded text: {text!r:.80}")
    claim(str(text).isprintable(), f"{where} is not printable: {text!r:.80}")


def check_error(error: KlingError, response: HttpResponse | None, where: str) -> None:
    """Check that an error is bounded, printable, ready for JSON and pickle, and tells the real status."""
    claim(error.http_status in (None, response and response.status), f"{where}: http_status is {error.http_status}")
    claim(error.charged in get_args(Charged), f"{where}: charged is {error.charged!r}")
    for name in ("message", "code", "request_id", "field"):
        if getattr(error, name) is not None:
            check_text(getattr(error, name), f"{where}: {name}")
    if error.raw is not None:
        check_text(error.raw.replace("\n", " "), f"{where}: raw")
    wait = error.retry_after
    claim(wait is None or (math.isfinite(wait) and wait >= 0), f"{where}: retry_after is {wait!r}")
    claim(error.task_id is None or is_task_id(error.task_id), f"{where}: task_id is {error.task_id!r:.80}")
    foreign = [
        chained for chained in (error.__cause__, error.__context__) if not isinstance(chained, KlingError | None)
    ]
    claim(not foreign, f"{where}: {foreign!r:.200} is chained to the error")
    told = error.to_dict()
    check_json(told, where)
    claim(pickle.loads(pickle.dumps(error)).to_dict() == told, f"{where}: does not pickle")  # noqa: S301 - our own


def check_json(told: Any, where: str) -> None:
    """Check that plain data can be written as JSON, and that as UTF-8."""
    try:
        json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        found = type(error).__name__
    else:
        return
    raise AssertionError(f"{where}: is no data for JSON in UTF-8 ({found}): {told!r:.200}")


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
    claim(len(snapshot.urls) <= MAX_URLS, f"{where}: there are {len(snapshot.urls)} URLs")
    for address in (*snapshot.urls, *filter(None, [snapshot.thumbnail_url])):
        check_text(address, f"{where}: a URL", MAX_URL)
    for name in ("raw_status", "code", "message", "odd_credits"):
        if getattr(snapshot, name) is not None:
            check_text(getattr(snapshot, name), f"{where}: {name}")
    check_json(snapshot.to_dict(), where)
    check_json(dict(snapshot.raw), f"{where}: raw")
    claim(pickle.loads(pickle.dumps(snapshot)) == snapshot, f"{where}: does not pickle")  # noqa: S301 - our own


def check_balance(balance: Balance, where: str) -> None:
    """Check what was read of an account."""
    claim(isinstance(balance, Balance), f"{where}: is read as {balance!r:.80}, not Balance")
    claim(sound_amount(balance.amount) and sound_amount(balance.used), f"{where}: reads {balance!r:.200}")
    claim(balance.amount is not None or balance.unlimited, f"{where}: names neither an amount nor no limit")
    claim(isinstance(balance.unlimited, bool), f"{where}: unlimited is {balance.unlimited!r:.80}")
    check_text(balance.unit, f"{where}: unit", 20)


def sound_amount(amount: Decimal | None) -> bool:
    """Tell whether an amount is None, or from 0 to a thousand million: more is no price, and no column holds it."""
    return amount is None or (isinstance(amount, Decimal) and amount.is_finite() and 0 <= amount <= MAX_AMOUNT)


def sound_cost(cost: Cost) -> bool:
    """Tell whether a cost has a sound amount and a unit."""
    return isinstance(cost, Cost) and sound_amount(cost.amount) and isinstance(cost.unit, str) and bool(cost.unit)
