"""The kling3api dialect: `POST /api/generate`, `GET /api/status?task_id=`."""

from collections.abc import Mapping
from random import Random
from typing import Any

from kling_async.sandbox.checks import RATIOS, choice, flag, number, optional_text, refuse, text, url, urls
from kling_async.sandbox.jobs import MILLI, Order, Refusal, View, credits_of
from kling_async.sandbox.words import ALPHABET, iso, word

TYPES = tuple(f"{tier}-{task}" for tier in ("pro", "std") for task in ("text-to-video", "image-to-video")) + tuple(
    f"o3-{tier}-{task}"
    for tier in ("pro", "std")
    for task in ("text-to-video", "image-to-video", "reference-to-video", "video-edit")
)
_RATES = {"pro": (54, 80), "std": (40, 60)}
_O3_RATES = {
    "pro": {"text-to-video": 48, "image-to-video": 48, "reference-to-video": 72, "video-edit": 435},
    "std": {"text-to-video": 36, "image-to-video": 36, "reference-to-video": 20, "video-edit": 360},
}
_STATUS = {"queued": "IN_PROGRESS", "running": "IN_PROGRESS", "succeeded": "SUCCESS", "failed": "FAILED"}
EDIT_SECONDS = 5
"""An edit is as long as its source, which is never fetched: its video lasts this many seconds."""


class Kling3Api:
    """Credits are charged at the submit; where they are refunded the status says 0."""

    name = "kling3api"

    def order(self, body: Mapping[str, Any]) -> Order:
        kind = body.get("type")
        if kind not in TYPES:
            raise refuse("type", "Unsupported task type", "INVALID_TYPE")
        prompt = text(body, "prompt", 2000, "INVALID_PROMPT")
        family, tier, task = _split(str(kind))
        edit = task == "video-edit"
        seconds = EDIT_SECONDS if edit else number(body, "duration", (3, 15), 5, reason="INVALID_DURATION")
        ratio = choice(body, "aspect_ratio", RATIOS, "16:9")
        sound = flag(body, "sound", True)
        _check_media(body, task)
        _check_options(body, family)
        rate = _O3_RATES[tier][task] if family == "o3" else _RATES[tier][sound]
        price = rate * (1 if edit else seconds)
        return Order(prompt, seconds, ratio, round(price * MILLI), body)

    def task_id(self, order: Order, random: Random, wall: float) -> str:
        node = 71 if order.body["type"].startswith("o3-") else 75
        return f"n{node}{word(random, 12, ALPHABET)}kling3"

    def accepted(self, seen: View, headers: Mapping[str, str]) -> dict[str, Any]:
        task = seen.task
        data = {"task_id": task.id, "status": "IN_PROGRESS", "consumed_credits": credits_of(task.order.price)}
        return {"code": 200, "message": "success", "data": data}

    def status(self, seen: View) -> dict[str, Any]:
        task, body = seen.task, seen.task.order.body
        failed = seen.status == "failed"
        request = {name: value for name, value in body.items() if name != "sound"}
        if not body["type"].endswith("video-edit"):
            request |= {"duration": task.order.seconds, "aspect_ratio": task.order.ratio}
        data = {
            "task_id": task.id,
            "status": _STATUS[seen.status],
            "consumed_credits": 0 if failed else credits_of(task.order.price),
            "created_at": iso(seen.created),
            "request": request,
            "response": seen.urls if seen.status == "succeeded" else None,
            "error_message": task.reason if failed else None,
            "type": body["type"],
        }
        return {"code": 200, "message": "success", "data": data}

    def refusal(self, refusal: Refusal) -> dict[str, Any]:
        # The documents list the codes but show no error body: the code stands where success has 200.
        return {"code": refusal.code or refusal.reason, "message": refusal.message}


def _split(kind: str) -> tuple[str, str, str]:
    family = "o3" if kind.startswith("o3-") else "k3"
    tier, _, task = kind.removeprefix("o3-").partition("-")
    return family, tier, task


def _check_media(body: Mapping[str, Any], task: str) -> None:
    if task == "image-to-video":
        if not body.get("image"):
            raise refuse("image", "An image is required for image-to-video", "MISSING_IMAGE")
        url(body["image"], "image")
    if "end_image" in body:
        if task != "image-to-video":
            raise refuse("end_image", "end_image is for image-to-video only")
        url(body["end_image"], "end_image")
    if task == "video-edit" and not body.get("video"):
        raise refuse("video", "A video is required for video-edit", "MISSING_VIDEO")
    if "video" in body:
        if task not in {"video-edit", "reference-to-video"}:
            raise refuse("video", "video is for reference-to-video and video-edit only")
        url(body["video"], "video")
    images = urls(body, "images", (0, 7))
    if images and task != "reference-to-video":
        raise refuse("images", "images are for reference-to-video only")
    if task == "reference-to-video" and not images and not body.get("video"):
        raise refuse("images", "Reference-to-video needs images or a video", "MISSING_IMAGE")


def _check_options(body: Mapping[str, Any], family: str) -> None:
    optional_text(body, "negative_prompt")
    flag(body, "keep_original_sound")
    if "cfg_scale" in body:
        if family != "k3":
            raise refuse("cfg_scale", "cfg_scale is for Kling 3.0 only")
        number(body, "cfg_scale", (0, 1), 0.5)
