"""OpenAI's videos: `POST /v1/videos` as a form, `GET /v1/videos/{id}`."""

import re
from typing import Any

from benchmarks.peers.dialects import Asked, Call
from benchmarks.peers.model import Job

_PROMPT = re.compile(rb'name="prompt"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL)


def asked(call: Call) -> Asked | None:
    """Return what a request asks for."""
    if call.method == "POST":
        found = _PROMPT.search(call.body)
        return Asked("submit", found[1].decode()) if found else None
    before, _, job_id = call.path.rpartition("/")
    return Asked("look", job_id) if before == "/v1/videos" else None


def accepted(job: Job, url: str) -> tuple[int, dict[str, Any]]:
    """A video that is queued."""
    return 200, _video(job, "queued", 0)


def seen(job: Job, *, done: bool) -> tuple[int, dict[str, Any]]:
    """A video; what it shows is fetched by its id."""
    return 200, _video(job, "completed", 100) if done else _video(job, "in_progress", 50)


def result(job: Job) -> tuple[int, dict[str, Any]]:
    """The same as a look that finds it done."""
    return seen(job, done=True)


def refused(status: int, message: str) -> dict[str, Any]:
    """An error object."""
    return {"error": {"message": message, "type": "rate_limit" if status == 429 else "server_error", "code": None}}


def _video(job: Job, status: str, progress: int) -> dict[str, Any]:
    return {
        "id": job.id,
        "object": "video",
        "created_at": 1_767_225_600,
        "status": status,
        "completed_at": 1_767_225_605 if status == "completed" else None,
        "error": None,
        "expires_at": None,
        "model": "sora-2",
        "progress": progress,
        "prompt": job.prompt,
        "remixed_from_video_id": None,
        "seconds": "4",
        "size": "720x1280",
    }
