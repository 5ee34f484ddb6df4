"""How each API writes what is asked of it and what it answers: plain functions from values to values."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, urlsplit

from attrs import frozen

from benchmarks.peers.model import Job, Refused

VIDEOS = "https://videos.invalid"
"""Where the videos are said to be; nobody fetches them."""


@frozen
class Call:
    """One HTTP request as it came: the header's names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The target's query."""
        return dict(parse_qsl(urlsplit(self.target).query))


@frozen
class Asked:
    """What a request asks for.

    Args:
        what: a new job, a look at one, or its result.
        name: the prompt of a new job, else the job's id.
        wait: whether the answer to a submit may be held back until the job is done.
    """

    what: Literal["submit", "look", "fetch"]
    name: str
    wait: bool = False


class Dialect(Protocol):
    """One API."""

    def asked(self, call: Call) -> Asked | None:
        """Return what a request asks for; None: there is no such address."""

    def accepted(self, job: Job, url: str) -> tuple[int, dict[str, Any]]:
        """Return status and body for a job that was just made; `url` is the gateway's own."""

    def seen(self, job: Job, *, done: bool) -> tuple[int, dict[str, Any]]:
        """Return status and body of a look."""

    def result(self, job: Job) -> tuple[int, dict[str, Any]]:
        """Return status and body of the result, where that takes another request."""

    def refused(self, status: int, message: str) -> dict[str, Any]:
        """Return the body of a refusal."""


def video_of(job: Job) -> str:
    """Return where a job's video is."""
    return f"{VIDEOS}/{job.id}.mp4"


def told(refused: Refused) -> str:
    """Return the words of a 429."""
    return "Too many tasks are running" if refused.why == "slots" else "Too many requests"
