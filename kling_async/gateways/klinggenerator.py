"""api.klinggenerator.com: text to video. Documented at https://klinggenerator.com/api-docs.php."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define

from kling_async.errors import KlingError, QuotaExhaustedError, RateLimitError
from kling_async.gateways.asking import check_duration, check_prompt, merged, refuse_model, refuse_unknown
from kling_async.gateways.charges import charge_in
from kling_async.gateways.keyed import KeyedGateway
from kling_async.gateways.protocol import Accepted
from kling_async.gateways.reading import (
    is_named,
    judged,
    kept,
    moment,
    reason_in,
    record,
    seconds,
    share,
    urls_in,
    words,
)
from kling_async.gateways.refusals import invalid, opened, required_id, same_task, task_of, unsupported
from kling_async.requests import Request, TextToVideo, default_model
from kling_async.results import Snapshot
from kling_async.wire import Exchange, HttpRequest, HttpResponse, segment

_RESOLUTION = {"std": "720p", "pro": "1080p", "4k": "4k"}
_MODELS = {"kling-3.0": "kling-3", "kling-2": "kling-2"}
_LONGEST = {"kling-3.0": 120, "kling-2": 60}
_SLOW_DOWN = 600.0


@define(init=False)
class KlingGenerator(KeyedGateway):
    """The adapter for klinggenerator.com.

    Its quota is a number of requests a day (10 free, 1,000 for Pro); whether looks at a job count is not documented.

    Args:
        api_key: sent as `Authorization: Bearer` with every request to the API and to nobody else.
    """

    name = "klinggenerator"
    base_url = "https://api.klinggenerator.com"
    kinds = ("text-to-video",)
    daily_quota = True

    def submit(self, request: Request, key: str) -> Exchange[Accepted]:
        """`POST /v1/generate`. There is no idempotency key."""
        response = yield HttpRequest("POST", "/v1/generate", json=_body(request))
        body = self._opened(response, submitting=True)
        data = record(body.get("data")) or body
        names = (data.get("job_id"), data.get("task_id"), data.get("id"))
        task_id = required_id(self.name, response, *names)
        return Accepted(task_id, _snapshot(task_id, data))

    def poll(self, task_ids: Sequence[str]) -> Exchange[Mapping[str, Snapshot]]:
        """`GET /v1/jobs/{job_id}`."""
        (task_id,) = task_ids
        response = yield HttpRequest("GET", f"/v1/jobs/{segment(task_id)}")
        body = self._opened(response)
        data = task_of(self.name, response, record(body.get("data")) or body)
        same_task(self.name, task_id, data)
        return {task_id: _snapshot(task_id, data)}

    def _opened(self, response: HttpResponse, *, submitting: bool = False) -> Mapping[str, Any]:
        """Return the body, telling a used-up day (`X-RateLimit-Remaining: 0`) from a plain "slow down".

        No reset time is documented, so only a short `Retry-After` says that the window is not a day.
        """
        found: KlingError
        try:
            return opened(self.name, response, submitting=submitting)
        except RateLimitError as error:
            found = error
        used_up = response.headers.get("x-ratelimit-remaining", "").strip() == "0"
        if not used_up or (found.retry_after is not None and found.retry_after <= _SLOW_DOWN):
            raise found
        raise found.become(QuotaExhaustedError, "the day's quota of requests is used up")


def _body(request: Request) -> dict[str, Any]:
    name = KlingGenerator.name
    if not isinstance(request, TextToVideo):
        raise unsupported(name, "type", f"makes no {request.kind}", "INVALID_TYPE")
    model = default_model(request)
    refuse_model(name, model, _MODELS, request.kind)
    refuse_unknown(name, request, ("duration", "quality", "fps"))
    check_prompt(name, request, None)
    check_duration(name, request.duration, 5, _LONGEST[model])
    if request.quality == "4k" and model == "kling-2":
        raise unsupported(name, "quality", "has no quality 4k for kling-2; it has std, pro")
    if request.fps not in (None, 24, 30, 60):
        raise invalid(name, "fps", f"{request.fps} is not one of 24, 30, 60")
    body = {
        "prompt": request.prompt,
        "model": _MODELS[model],
        "duration": request.duration,
        "resolution": _RESOLUTION[request.quality],
        "fps": request.fps,
    }
    return merged(body, request)


def _snapshot(task_id: str, data: Mapping[str, Any]) -> Snapshot:
    """Read a job; the body of a failed one is not documented."""
    urls = urls_in(data.get("video_url"), data.get("url"), record(data.get("result")))
    reason = reason_in(data.get("error"), data.get("error_message"), data.get("message"))
    status, code = judged(data.get("status"), urls, reason)
    charged, odd = charge_in(data, "credits", "consumed_credits")
    return Snapshot(
        task_id=task_id,
        status=status,
        raw_status=words(data.get("status"), 100) or "",
        progress=share(data.get("progress")),
        urls=urls,
        thumbnail_url=next(iter(urls_in(data.get("thumbnail_url"))), None),
        duration=seconds(data.get("duration")),
        credits=charged,
        odd_credits=odd,
        created_at=moment(data.get("created_at")),
        finished_at=moment(data.get("completed_at")),
        estimated_at=moment(data.get("estimated_completion")),
        code=code,
        message=reason[1],
        raw=kept(status, data),
        named=is_named(task_id, data),
    )
