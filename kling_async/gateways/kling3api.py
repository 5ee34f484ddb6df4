"""kling3api.com: Kling 3.0 and Video O3. Documented at https://kling3api.com/docs."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define

from kling_async.errors import (
    AuthenticationError,
    GatewayUnavailableError,
    InsufficientCreditsError,
    InvalidRequestError,
    KlingError,
    RateLimitError,
)
from kling_async.gateways.asking import (
    check_duration,
    check_echo,
    check_prompt,
    check_public,
    merged,
    refuse_model,
    refuse_unknown,
)
from kling_async.gateways.charges import charge_in
from kling_async.gateways.keyed import KeyedGateway
from kling_async.gateways.prices import KLING3API, cost_of
from kling_async.gateways.protocol import Accepted
from kling_async.gateways.reading import echo_in, is_named, judged, kept, moment, reason_in, record, urls_in, words
from kling_async.gateways.refusals import invalid, opened, required_id, same_task, task_of, unsupported
from kling_async.requests import ImageToVideo, ReferenceToVideo, Request, TextToVideo, VideoEdit, default_model
from kling_async.results import Cost, Snapshot
from kling_async.wire import Exchange, HttpRequest, HttpResponse

_CODES: Mapping[str, type[KlingError] | None] = {
    "INVALID_PROMPT": InvalidRequestError,
    "INVALID_DURATION": InvalidRequestError,
    "INVALID_TYPE": InvalidRequestError,
    "MISSING_IMAGE": InvalidRequestError,
    "MISSING_VIDEO": InvalidRequestError,
    "INVALID_API_KEY": AuthenticationError,
    "INSUFFICIENT_CREDITS": InsufficientCreditsError,
    "RATE_LIMITED": RateLimitError,
    "INTERNAL_ERROR": GatewayUnavailableError,
}
_FIELDS = {
    "text-to-video": ("duration", "aspect_ratio", "sound", "quality", "negative_prompt", "cfg_scale"),
    "image-to-video": (
        "duration",
        "aspect_ratio",
        "sound",
        "quality",
        "negative_prompt",
        "cfg_scale",
        "image",
        "end_image",
    ),
    "reference-to-video": ("duration", "aspect_ratio", "sound", "quality", "negative_prompt", "images", "video"),
    "video-edit": ("quality", "negative_prompt", "video", "keep_original_sound"),
}
_PREFIX = {"kling-3.0": "", "kling-o3": "o3-"}


@define(init=False)
class Kling3Api(KeyedGateway):
    """The adapter for kling3api.com.

    Args:
        api_key: sent as `Authorization: Bearer` with every request to the API and to nobody else.
    """

    name = "kling3api"
    base_url = "https://kling3api.com"
    prices_as_of = KLING3API.as_of
    kinds = tuple(_FIELDS)

    def submit(self, request: Request, key: str) -> Exchange[Accepted]:
        """`POST /api/generate`; the backend is chosen by `type`. There is no idempotency key."""
        response = yield HttpRequest("POST", "/api/generate", json=_body(request))
        return _accepted(response)

    def poll(self, task_ids: Sequence[str]) -> Exchange[Mapping[str, Snapshot]]:
        """`GET /api/status?task_id=`."""
        (task_id,) = task_ids
        response = yield HttpRequest("GET", "/api/status", query={"task_id": task_id})
        data = task_of(self.name, response, record(opened(self.name, response, known=_CODES).get("data")))
        same_task(self.name, task_id, data)
        return {task_id: snapshot_of(task_id, data)}

    def estimate(self, request: Request) -> Cost | None:
        """Price by `type`, second and sound, from the newer revision of the documentation."""
        # The documents disagree on the default of `sound`; an unsent one was billed with sound.
        return cost_of(KLING3API, _body(request), "type", sound_default=True)


def _type(request: Request) -> str:
    models = ("kling-o3",) if isinstance(request, (ReferenceToVideo, VideoEdit)) else tuple(_PREFIX)
    model = default_model(request)
    refuse_model(Kling3Api.name, model, models, request.kind)
    if request.quality == "4k":
        raise unsupported(Kling3Api.name, "quality", "has no quality 4k; it has std, pro")
    if request.cfg_scale is not None and model != "kling-3.0":
        raise unsupported(Kling3Api.name, "cfg_scale", "has cfg_scale for kling-3.0 only")
    return f"{_PREFIX[model]}{request.quality}-{request.kind}"


def _body(request: Request) -> dict[str, Any]:
    body = _fields(request)
    check_echo(Kling3Api.name, body)  # the status of a job repeats its request
    return body


def _fields(request: Request) -> dict[str, Any]:
    name = Kling3Api.name
    kind = _type(request)
    refuse_unknown(name, request, _FIELDS[request.kind])
    check_prompt(name, request, 2000)
    check_public(name, request)
    body: dict[str, Any] = {"type": kind, "prompt": request.prompt, "negative_prompt": request.negative_prompt}
    if isinstance(request, VideoEdit):
        # `keep_original_sound` stands only in the documentation's example, not in its table of parameters.
        body |= {"video": request.video, "keep_original_sound": request.keep_original_sound}
        return merged(body, request)
    check_duration(name, request.duration, 3, 15)
    body |= {"duration": request.duration, "aspect_ratio": request.aspect_ratio, "sound": request.sound}
    match request:
        case ImageToVideo():
            body |= {"image": request.image, "end_image": request.end_image, "cfg_scale": request.cfg_scale}
        case ReferenceToVideo():
            if len(request.images) > 7:
                raise invalid(name, "images", f"{len(request.images)} images are more than 7")
            body |= {"images": list(request.images) or None, "video": request.video}
        case TextToVideo():
            body["cfg_scale"] = request.cfg_scale
    return merged(body, request)


def _accepted(response: HttpResponse) -> Accepted:
    body = opened(Kling3Api.name, response, known=_CODES, submitting=True)
    data = record(body.get("data"))
    named = (data.get("task_id"), data.get("id"), body.get("task_id"))
    # Its documented ids are texts, n75abc123kling3; whether it would find a task by a number nobody knows.
    task_id = required_id(Kling3Api.name, response, *named, numbers=False)
    return Accepted(task_id, snapshot_of(task_id, data))


def snapshot_of(task_id: str, data: Mapping[str, Any]) -> Snapshot:
    """Read the `data` of a status answer; a submit's answer has the same names, fewer of them.

    The body of a failed job is not documented: the names are those of the success, and of sibling gateways.
    """
    output = record(data.get("output"))
    urls = urls_in(
        data.get("response"),
        output,
        data.get("video_url"),
        data.get("url"),
        record(data.get("result")),
    )
    reason = reason_in(data.get("error_message"), data.get("failed_reason"), data.get("error"), data.get("message"))
    status, code = judged(data.get("status"), urls, reason)
    charged, odd = charge_in(data, "consumed_credits", "credits_consumed", always=True)
    return Snapshot(
        task_id=task_id,
        status=status,
        raw_status=words(data.get("status"), 100) or "",
        urls=urls,
        credits=charged,
        odd_credits=odd,
        prompt=echo_in(data, "request") if status.terminal else None,
        created_at=moment(data.get("created_at")),
        code=code,
        message=reason[1],
        raw=kept(status, data),
        named=is_named(task_id, data),
    )
