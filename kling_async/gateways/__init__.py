"""Adapters to gateways, and what is needed to write another one."""

from kling_async.gateways.protocol import Accepted, Gateway
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
    "gateway_factory",
    "gateway_names",
    "is_task_id",
    "read_json",
    "segment",
    "talk",
]
