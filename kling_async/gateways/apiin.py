"""apiin.one ("API in One"): Kling 3.0. Documented at https://apiin.one/docs."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define

from kling_async.errors import (
    AuthenticationError,
    GatewayUnavailableError,
    InsufficientCreditsError,
    KlingError,
    RateLimitError,
)
from kling_async.gateways.asking import (
    check_duration,
    check_prompt,
    check_public,
    check_shots,
    merged,
    refuse_model,
    refuse_unknown,
)
from kling_async.gateways.keyed import KeyedGateway
from kling_async.gateways.kling3api import snapshot_of
from kling_async.gateways.prices import APIIN, cost_of
from kling_async.gateways.protocol import Accepted
from kling_async.gateways.reading import record
from kling_async.gateways.refusals import opened, required_id, same_task, task_of, unsupported
from kling_async.requests import ImageToVideo, Request, TextToVideo, default_model
from kling_async.results import Cost, Snapshot
from kling_async.wire import Exchange, HttpRequest, HttpResponse, segment

# Only `invalid_request` is documented; the others are what its name lets one expect.
_TYPES: Mapping[str, type[KlingError] | None] = {
    "invalid_request": None,
    "authentication_error": AuthenticationError,
    "insufficient_credits": InsufficientCreditsError,
    "rate_limit_exceeded": RateLimitError,
    "internal_error": GatewayUnavailableError,
}
_FIELDS = ("duration", "aspect_ratio", "sound", "quality", "shots", "subjects")


@define(init=False)
class ApiIn(KeyedGateway):
    """The adapter for apiin.one.

    Args:
        api_key: sent as `Authorization: Bearer` with every request to the API and to nobody else.
    """

    name = "apiin"
    base_url = "https://apiin.one"
    prices_as_of = APIIN.as_of
    kinds = ("text-to-video", "image-to-video")

    def submit(self, request: Request, key: str) -> Exchange[Accepted]:
        """`POST /api/v1/videos/generations`. There is no idempotency key."""
        response = yield HttpRequest("POST", "/api/v1/videos/generations", json=_body(request))
        return _accepted(response)

    def poll(self, task_ids: Sequence[str]) -> Exchange[Mapping[str, Snapshot]]:
        """`GET /api/v1/tasks/{task_id}`; its body is not documented and taken to be that of kling3api.com."""
        (task_id,) = task_ids
        response = yield HttpRequest("GET", f"/api/v1/tasks/{segment(task_id)}")
        data = task_of(self.name, response, _data(opened(self.name, response, known=_TYPES)))
        same_task(self.name, task_id, data, bare_id=True)
        return {task_id: snapshot_of(task_id, data)}

    def estimate(self, request: Request) -> Cost | None:
        """Price by mode, second and sound."""
        return cost_of(APIIN, _body(request), "mode", sound_default=True)


def _body(request: Request) -> dict[str, Any]:
    name = ApiIn.name
    if not isinstance(request, (TextToVideo, ImageToVideo)):
        raise unsupported(name, "type", f"makes no {request.kind}", "INVALID_TYPE")
    refuse_model(name, default_model(request), ("kling-3.0",), request.kind)
    if request.quality == "4k":
        raise unsupported(name, "quality", "has no quality 4k; it has std, pro")
    image = request.image if isinstance(request, ImageToVideo) else None
    refuse_unknown(name, request, (*_FIELDS, "image"))
    check_prompt(name, request, 2500, shots_instead=True)
    check_duration(name, request.duration, 3, 15)
    check_shots(name, request.shots, request.duration, None, None)
    check_public(name, request)
    body: dict[str, Any] = {
        "model": "kling-3",
        "prompt": request.prompt or None,
        "mode": request.quality,
        "duration": request.duration,
        "aspect_ratio": request.aspect_ratio,
        "sound": request.sound,
        "image": image,
    }
    if request.shots:
        shots = [{"prompt": shot.prompt, "duration": shot.duration} for shot in request.shots]
        body |= {"multi_shots": True, "multi_prompt": shots}
    if request.subjects:
        # The shape of the items is not documented here; the field has the name it has at kie.ai, and so its shape.
        body["kling_elements"] = [
            {"name": subject.name, "description": subject.description, "element_input_urls": list(subject.images)}
            for subject in request.subjects
        ]
    return merged(body, request)


def _data(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the task in an answer: under `data`, or the answer itself (two shapes are documented)."""
    return record(body.get("data")) or body


def _accepted(response: HttpResponse) -> Accepted:
    body = opened(ApiIn.name, response, known=_TYPES, submitting=True)
    data = _data(body)
    task_id = required_id(ApiIn.name, response, data.get("task_id"), data.get("id"), body.get("task_id"))
    return Accepted(task_id, snapshot_of(task_id, data))
