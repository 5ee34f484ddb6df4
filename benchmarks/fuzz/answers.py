"""The documented answers, and the ones that are made of them: each is told by a seed and a number."""

import json
import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from attrs import frozen

from benchmarks.fuzz.splices import Place, places_in, spliced, whole_values
from benchmarks.fuzz.spoiling import spoilt
from benchmarks.fuzz.tokens import HEADERS, JUNK, NAMES, STATUSES, STRANGERS, VALUES
from kling_async.flow.backoff import retry_after
from kling_async.gateways.apiin import ApiIn
from kling_async.gateways.apimart import ApiMart
from kling_async.gateways.kling3api import Kling3Api
from kling_async.gateways.klinggenerator import KlingGenerator
from kling_async.gateways.protocol import Gateway
from kling_async.requests import ImageToVideo, ReferenceToVideo, Request, TextToVideo, VideoEdit
from kling_async.wire import Exchange, HttpResponse

BODIES = Path(__file__).parents[2] / "tests" / "gateways" / "bodies"
API_KEY = "sk-canary-0123456789"
NOW = 1_792_000_000.0
LARGEST = 1024 * 1024
"""The transport hands out no more."""

GATEWAYS: Mapping[str, Gateway] = {
    adapter.name: adapter(API_KEY) for adapter in (Kling3Api, ApiIn, KlingGenerator, ApiMart)
}
ASKED = {
    "kling3api": "n75abc123kling3",
    "apiin": "n75xxxx_kling3",
    "klinggenerator": "job_abc123xyz789",
    "apimart": "task_01KV0000000000000000000000",
}
"""The task that a look asks about: the one that the documented answers tell of."""
REQUESTS: Mapping[str, Request] = {
    request.kind: request
    for request in (
        TextToVideo("a paper boat in the rain"),
        ImageToVideo("it sails off", image="https://example.com/boat.jpg"),
        ReferenceToVideo("the same boat at sea", images=("https://example.com/boat.jpg",)),
        VideoEdit("make it snow", video="https://example.com/boat.mp4"),
    )
}


_NAMES = tuple(GATEWAYS)


@frozen
class Answer:
    """One answer, and the conversation it is an answer in.

    Args:
        gateway: the adapter.
        talk: the conversation: "poll", "balance", "submit text-to-video" and so on.
        status, headers, body: what arrives; the headers by lower-case name.
    """

    gateway: str
    talk: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def response(self) -> HttpResponse:
        """Return it as the transport hands it out."""
        wait = self.headers.get("retry-after")
        return HttpResponse(self.status, self.headers, self.body, None if wait is None else retry_after(wait, NOW))

    def exchange(self) -> Exchange[Any]:
        """Begin the conversation."""
        return conversations(self.gateway)[self.talk]()


@cache
def conversations(name: str) -> Mapping[str, Callable[[], Exchange[Any]]]:
    """Return every conversation that an adapter can hold."""
    gateway = GATEWAYS[name]
    told: dict[str, Callable[[], Exchange[Any] | None]] = {
        "poll": lambda: gateway.poll([ASKED[name]]),
        "find": lambda: gateway.find("kling-0123456789abcdef"),
        "cancel": lambda: gateway.cancel(ASKED[name]),
        "balance": gateway.balance,
        "upload": lambda: gateway.upload("a.jpg", "image/jpeg", b"\xff\xd8"),
    }
    for kind in gateway.kinds:
        told[f"submit {kind}"] = lambda kind=kind: gateway.submit(REQUESTS[kind], "kling-0123456789abcdef")  # type: ignore[misc]
    return {words: begin for words, begin in told.items() if begin() is not None}  # type: ignore[misc]


@frozen
class Documented:
    """An answer written by hand from the documents.

    Args:
        status, headers, body: as it arrives.
        text, places: the same as compact JSON, with the places of its values; nothing for one that is no JSON.
        yes: whether it is anything but an error.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    text: str
    places: Sequence[Place]
    yes: bool


@cache
def documented(gateway: str, of: str) -> Sequence[Documented]:
    """Return the answers that are documented for one kind of conversation, or all of the gateway's."""
    file = BODIES / gateway / "cases.toml"
    found = [row for row in tomllib.loads(file.read_text(encoding="utf-8"))["case"] if of in ("", row["of"])]
    return [_documented(row, file.parent) for row in found] or documented(gateway, "")


@cache
def _agreeing(gateway: str, of: str) -> Sequence[Documented]:
    return [said for said in documented(gateway, of) if said.yes]


def _choices(gateway: str, of: str, kind: float) -> Sequence[Documented]:
    """Return answers to draw from: more often than not such as say yes."""
    return _agreeing(gateway, of) if kind < 0.6 else documented(gateway, of if kind < 0.92 else "")


def _documented(row: Mapping[str, Any], folder: Path) -> Documented:
    body = (folder / row["file"]).read_bytes() if "file" in row else row["text"].encode()
    try:
        text, places = places_in(json.loads(body))
    except ValueError:
        text, places = "", ()
    return Documented(row.get("http", 200), row.get("headers", {}), body, text, places, "error" not in row)


@cache
def _strange() -> Sequence[bytes]:
    return [path.read_bytes() for path in sorted((BODIES / "any").iterdir())] + list(STRANGERS)


@cache
def _values(gateway: str) -> Sequence[str]:
    """Return every value of a gateway's answers as text."""
    found = {each: None for said in documented(gateway, "") for each in whole_values(said.text, said.places)}
    return list(found)


class Answers:
    """Makes answers: the same seed makes the same answer of a number, on any machine."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._rng = random.Random(seed)

    def numbered(self, number: int) -> Answer:
        """Return one answer."""
        rng = self._rng
        rng.seed(self.seed << 40 | number)
        gateway = rng.choice(_NAMES)
        talk = _talk(rng, list(conversations(gateway)))
        of = talk.split()[0]
        said = rng.choice(_choices(gateway, of, rng.random()))
        body = _body(rng, gateway, said)[:LARGEST]
        status = said.status if rng.random() < 0.8 else rng.choice(STATUSES)
        return Answer(gateway, talk, status, _headers(rng, said.headers), body)

    def __call__(self, numbers: Sequence[int]) -> Iterator[tuple[int, Answer]]:
        """Yield some answers with their numbers."""
        for number in numbers:
            yield number, self.numbered(number)


def _talk(rng: random.Random, held: Sequence[str]) -> str:
    """Draw a conversation: submits and looks more often than the rest."""
    submits = [each for each in held if each.startswith("submit")]
    others = [each for each in held if each not in (*submits, "poll")]
    kind = rng.random()
    if kind < 0.2 and others:
        return rng.choice(others)
    return rng.choice(submits) if kind < 0.6 else "poll"


def _body(rng: random.Random, gateway: str, said: Documented) -> bytes:
    kind = rng.random()
    if kind < 0.08:
        return said.body
    if kind < 0.78 and said.places:
        text = spliced(rng, said.text, said.places, _values(gateway))
        body = text.encode("utf-8", "surrogatepass")
        return body if rng.random() < 0.9 else spoilt(rng, body, said.body)
    if kind < 0.95:
        return spoilt(rng, said.body, rng.choice(documented(gateway, "")).body)
    if kind < 0.9995:
        return rng.choice(_strange())
    return _huge(rng, said)


def _headers(rng: random.Random, said: Mapping[str, str]) -> Mapping[str, str]:
    if rng.random() < 0.7:
        return said
    names = rng.choices(HEADERS, k=rng.choice((1, 1, 2, 3)))
    return {**said, **{name: rng.choice(JUNK) for name in names}}


def _huge(rng: random.Random, said: Documented) -> bytes:
    """Return an answer of up to a mebibyte: one value of it is large, in one way or the other."""
    size = rng.choice((50_000, 300_000, 1_000_000))
    way = rng.randrange(len(_LARGE))
    large = _LARGE[way](rng, size)
    if not said.places:
        return large.encode("utf-8", "surrogatepass")
    place = rng.choice(said.places)
    return (said.text[: place.start] + large + said.text[place.end :]).encode("utf-8", "surrogatepass")


def _times(unit: str, size: int) -> str:
    return unit * max(1, size // len(unit))


_LARGE: Sequence[Callable[[random.Random, int], str]] = (
    lambda rng, size: json.dumps(
        _times(rng.choice(("x", "é", "\x00", "\ud800", '"', "\n", "{", "[ ", " ", "9")), size // 2)
    ),
    lambda rng, size: "[" + _times(rng.choice(("[],", "{},", '"",', "1,", "NaN,", "9" * 5000 + ",")), size) + "0]",
    lambda rng, size: "[" + ",".join(f'"https://e.com/{number}.mp4"' for number in range(size // 25)) + "]",
    lambda rng, size: (
        "{" + ",".join(f"{json.dumps(f'{rng.choice(NAMES)}{number}')}:{number}" for number in range(size // 25)) + "}"
    ),
    lambda rng, size: (
        "{" + ",".join(f"{json.dumps(rng.choice(NAMES))}:{rng.choice(VALUES)}" for _ in range(size // 60)) + "}"
    ),
    lambda rng, size: _times(rng.choice(("[", '{"a":', "[[],", '"\\"')), size),
    lambda rng, size: rng.choice(("", "-", "0.", "1e", "1e-", '"')) + "9" * size,
    lambda rng, size: json.dumps("[" + _times('{"url":"https://e.com/a.mp4"},', size // 2) + "{}]"),
    lambda rng, size: json.dumps('{"error":{"message":"' + "x" * (size // 2) + '"}}'),
    lambda rng, size: "[]" * 40 + '"' + _times('\\"', size),
)
