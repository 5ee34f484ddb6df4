"""Who we are to a gateway: its adapter, its key and its address, from arguments or the environment."""

import ipaddress
import logging
import os
from urllib.parse import urlsplit

import attrs

from kling_async.errors import ConfigurationError
from kling_async.gateways.protocol import Gateway
from kling_async.gateways.registry import gateway_factory
from kling_async.secret import Secret

log = logging.getLogger("kling_async")


def gateway_for(gateway: str | Gateway | None, api_key: str | Secret | None) -> Gateway:
    """Return the adapter with its key. Raises `ConfigurationError` where one of them cannot be found."""
    if gateway is None:
        gateway = os.environ.get("KLING_GATEWAY") or None
    if gateway is None:
        raise ConfigurationError(
            "no gateway: name one, KlingSession('kling3api'), or set KLING_GATEWAY", field="gateway", stage="validate"
        )
    if isinstance(gateway, str):
        return gateway_factory(gateway)(key_for(gateway, api_key))
    if api_key is None:
        return gateway
    kind: type = type(gateway)
    if attrs.has(kind) and "api_key" in attrs.fields_dict(kind):
        keyed: Gateway = attrs.evolve(gateway, api_key=api_key)  # type: ignore[misc]
        return keyed
    raise ConfigurationError("this Gateway keeps its own credentials; give the key to it", field="api_key")


def key_for(name: str, api_key: str | Secret | None) -> Secret:
    """Return the key for a gateway: the argument, the gateway's own variable, or `KLING_API_KEY`."""
    if api_key is not None:
        return Secret(api_key)
    own = f"{name.upper().replace('-', '_')}_API_KEY"
    found = os.environ.get(own) or os.environ.get("KLING_API_KEY")
    if not found:
        raise ConfigurationError(
            f"no API key for {name}: pass api_key, or set {own} or KLING_API_KEY", field="api_key", stage="validate"
        )
    try:
        return Secret(found.strip())
    except ConfigurationError:
        found = None  # so that no traceback with locals shows it
        raise


def base_url_for(gateway: Gateway, base_url: str | None) -> str:
    """Return the address of the API: the argument, `KLING_BASE_URL`, or the documented one."""
    address = base_url or os.environ.get("KLING_BASE_URL") or getattr(gateway, "base_url", None)
    if not isinstance(address, str):
        raise ConfigurationError(f"the gateway {gateway.name} names no base_url; pass one", field="base_url")
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or "@" in parts.netloc or parts.query or parts.fragment or not address.isprintable() or " " in address:
        raise ConfigurationError(
            "base_url is not an origin like https://host, with an optional prefix, without a query or credentials",
            field="base_url",
            stage="validate",
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        log.warning("base_url is http://%s: the API key is sent in clear text", parts.netloc)
    return address.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
