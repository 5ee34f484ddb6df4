"""Adapters to gateways, and what is needed to write another one."""

from kling_async.gateways.asking import bearer
from kling_async.gateways.protocol import Accepted, Gateway
from kling_async.gateways.reading import amount, judged, moment, reason_in, record, share, status_of, urls_in
from kling_async.gateways.refusals import invalid, opened, refusal, required_id, unsupported
from kling_async.gateways.registry import gateway_factory, gateway_names
from kling_async.results import Balance, Cost, Snapshot, Status
from kling_async.secret import Secret
from kling_async.wire import Exchange, HttpRequest, HttpResponse, Part, is_task_id, read_json, segment, talk

__all__ = [
    "Accepted",
    "Balance",
    "Cost",
    "Exchange",
    "Gateway",
    "HttpRequest",
    "HttpResponse",
    "Part",
    "Secret",
    "Snapshot",
    "Status",
    "amount",
    "bearer",
    "gateway_factory",
    "gateway_names",
    "invalid",
    "is_task_id",
    "judged",
    "moment",
    "opened",
    "read_json",
    "reason_in",
    "record",
    "refusal",
    "required_id",
    "segment",
    "share",
    "status_of",
    "talk",
    "unsupported",
    "urls_in",
]
