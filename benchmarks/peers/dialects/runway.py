"""Runway: `POST /v1/text_to_video`, `GET /v1/tasks/{id}`."""

import json
from typing import Any

from benchmarks.peers.dialects import Asked, Call, video_of
from benchmarks.peers.model import Job

CREDITS = 60


def asked(call: Call) -> Asked | None:
    """Return what a request asks for."""
    if call.method == "POST":
        return Asked("submit", json.loads(call.body)["promptText"])
    before, _, job_id = call.path.rpartition("/")
    return Asked("look", job_id) if before == "/v1/tasks" else None


def accepted(job: Job, url: str) -> tuple[int, dict[str, Any]]:
    """A task's id."""
    return 200, {"id": job.id, "estimatedCost": {"credits": CREDITS}}


def seen(job: Job, *, done: bool) -> tuple[int, dict[str, Any]]:
    """A task with its output, if it has one."""
    task = {"id": job.id, "createdAt": "2026-01-01T00:00:00.000Z"}
    if done:
        return 200, {**task, "status": "SUCCEEDED", "output": [video_of(job)], "cost": {"credits": CREDITS}}
    return 200, {**task, "status": "RUNNING", "progress": 0.5, "estimatedCost": {"credits": CREDITS}}


def result(job: Job) -> tuple[int, dict[str, Any]]:
    """The same as a look that finds it done."""
    return seen(job, done=True)


def refused(status: int, message: str) -> dict[str, Any]:
    """An error in words."""
    return {"error": message}
