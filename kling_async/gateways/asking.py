"""Checks and small conversions that the adapters share on the way out."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from kling_async.addresses import is_private_host
from kling_async.gateways.refusals import invalid, unsupported
from kling_async.requests import Request, Shot, defaults_of
from kling_async.secret import Secret
from kling_async.wire import HttpRequest

MOST_ECHOED = 512 * 1024
"""Bytes of a request that a gateway repeats in its answers; theirs may be twice as large."""


def bearer(request: HttpRequest, key: Secret) -> HttpRequest:
    """Return the request with `Authorization: Bearer`, as every one of these gateways documents it."""
    # Written in one go: no name here holds the key, which a traceback with locals would show.
    return HttpRequest(
        *(request.method, request.path, request.query, request.json, request.parts),
        {**request.headers, "Authorization": f"Bearer {key.reveal()}"},
    )


def refuse_unknown(gateway: str, request: Request, supported: Iterable[str]) -> None:
    """Raise `UnsupportedError` for the first field that is set and that the gateway does not have."""
    for name, default in _not_among(request.kind, tuple(supported)):
        if getattr(request, name) != default:
            raise unsupported(gateway, name)


@cache
def _not_among(kind: str, supported: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    known = {*supported, "prompt", "model", "extra"}
    return tuple((name, default) for name, default in defaults_of(kind) if name not in known)


def refuse_model(gateway: str, model: str, models: Iterable[str], kind: str) -> None:
    """Raise `UnsupportedError` for a model that the gateway does not have for this kind of request."""
    choices = tuple(models)
    if model not in choices:
        why = f"makes no {kind} with model {model!r}; it has {', '.join(choices)}" if choices else f"makes no {kind}"
        raise unsupported(gateway, "model" if choices else "type", why, "INVALID_TYPE")


def check_prompt(gateway: str, request: Request, longest: int | None, *, shots_instead: bool = False) -> None:
    """Raise for a prompt that is missing or has more than `longest` characters (not bytes)."""
    if not request.prompt and not (shots_instead and request.shots):
        raise invalid(gateway, "prompt", "is empty", "INVALID_PROMPT")
    if longest is not None and len(request.prompt) > longest:
        found = f"{len(request.prompt)} characters are more than {longest}"
        raise invalid(gateway, "prompt", found, "INVALID_PROMPT")


def check_duration(gateway: str, duration: int, low: int, high: int) -> None:
    """Raise for a duration outside the documented range."""
    if not low <= duration <= high:
        raise invalid(gateway, "duration", f"{duration} is not between {low} and {high}", "INVALID_DURATION")


def check_shots(gateway: str, shots: tuple[Shot, ...], duration: int, most: int | None, longest: int | None) -> None:
    """Raise for too many shots, a shot's prompt that is too long, or durations that do not add up."""
    if most is not None and len(shots) > most:
        raise invalid(gateway, "shots", f"{len(shots)} shots are more than {most}")
    for number, shot in enumerate(shots, 1):
        if longest is not None and len(shot.prompt) > longest:
            found = f"shot {number} has {len(shot.prompt)} characters, more than {longest}"
            raise invalid(gateway, "shots", found, "INVALID_PROMPT")
    total = sum(shot.duration for shot in shots)
    if shots and total != duration:
        found = f"the shots last {total} s together, the duration is {duration} s"
        raise invalid(gateway, "shots", found, "INVALID_DURATION")


def check_public(gateway: str, request: Request) -> None:
    """Raise for media that the gateway could not fetch: inline data, or a host that is private by its name."""
    for name in _media_of(request.kind):
        value = getattr(request, name) or ()
        for url in value if isinstance(value, tuple) else (value,):
            _check_url(gateway, name, url)
    for subject in request.subjects:
        for url in subject.images:
            _check_url(gateway, "subjects", url)


@cache
def _media_of(kind: str) -> tuple[str, ...]:
    return tuple(name for name, _ in defaults_of(kind) if name in ("image", "end_image", "video", "images"))


def _check_url(gateway: str, name: str, url: str) -> None:
    if url.startswith("data:"):
        raise unsupported(gateway, name, f"takes no inline data as {name}; give a public URL")
    host = (urlsplit(url).hostname or "").rstrip(".")
    if is_private_host(host):
        raise invalid(gateway, name, f"{host} is not a public host, so the gateway cannot fetch from it")


def check_echo(gateway: str, body: Mapping[str, Any]) -> None:
    """Raise for a request so large that no answer which repeats it could be read: it would be paid for and lost."""
    size = len(json.dumps(body))
    if size > MOST_ECHOED:
        raise invalid(gateway, "request", f"has {size:,} bytes, more than {MOST_ECHOED:,}")


def merged(body: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Return the body without unset fields, with the user's `extra` fields last."""
    return {**{name: value for name, value in body.items() if value is not None}, **request.extra}
