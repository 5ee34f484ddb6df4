"""fal's queue: `POST /{app}`, `GET /{app}/requests/{id}/status`, `GET /{app}/requests/{id}`."""

import json
from typing import Any

from benchmarks.peers.dialects import Asked, Call, video_of
from benchmarks.peers.model import Job

APP = "fal-ai/kling-video"
"""The first two words of an endpoint's name are the application, which its requests are kept under."""


def asked(call: Call) -> Asked | None:
    """Return what a request asks for."""
    words = call.path.strip("/").split("/")
    if call.method == "POST":
        return Asked("submit", json.loads(call.body)["prompt"])
    match words:
        case [_, _, "requests", job_id, "status"]:
            return Asked("look", job_id)
        case [_, _, "requests", job_id]:
            return Asked("fetch", job_id)
    return None


def accepted(job: Job, url: str) -> tuple[int, dict[str, Any]]:
    """A job in the queue, with the addresses to ask for it."""
    base = f"{url}/{APP}/requests/{job.id}"
    addresses = {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}
    return 200, {"status": "IN_QUEUE", "request_id": job.id, "queue_position": 0, **addresses}


def seen(job: Job, *, done: bool) -> tuple[int, dict[str, Any]]:
    """A status, without the result."""
    body = {"status": "COMPLETED" if done else "IN_PROGRESS", "request_id": job.id, "logs": None}
    return (200, {**body, "metrics": {"inference_time": job.ends - job.created}}) if done else (202, body)


def result(job: Job) -> tuple[int, dict[str, Any]]:
    """The model's own output."""
    return 200, {"video": {"url": video_of(job), "content_type": "video/mp4", "file_size": 1_000_000}}


def refused(status: int, message: str) -> dict[str, Any]:
    """An error as FastAPI writes it."""
    return {"detail": message}
