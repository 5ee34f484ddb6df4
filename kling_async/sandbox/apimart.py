"""The apimart dialect: `POST /v1/videos/generations`, `GET /v1/tasks/{task_id}`, balances and uploads."""

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from kling_async.sandbox.checks import (
    RATIOS,
    choice,
    flag,
    items,
    number,
    objects,
    optional_text,
    refuse,
    text,
    url,
    urls,
)
from kling_async.sandbox.jobs import MILLI, Order, Refusal, View, credits_of
from kling_async.sandbox.words import ulid

RESPONSE_VERSION = "2026-07-27"
LINK_SECONDS = 86_400
"""Links to videos are documented to live a day after the task completed."""
CREDITS_PER_USD = 10
_USD = {"std": 0.0672, "pro": 0.0896, "4k": 0.42856}
_RESOLUTIONS = {"720p": "std", "1080p": "pro", "4k": "4k"}
_AUDIO = 1.5
"""Video with audio costs more, no document says how much: the sandbox takes this factor."""
_PROMPTS = {"kling-v3": None, "kling-v3-omni": 2500, "kling-3.0-turbo": 3072, "kling-v2-6": 2500}
_STATUS = {"queued": "pending", "running": "processing", "succeeded": "completed", "failed": "failed"}
_TYPES = {
    401: "apimart_error",
    402: "payment_required",
    403: "permission_error",
    429: "rate_limit_error",
    502: "bad_gateway",
}


class ApiMart:
    """Data as a list in a submit's answer, Unix seconds, costs in dollars and in credits, ten to a dollar."""

    name = "apimart"

    def order(self, body: Mapping[str, Any]) -> Order:
        model = choice(body, "model", tuple(_PROMPTS), None)
        seconds = number(body, "duration", (3, 15), 5, whole=True)
        shots = flag(body, "multi_shot")
        prompt = text(body, "prompt", _PROMPTS[model]) if "prompt" in body or not shots else ""
        if shots:
            told = _shots(body, seconds)
            prompt = prompt or told
        ratio = choice(body, "aspect_ratio", RATIOS, "16:9")
        audio = flag(body, "audio")
        flag(body, "watermark")
        optional_text(body, "negative_prompt", 2500)
        optional_text(body, "webhook")
        mode = _mode(body, model, seconds, audio)
        _check_media(body, model)
        usd = _USD[mode] * seconds * (_AUDIO if audio else 1)
        return Order(prompt, seconds, ratio, round(usd * CREDITS_PER_USD * MILLI), body)

    def task_id(self, order: Order, random: Random, wall: float) -> str:
        return f"task_{ulid(random, wall)}"

    def accepted(self, seen: View, headers: Mapping[str, str]) -> dict[str, Any]:
        if headers.get("x-apimart-response-version") == RESPONSE_VERSION:
            data = {"object": "generation.task", "id": seen.task.id, "status": "pending"}
            return {"request_id": f"req_{seen.task.seq}", "data": data}
        return {"code": 200, "data": [{"status": "submitted", "task_id": seen.task.id}]}

    def status(self, seen: View) -> dict[str, Any]:
        task = seen.task
        data: dict[str, Any] = {
            "id": task.id,
            "status": _STATUS[seen.status],
            "progress": seen.progress,
            "created": int(seen.created),
            "estimated_time": max(1, round(seen.expected)),
        }
        if seen.status in {"succeeded", "failed"}:
            price = 0 if seen.status == "failed" else task.order.price
            cost = {"cost": price / (MILLI * CREDITS_PER_USD), "credits_cost": credits_of(price)}
            data |= {"completed": int(seen.completed), "actual_time": int(seen.completed - seen.created), **cost}
        if seen.status == "succeeded":
            expires = int(seen.completed) + LINK_SECONDS
            data["result"] = {"videos": [{"url": seen.urls, "expires_at": expires}] if seen.urls else []}
        if seen.status == "failed":
            # As captured: the reason is a JSON document of the service behind it, inside a string.
            inner = {"error": {"code": 400, "message": task.reason, "status": task.code or "FAILED_PRECONDITION"}}
            message = json.dumps(inner, indent=2) + "\n"
            data["error"] = {
                "code": task.code or "task_failed",
                "type": "task_failed",
                "param": "",
                "message": message,
            }
        return {"code": 200, "data": data}

    def refusal(self, refusal: Refusal) -> dict[str, Any]:
        server = "server_error" if refusal.status >= 500 else "invalid_request_error"
        code = "" if refusal.status == 401 else refusal.reason.lower()
        return {
            "error": {
                "code": code if refusal.code is None else refusal.code,
                "message": f"{refusal.message} (request id: sandbox)",
                "param": refusal.field,
                "type": _TYPES.get(refusal.status, server),
            }
        }


def _mode(body: Mapping[str, Any], model: str, seconds: float, audio: bool) -> str:
    if model == "kling-3.0-turbo":
        return _RESOLUTIONS[choice(body, "resolution", tuple(_RESOLUTIONS), "720p")]
    allowed = ("std", "pro") if model == "kling-v2-6" else tuple(_USD)
    mode: str = choice(body, "mode", allowed, "std")
    if model == "kling-v2-6":
        if seconds not in {5, 10}:
            raise refuse("duration", "kling-v2-6 makes 5 or 10 seconds")
        if audio and mode != "pro":
            raise refuse("audio", "kling-v2-6 has audio in pro mode only")
    return mode


def _shots(body: Mapping[str, Any], seconds: float) -> str:
    """The documented rules: 1 to 6 shots, 512 characters each, index from 1 without gaps, durations that add up."""
    if choice(body, "shot_type", ("customize", "intelligence"), None) == "intelligence" and "multi_prompt" not in body:
        return text(body, "prompt")
    shots = objects(body, "multi_prompt", (1, 6))
    prompts, total = [], 0.0
    for place, shot in enumerate(shots, start=1):
        if shot.get("index") != place or isinstance(shot.get("index"), bool):
            raise refuse("multi_prompt", "index must start from 1 and be continuous")
        prompts.append(text(shot, "prompt", 512))
        if "duration" not in shot:
            raise refuse("multi_prompt", "every shot needs a duration")
        total += number(shot, "duration", (1, seconds), 0, whole=True)
    if total != seconds:
        raise refuse("multi_prompt", f"the shots last {total:g} seconds, duration says {seconds:g}")
    return " / ".join(prompts)


def _check_media(body: Mapping[str, Any], model: str) -> None:
    urls(body, "image_urls", (1, None if model == "kling-v3-omni" else 2))
    if model == "kling-v3-omni":
        _check_omni(body)
    if model == "kling-3.0-turbo" and "first_frame_image" in body:
        text(body, "first_frame_image")
    if "element_list" not in body:
        return
    for element in objects(body, "element_list", (1, 3)):
        text(element, "name")
        text(element, "description")
        items(element, "element_input_urls", (2, 4))
        urls(element, "element_input_urls", (2, 4))


def _check_omni(body: Mapping[str, Any]) -> None:
    if "image_with_roles" in body:
        for image in objects(body, "image_with_roles", (1, None)):
            url(image.get("url"), "image_with_roles")
            choice(image, "role", ("first_frame", "last_frame", "reference"), None)
    if "video_list" in body:
        if flag(body, "audio"):
            raise refuse("audio", "audio and video_list exclude each other")
        for video in objects(body, "video_list", (1, 1)):
            url(video.get("video_url"), "video_list")
