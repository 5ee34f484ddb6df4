"""The apiin.one dialect: `POST /api/v1/videos/generations`, `GET /api/v1/tasks/{task_id}`."""

from collections.abc import Mapping
from random import Random
from typing import Any

from kling_async.sandbox.checks import RATIOS, choice, flag, number, objects, refuse, text, url
from kling_async.sandbox.jobs import MILLI, Order, Refusal, View, credits_of
from kling_async.sandbox.words import ALPHABET, iso, word

_RATES = {"std": (40, 60), "pro": (54, 80)}
_STATUS = {"queued": "IN_PROGRESS", "running": "IN_PROGRESS", "succeeded": "SUCCESS", "failed": "FAILED"}
_TYPES = {
    401: "authentication_error",
    402: "insufficient_credits",
    404: "not_found",
    429: "rate_limit_exceeded",
}


class ApiIn:
    """Only the submit and the error envelope are documented; the status is answered as the sister gateway does."""

    name = "apiin"

    def order(self, body: Mapping[str, Any]) -> Order:
        if body.get("model") != "kling-3":
            raise refuse("model", 'model must be "kling-3"')
        shots = flag(body, "multi_shots")
        prompt = text(body, "prompt", 2500) if "prompt" in body or not shots else ""
        mode = choice(body, "mode", tuple(_RATES), "std")
        seconds = number(body, "duration", (3, 15), 5)
        ratio = choice(body, "aspect_ratio", RATIOS, "16:9")
        sound = flag(body, "sound", True)
        if "image" in body:
            url(body["image"], "image")
        if shots:
            prompt = prompt or _shots(body)
        if "kling_elements" in body:
            objects(body, "kling_elements", (0, None))
        return Order(prompt, seconds, ratio, round(_RATES[mode][sound] * seconds * MILLI), body)

    def task_id(self, order: Order, random: Random, wall: float) -> str:
        return f"n75{word(random, 12, ALPHABET)}_kling3"

    def accepted(self, seen: View, headers: Mapping[str, str]) -> dict[str, Any]:
        return {"code": 200, "message": "success", "data": {"task_id": seen.task.id, "status": "IN_PROGRESS"}}

    def status(self, seen: View) -> dict[str, Any]:
        failed = seen.status == "failed"
        data = {
            "task_id": seen.task.id,
            "status": _STATUS[seen.status],
            "consumed_credits": 0 if failed else credits_of(seen.task.order.price),
            "created_at": iso(seen.created),
            "response": seen.urls if seen.status == "succeeded" else None,
            "error_message": seen.task.reason if failed else None,
        }
        return {"code": 200, "message": "success", "data": data}

    def refusal(self, refusal: Refusal) -> dict[str, Any]:
        server = "internal_error" if refusal.status >= 500 else "invalid_request"
        kind = refusal.code or _TYPES.get(refusal.status, server)
        return {"error": {"code": refusal.status, "message": refusal.message, "type": kind}}


def _shots(body: Mapping[str, Any]) -> str:
    """The prompts of the shots, whose items have no index here."""
    prompts = []
    for shot in objects(body, "multi_prompt", (1, None)):
        prompts.append(text(shot, "prompt"))
        number(shot, "duration", (0.1, 15), 0)
    return " / ".join(prompts)
