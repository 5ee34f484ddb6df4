"""kling3api.com: `POST /api/generate`, `GET /api/status?task_id=`."""

import json
from typing import Any

from benchmarks.peers.dialects import Asked, Call, video_of
from benchmarks.peers.model import Job


def asked(call: Call) -> Asked | None:
    """Return what a request asks for."""
    if call.method == "POST":
        return Asked("submit", json.loads(call.body)["prompt"]) if call.path == "/api/generate" else None
    return Asked("look", call.query.get("task_id", "")) if call.path == "/api/status" else None


def accepted(job: Job, url: str) -> tuple[int, dict[str, Any]]:
    """A task's id."""
    return 200, _answer({"task_id": job.id, "status": "IN_PROGRESS", "consumed_credits": 200})


def seen(job: Job, *, done: bool) -> tuple[int, dict[str, Any]]:
    """A task with its video, if it has one."""
    return 200, _answer(
        {
            "task_id": job.id,
            "status": "SUCCESS" if done else "IN_PROGRESS",
            "consumed_credits": 200,
            "created_at": "2026-01-01T00:00:00.000Z",
            "request": {"prompt": job.prompt, "duration": 5, "aspect_ratio": "16:9"},
            "response": [video_of(job)] if done else None,
            "error_message": None,
            "type": "std-text-to-video",
        }
    )


def result(job: Job) -> tuple[int, dict[str, Any]]:
    """The same as a look that finds it done."""
    return seen(job, done=True)


def refused(status: int, message: str) -> dict[str, Any]:
    """The code stands where success has 200."""
    return {"code": "RATE_LIMITED" if status == 429 else "INTERNAL_ERROR", "message": message}


def _answer(data: dict[str, Any]) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": data}
