"""What an adapter is: a handful of conversations and a few facts. It never does I/O and never reads a clock."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Protocol

from attrs import frozen

from kling_async.requests import Request
from kling_async.results import Balance, Cost, Snapshot
from kling_async.settings import RateLimit
from kling_async.wire import Exchange, HttpRequest


@frozen
class Accepted:
    """A gateway took a request.

    Args:
        task_id: the gateway's id for the job; see `kling_async.wire.is_task_id`.
        snapshot: what the answer already said of the job, or None.
        replayed: whether the gateway recognised the key and answered as before, without a second job.
    """

    task_id: str
    snapshot: Snapshot | None = None
    replayed: bool = False


class Gateway(Protocol):
    """One API that takes requests.

    A conversation is a generator: it yields `HttpRequest`s, is sent `HttpResponse`s, and returns a value. It raises a
    `KlingError` for an answer that is a refusal. What the error says decides what happens to a paid POST:

    * `InvalidRequestError`, `AuthenticationError`, `PermissionDeniedError`, `InsufficientCreditsError`,
      `QuotaExhaustedError`: the gateway surely did nothing; the job fails.
    * `RateLimitError`, `CapacityError`, and any error with ``charged="no"``: surely not accepted; sent again later.
    * every other error: in doubt.

    None of it is believed against the wire: without a whole answer, or behind a redirect or a 5xx that the adapter does
    not document as not executed (`GatewayUnavailableError` with ``charged="no"``), a paid POST is in doubt.

    Derive from this class to inherit the defaults of what a gateway cannot do.
    """

    name: str
    base_url: str
    """The documented origin, with its prefix if it has one."""

    poll_batch: int = 1
    """How many jobs one poll may ask about."""
    dedupes_by_key: bool = False
    """Whether the same POST with the same key surely makes one job only."""
    dedupes_for: float = 3600.0
    """Seconds for which a key is surely remembered, where it dedupes; no gateway documents it."""
    prices_as_of: date | None = None
    """When the price table behind `estimate` was read."""
    daily_quota: bool = False
    """Whether what its `X-RateLimit-Remaining` counts is documented to be a day's, where no header says so."""
    rates: tuple[RateLimit, ...] = ()
    """Documented request rates."""
    kinds: tuple[str, ...] = ()
    """The kinds of request it takes, in the words of `request_from`."""

    def submit(self, request: Request, key: str) -> Exchange[Accepted]:
        """Ask for a video. Raises `InvalidRequestError` before yielding anything if it cannot be asked for.

        Args:
            request: what is wanted.
            key: the job's identity: 1 to 191 visible ASCII characters, the same each time this job is sent.
        """
        ...

    def poll(self, task_ids: Sequence[str]) -> Exchange[Mapping[str, Snapshot]]:
        """Look at jobs, at most `poll_batch` of them. Jobs missing from the answer were not found."""
        ...

    def find(self, key: str) -> Exchange[Accepted | None] | None:
        """Look for the job that was submitted under a key; None where the gateway cannot look up by key."""
        return None

    def cancel(self, task_id: str) -> Exchange[None] | None:
        """Cancel a job; None where the gateway cannot."""
        return None

    def balance(self) -> Exchange[Balance] | None:
        """Ask what is left on the account; None where the gateway cannot tell."""
        return None

    def upload(self, filename: str, content_type: str, data: bytes) -> Exchange[str] | None:
        """Upload a picture and return its URL; None where the gateway takes no uploads."""
        return None

    def estimate(self, request: Request) -> Cost | None:
        """Return what a request should cost from the published prices; None where they are unknown."""
        return None

    def authorize(self, request: HttpRequest, now: float) -> HttpRequest:
        """Return the request with credentials; `now` is Unix time in seconds."""
        ...
