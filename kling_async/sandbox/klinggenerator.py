"""The klinggenerator dialect: `POST /v1/generate`, `GET /v1/jobs/{job_id}`."""

from collections.abc import Mapping
from random import Random
from typing import Any

from kling_async.sandbox.checks import choice, number, refuse, text
from kling_async.sandbox.jobs import MILLI, Order, Refusal, View
from kling_async.sandbox.words import ALPHABET, iso, word

CREDITS_PER_SECOND = 10
"""No price is published; the sandbox charges this."""
_MODELS = {"kling-3": 120, "kling-2": 60}


class KlingGenerator:
    """Flat answers without an envelope, text to video only."""

    name = "klinggenerator"

    def order(self, body: Mapping[str, Any]) -> Order:
        prompt = text(body, "prompt")
        model = choice(body, "model", tuple(_MODELS), "kling-3")
        seconds = number(body, "duration", (5, _MODELS[model]), 5, whole=True)
        if choice(body, "resolution", ("720p", "1080p", "4k"), "1080p") == "4k" and model == "kling-2":
            raise refuse("resolution", "kling-2 makes at most 1080p")
        choice(body, "fps", (24, 30, 60), 30)
        return Order(prompt, seconds, "16:9", round(CREDITS_PER_SECOND * seconds * MILLI), body)

    def task_id(self, order: Order, random: Random, wall: float) -> str:
        return f"job_{word(random, 12, ALPHABET)}"

    def accepted(self, seen: View, headers: Mapping[str, str]) -> dict[str, Any]:
        return {
            "job_id": seen.task.id,
            "status": "processing",
            "created_at": iso(seen.created),
            "estimated_completion": iso(seen.created + seen.expected),
        }

    def status(self, seen: View) -> dict[str, Any]:
        task, body = seen.task, seen.task.order.body
        answer = {"job_id": task.id, "status": "processing", "progress": seen.progress}
        times = {"created_at": iso(seen.created)}
        if seen.status == "failed":
            error = {"code": task.code or "generation_failed", "message": task.reason}
            return answer | {"status": "failed", "error": error, **times, "completed_at": iso(seen.completed)}
        if seen.status != "succeeded":
            return answer | times | {"estimated_completion": iso(seen.created + seen.expected)}
        if seen.urls:
            answer |= {"video_url": seen.urls[0], "thumbnail_url": seen.thumbnail}
        made = {"duration": task.order.seconds, "resolution": body.get("resolution", "1080p")}
        return answer | {"status": "completed", **made, **times, "completed_at": iso(seen.completed)}

    def refusal(self, refusal: Refusal) -> dict[str, Any]:
        # The documents list statuses only; a body with a code and a message is the commonest shape.
        return {"error": {"code": refusal.code or refusal.reason.lower(), "message": refusal.message}}
