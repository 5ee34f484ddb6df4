"""What an account may do: calls a second, submits a day."""

from attrs import define, field

DAY = 86_400


@define
class Bucket:
    """A token bucket: `rate` calls a second, `burst` of them at once."""

    rate: float
    burst: float
    tokens: float
    at: float

    def take(self, now: float) -> float:
        """Take a token and return 0, or the seconds until there is one."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1 - 1e-9:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0.0


@define
class Buckets:
    """One bucket for each key; made anew when the rate was changed."""

    found: dict[str, Bucket] = field(factory=dict)

    def take(self, key: str, rate: float | None, burst: float | None, now: float) -> float:
        """The seconds that a call comes too early; 0 when it is welcome."""
        if rate is None:
            return 0.0
        bucket = self.found.get(key)
        if bucket is None or bucket.rate != rate:
            most = max(2.0, rate / 4) if burst is None else max(1.0, burst)
            bucket = self.found[key] = Bucket(rate, most, most, now)
        return bucket.take(now)


@define
class Quota:
    """Submits of one UTC day, for each key."""

    day: int = -1
    used: dict[str, int] = field(factory=dict)

    def remaining(self, key: str, quota: int, wall: float) -> int:
        """How many submits are left today; `wall` is Unix seconds."""
        if int(wall // DAY) != self.day:
            self.day = int(wall // DAY)
            self.used.clear()
        return max(0, quota - self.used.get(key, 0))

    def use(self, key: str) -> None:
        """Count a submit."""
        self.used[key] = self.used.get(key, 0) + 1
