"""Money as the journal keeps it: whole millionths of the gateway's unit, never a float."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, InvalidOperation
from typing import Any

from kling_async.errors import ConfigurationError, shown
from kling_async.results import Cost

MICRO = 1_000_000
MOST = Decimal(10**12)
"""No price, balance or budget is taken that is larger."""
_UP, _DOWN = Context(rounding=ROUND_CEILING), Context(rounding=ROUND_FLOOR)


def micros(amount: Decimal) -> int:
    """Return an amount in millionths, rounded up: what is reserved is never too little."""
    exact = _UP.multiply(min(max(amount, Decimal(0)), MOST), Decimal(MICRO))
    return int(exact.to_integral_value(ROUND_CEILING))


def amount_of(micro: int) -> Decimal:
    """Return millionths as an amount, without zeros behind the point."""
    whole = Decimal(micro) / MICRO
    return whole.quantize(Decimal(1)) if whole == whole.to_integral_value() else whole.normalize()


def limit_of(name: str, value: Any) -> int | None:
    """Return a limit of the user's in millionths; None for none.

    Raises `ConfigurationError` for anything but an amount from 0 to 10¹².
    """
    if value is None:
        return None
    given = value.amount if isinstance(value, Cost) else value
    try:
        amount = Decimal(str(given)) if not isinstance(given, bool) else None
    except (InvalidOperation, ValueError):
        amount = None
    if amount is None or not amount.is_finite() or not 0 <= amount <= MOST:
        raise ConfigurationError(f"{name} must be an amount of credits from 0, not {shown(value)}", field=name)
    return int(_DOWN.multiply(amount, Decimal(MICRO)))
