"""Names for jobs: the user's own, or one that the same input gets again; and a job's identity at its gateway."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from attrs import frozen

from kling_async.asked import invalid_argument, key_fault, request_fault
from kling_async.errors import Fault, InvalidRequestError, shown
from kling_async.requests import Request
from kling_async.rows import request_from, request_to, row_key


@frozen
class Planned:
    """One job on its way into a batch; see `Entry` for what the names mean."""

    key: str
    request: Request
    row: int | None = None
    name: str | None = None
    input: str | None = None


BatchItem: TypeAlias = Request | tuple[str, Request] | Mapping[str, Any] | Planned
"""A request, a key of your own and a request, or a plain row as `request_from` takes it."""


def named(items: Iterable[Any], names: "Names") -> Iterator[Planned]:
    """Yield every item under its key. Raises `InvalidRequestError` for what is no job."""
    for item in items:
        yield names.of(item)


class Names:
    """Names the jobs of one input: those that have no key get a hash of the request, and a number among equals."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._given: dict[int, int] = {}

    def of(self, item: object) -> Planned:
        """Return an item under its key. Raises `InvalidRequestError` for what is no job."""
        if isinstance(item, Planned):
            self._refuse_twins(item.key, item.request)
            return item
        key: str | None = None
        if isinstance(item, tuple) and len(item) == 2:
            key, request = item
            if key is None:
                raise invalid_argument("key", "a pair is a key and a request; this key is None")
        elif isinstance(item, Mapping):
            key = row_key(item)
            request = request_from(item)
        else:
            request = item
        fault = key_fault(key) or request_fault(request)
        if fault is not None:
            raise fault
        name = key if key is not None else self.derived(request)
        self._refuse_twins(name, request)
        return Planned(name, request)

    def _refuse_twins(self, key: str, request: Request) -> None:
        """Two requests of one input under one key: which of them is meant, nobody can say."""
        name = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8])
        asked = int.from_bytes(digest_of(request)[:8])
        if self._given.setdefault(name, asked) != asked:
            raise invalid_argument("key", f"{shown(key)} names two requests of this input")

    def derived(self, request: Request) -> str:
        """Return the name of a request that has none of its own."""
        digest = digest_of(request)
        short = int.from_bytes(digest[:8])
        number = self._seen.get(short, 0) + 1
        self._seen[short] = number
        words = slug(request.prompt or "") or request.kind
        return f"{words}-{digest.hex()[:16]}" + (f"-{number}" if number > 1 else "")


def said(request: Request) -> str:
    """Return a request as the journal keeps it: one line of JSON, the same for equal requests."""
    return json.dumps(request_to(request), sort_keys=True, separators=(",", ":"))


def digest_of(request: Request) -> bytes:
    """Return a hash of a request, equal for equal requests."""
    return hashlib.sha256(said(request).encode()).digest()


def identity_of(batch: str, key: str, digest: bytes, attempt: int) -> str:
    """Return a job's identity at the gateway: the same for the same batch, key, request and attempt."""
    text = json.dumps([batch, key, digest.hex(), attempt])
    return f"kling-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def mark_of(batch: str, base_url: str, secret: str) -> str:
    """Return a mark of the account that pays, which does not tell its key; another account knows none of its jobs."""
    text = json.dumps([batch, base_url, secret])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def slug(prompt: str, words: int = 6, longest: int = 48) -> str:
    """Return the first words of a prompt as a part of a file name, or "" where it has no plain letters."""
    plain = unicodedata.normalize("NFKD", re.sub(r"\[[^\]]*\]", " ", prompt[:1000]))
    found = re.findall(r"[a-z0-9]+", plain.encode("ascii", "ignore").decode().lower())
    if len(found) > 1 and found[0] in ("a", "an", "the"):
        found = found[1:]
    return "-".join(found[:words])[:longest].strip("-")


def conflict(keys: Iterable[str]) -> InvalidRequestError:
    """Return the error for keys that name other jobs of the batch already."""
    words = "names another request of this batch, which was sent already; give the new one a key of its own"
    return InvalidRequestError.of([Fault("key", "INVALID_PARAMETER", f"{shown(key)} {words}") for key in keys])
