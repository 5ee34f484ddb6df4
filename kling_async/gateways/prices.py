"""Published prices as data, each table with the day it was read."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from attrs import frozen

from kling_async.results import Cost


@frozen
class PriceTable:
    """Prices of one gateway.

    Args:
        as_of: the day the published table was read.
        per_second: credits per second of video, by what is bought and whether it has sound.
        fixed: credits per video, by what is bought.
    """

    as_of: date
    per_second: Mapping[tuple[str, bool], int]
    fixed: Mapping[str, int]

    def price(self, item: object, duration: object, sound: object) -> Cost | None:
        """Return the price of one video, or None where the table does not know it."""
        if not isinstance(item, str) or not isinstance(sound, bool):
            return None
        if item in self.fixed:
            return Cost(Decimal(self.fixed[item]))
        rate = self.per_second.get((item, sound))
        whole = isinstance(duration, (int, float)) and not isinstance(duration, bool) and duration > 0
        return Cost(Decimal(rate) * Decimal(str(duration))) if rate is not None and whole else None


def _both(rates: Mapping[str, tuple[int, int]]) -> dict[tuple[str, bool], int]:
    return {
        (item, sound): rate for item, pair in rates.items() for sound, rate in zip((False, True), pair, strict=True)
    }


# https://kling3api.com/docs, the newer revision: credits per second without and with sound (the same for O3).
KLING3API = PriceTable(
    as_of=date(2026, 11, 20),
    per_second=_both(
        {
            "pro-text-to-video": (54, 80),
            "pro-image-to-video": (54, 80),
            "std-text-to-video": (40, 60),
            "std-image-to-video": (40, 60),
            "o3-pro-text-to-video": (48, 48),
            "o3-pro-image-to-video": (48, 48),
            "o3-pro-reference-to-video": (72, 72),
            "o3-std-text-to-video": (36, 36),
            "o3-std-image-to-video": (36, 36),
            "o3-std-reference-to-video": (20, 20),
        }
    ),
    fixed={"o3-pro-video-edit": 435, "o3-std-video-edit": 360},
)

# https://apiin.one, the Kling 3.0 page: "std no-audio 40/s, std with-audio 60/s, pro no-audio 54/s, pro with-audio
# 80/s".
APIIN = PriceTable(as_of=date(2026, 11, 20), per_second=_both({"std": (40, 60), "pro": (54, 80)}), fixed={})


def cost_of(table: PriceTable, body: Mapping[str, Any], item: str, *, sound_default: bool) -> Cost | None:
    """Return the price of a body as it will be sent, so that an override in `extra` is priced too."""
    return table.price(body.get(item), body.get("duration", 5), body.get("sound", sound_default))
