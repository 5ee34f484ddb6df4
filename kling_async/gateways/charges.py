"""What a gateway says it charges: an amount, or what stands where an amount should."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kling_async.errors import shown
from kling_async.gateways.reading import amount

_KINDS = {bool: "true or false", str: "a text", list: "a list", dict: "an object"}


def charge_in(data: Mapping[str, Any], *names: str, always: bool = False) -> tuple[Decimal | None, str | None]:
    """Return (amount, None), or (None, what is said instead) for what is no amount, or (None, None) for nothing said.

    Args:
        data: the answer's task.
        names: of the members, the first that there is counts.
        always: the gateway documents an amount in every answer, so that null is none. A number that is not finite is
            read as null.
    """
    name = next((name for name in names if name in data), None)
    said = data.get(name) if name is not None else None
    found = amount(said)
    if found is not None or name is None:
        return found, None
    if said is None:
        return None, "null, or a number that is none" if always else None
    # A text is only named: nobody wants a stranger's sentences in a log.
    return None, _KINDS.get(type(said)) or shown(said, 40)
