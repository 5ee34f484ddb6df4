"""Replicate: `POST /v1/models/{owner}/{name}/predictions`, which may wait for the end; `GET /v1/predictions/{id}`."""

import json
from typing import Any

from benchmarks.peers.dialects import Asked, Call, video_of
from benchmarks.peers.model import Job

MODEL = "kwaivgi/kling-v2.1"


def asked(call: Call) -> Asked | None:
    """Return what a request asks for."""
    if call.method == "POST" and call.path.endswith("/predictions"):
        return Asked("submit", json.loads(call.body)["input"]["prompt"], wait="wait" in call.headers.get("prefer", ""))
    before, _, job_id = call.path.rpartition("/")
    return Asked("look", job_id) if before == "/v1/predictions" else None


def accepted(job: Job, url: str) -> tuple[int, dict[str, Any]]:
    """A prediction that has not ended; after a wait in vain it still says "starting", as the client relies on."""
    return 201, _prediction(job, "starting")


def seen(job: Job, *, done: bool) -> tuple[int, dict[str, Any]]:
    """A prediction with its output, if it has one."""
    return 200, _prediction(job, "succeeded" if done else "processing")


def result(job: Job) -> tuple[int, dict[str, Any]]:
    """The answer to a submit that was held back until the job was done."""
    return 201, _prediction(job, "succeeded")


def refused(status: int, message: str) -> dict[str, Any]:
    """A problem report as RFC 7807 has it."""
    return {"title": message, "detail": message, "status": status}


def _prediction(job: Job, status: str) -> dict[str, Any]:
    ended = status == "succeeded"
    base = f"https://api.replicate.com/v1/predictions/{job.id}"
    return {
        "id": job.id,
        "model": MODEL,
        "version": "hidden",
        "input": {"prompt": job.prompt},
        "logs": "",
        "output": video_of(job) if ended else None,
        "data_removed": False,
        "error": None,
        "source": "api",
        "status": status,
        "created_at": "2026-01-01T00:00:00.000Z",
        "started_at": "2026-01-01T00:00:00.000Z" if status != "starting" else None,
        "completed_at": "2026-01-01T00:00:05.000Z" if ended else None,
        "urls": {"get": base, "cancel": f"{base}/cancel"},
        "metrics": {"predict_time": job.ends - job.created} if ended else {},
    }
