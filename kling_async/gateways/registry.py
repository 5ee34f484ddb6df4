"""Which gateways there are, by name: ours, and those that other packages register."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from kling_async.errors import ConfigurationError
from kling_async.gateways.protocol import Gateway
from kling_async.loading import loads
from kling_async.secret import Secret

GROUP = "kling_async.gateways"

_OWN = {
    "kling3api": "kling_async.gateways.kling3api:Kling3Api",
    "apiin": "kling_async.gateways.apiin:ApiIn",
    "klinggenerator": "kling_async.gateways.klinggenerator:KlingGenerator",
    "apimart": "kling_async.gateways.apimart:ApiMart",
}

Factory = Callable[[Secret], Gateway]


def gateway_names() -> tuple[str, ...]:
    """Return the names that `KlingSession(gateway=…)` takes: ours first, then those of installed plug-ins."""
    return (*_OWN, *(point.name for point in _plugins()))


def gateway_factory(name: str) -> Factory:
    """Return what makes the gateway of that name from an API key.

    Raises `ConfigurationError` for a name that nobody registered, and for an adapter that cannot be loaded.
    """
    if name in _OWN:
        return _own(name)
    for point in _plugins():
        if point.name == name:
            return _plugged_in(point)
    near = get_close_matches(name, gateway_names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(gateway_names())}"
    raise ConfigurationError(f"there is no gateway {name!r}; {hint}", field="gateway", stage="validate")


@loads("the gateway's adapter")
def _own(name: str) -> Factory:
    module, _, attribute = _OWN[name].partition(":")
    factory: Factory = getattr(import_module(module), attribute)
    return factory


@loads("the gateway's plug-in")
def _plugged_in(point: Any) -> Factory:
    factory: Factory = point.load()
    return factory


def _plugins() -> Iterator[Any]:
    from importlib.metadata import entry_points

    return (point for point in entry_points(group=GROUP) if point.name not in _OWN)
