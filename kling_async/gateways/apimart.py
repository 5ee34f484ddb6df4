"""apimart.ai: Kling v3, v3-omni, 3.0-turbo and 2.6. Documented at https://docs.apimart.ai."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from attrs import define

from kling_async.errors import (
    AuthenticationError,
    GatewayUnavailableError,
    InsufficientCreditsError,
    InvalidRequestError,
    KlingError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
)
from kling_async.gateways.apimart_body import body_of_request
from kling_async.gateways.charges import charge_in
from kling_async.gateways.keyed import KeyedGateway
from kling_async.gateways.protocol import Accepted
from kling_async.gateways.reading import (
    amount,
    is_named,
    judged,
    kept,
    moment,
    reason_in,
    record,
    share,
    urls_in,
    words,
)
from kling_async.gateways.refusals import invalid, opened, required_id, same_task, task_of
from kling_async.requests import KINDS, Request
from kling_async.results import Balance, Snapshot
from kling_async.wire import Exchange, HttpRequest, Part, segment

# The `type` (or `code`) of an error, where the status alone does not say enough.
_CODES: Mapping[str, type[KlingError] | None] = {
    "authentication_error": AuthenticationError,
    "payment_required": InsufficientCreditsError,
    "permission_error": PermissionDeniedError,
    "rate_limit_error": RateLimitError,
    "server_error": GatewayUnavailableError,
    "bad_gateway": GatewayUnavailableError,
    "idempotency_in_progress": None,
    "idempotency_key_reused": None,
    "idempotency_result_indeterminate": None,
    "idempotency_unavailable": None,
    "get_channel_failed": None,
    "build_request_failed": None,
}

_KEY = re.compile(r"[\x21-\x7e]{1,191}")


@define(init=False)
class ApiMart(KeyedGateway):
    """The adapter for apimart.ai.

    A submit carries `Idempotency-Key` (the vendor's own client does), so a lost answer is asked for again with the
    same key and makes no second job.

    Args:
        api_key: sent as `Authorization: Bearer` with every request to the API and to nobody else.
    """

    name = "apimart"
    base_url = "https://api.apimart.ai"
    dedupes_by_key = True
    kinds = tuple(KINDS)

    def submit(self, request: Request, key: str) -> Exchange[Accepted]:
        """`POST /v1/videos/generations` with `Idempotency-Key`."""
        body = body_of_request(request)
        if not _KEY.fullmatch(key):
            raise invalid(self.name, "key", "is not 1 to 191 visible ASCII characters")
        response = yield HttpRequest("POST", "/v1/videos/generations", json=body, headers={"Idempotency-Key": key})
        try:
            answer = opened(self.name, response, known=_CODES, submitting=True)
        except KlingError as error:
            refused = error
        else:
            data = record(answer.get("data"))
            task_id = required_id(self.name, response, data.get("task_id"), data.get("id"), answer.get("task_id"))
            replayed = response.headers.get("idempotency-replayed", "").lower() == "true"
            return Accepted(task_id, _snapshot(task_id, data), replayed)
        _raise_meant(refused)

    def poll(self, task_ids: Sequence[str]) -> Exchange[Mapping[str, Snapshot]]:
        """`GET /v1/tasks/{task_id}`."""
        (task_id,) = task_ids
        response = yield HttpRequest("GET", f"/v1/tasks/{segment(task_id)}")
        data = task_of(self.name, response, record(opened(self.name, response, known=_CODES).get("data")))
        same_task(self.name, task_id, data, bare_id=True)
        return {task_id: _snapshot(task_id, data)}

    def balance(self) -> Exchange[Balance]:
        """`GET /v1/balance`: what is left for this key, in credits (10 credits are 1 USD)."""
        response = yield HttpRequest("GET", "/v1/balance")
        body = opened(self.name, response, known=_CODES)
        unlimited = body.get("unlimited_quota") is True
        unit = "credits" if body.get("remain_credits") is not None else "USD"
        ending = "credits" if unit == "credits" else "balance"
        left = amount(body.get(f"remain_{ending}"))
        if left is None and not unlimited:
            raise ProtocolError("the answer names no balance", gateway=self.name, code="no_balance")
        return Balance(None if unlimited else left, unit, amount(body.get(f"used_{ending}")), unlimited)

    def upload(self, filename: str, content_type: str, data: bytes) -> Exchange[str]:
        """`POST /v1/uploads/images`: JPEG, PNG, WebP or GIF of at most 20 MB; the URL is valid for 72 hours."""
        if content_type not in ("image/jpeg", "image/png", "image/webp", "image/gif"):
            raise invalid(self.name, "file", f"{filename} is {content_type}, not a JPEG, PNG, WebP or GIF")
        if len(data) > 20_000_000:
            raise invalid(self.name, "file", f"{filename} has {len(data)} bytes, more than 20 MB")
        part = Part("file", filename, content_type, data)
        response = yield HttpRequest("POST", "/v1/uploads/images", parts=(part,))
        body = opened(self.name, response, known=_CODES)
        named = urls_in(body.get("url"), record(body.get("data")))
        url = next((each for each in named if each.startswith(("https://", "http://"))), None)
        if url is None:
            raise ProtocolError("the answer names no URL", gateway=self.name, code="no_url", raw=response.excerpt())
        return url


def _raise_meant(refused: KlingError) -> NoReturn:
    """Raise what a refused submit means to a payer: the vendor documents which refusals were not executed."""
    said = f"{refused.code} {refused.message}"  # the identifier may be in `code` or in `message`
    status = refused.http_status or 0
    if "idempotency_result_indeterminate" in said:
        raise refused.become(GatewayUnavailableError, charged="unknown", code="idempotency_result_indeterminate")
    if "idempotency_in_progress" in said:
        # The same request is being executed, and may be charged: asking again with the same key brings its answer.
        raise refused.become(GatewayUnavailableError, charged="unknown", code="idempotency_in_progress")
    if "idempotency_unavailable" in said and status == 503:
        raise refused.become(GatewayUnavailableError, charged="no", code="idempotency_unavailable")
    if "get_channel_failed" in said and 400 <= status < 500:
        raise refused.become(GatewayUnavailableError, charged="no")
    if refused.code == "build_request_failed":
        raise refused.become(InvalidRequestError, charged="no")
    raise refused


def _snapshot(task_id: str, data: Mapping[str, Any]) -> Snapshot:
    """Read a task. Times are Unix seconds; `estimated_time` is in seconds from `created`."""
    result = record(data.get("result"))
    urls = urls_in(result.get("videos"), result.get("video"), result.get("url"))
    reason = reason_in(data.get("error"), data.get("error_message"), data.get("fail_reason"))
    status, code = judged(data.get("status"), urls, reason)
    created = moment(data.get("created", data.get("created_at")))
    estimated = amount(data.get("estimated_time"))
    charged, odd = charge_in(data, "credits_cost")
    return Snapshot(
        task_id=task_id,
        status=status,
        raw_status=words(data.get("status"), 100) or "",
        progress=share(data.get("progress")),
        urls=urls,
        credits=charged,
        odd_credits=odd,
        created_at=created,
        finished_at=moment(data.get("completed")),
        estimated_at=moment(created.timestamp() + float(estimated)) if created and estimated else None,
        expires_at=moment(record(result.get("videos")).get("expires_at")),
        code=code,
        message=reason[1],
        raw=kept(status, data),
        named=is_named(task_id, data),
    )
