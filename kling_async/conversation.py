"""Drives a gateway's conversations over the transport: credentials at the last moment, nothing but our own errors."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from attrs import evolve

from kling_async.errors import KlingError, ProtocolError, mentions, repeats, scrub
from kling_async.flow.allowance import Allowance, allowance
from kling_async.flow.decision import unanswered
from kling_async.gateways.protocol import Gateway
from kling_async.mishaps import tell_mishap
from kling_async.network import Fence, Transport
from kling_async.results import Snapshot
from kling_async.secret import Secret
from kling_async.wire import Exchange

log = logging.getLogger("kling_async")

T = TypeVar("T")


class Conversations:
    """Talks to one gateway.

    Args:
        gateway: whose conversations they are.
        transport: what carries them.
        heard: told of what the gateway says is left of its limit.
    """

    def __init__(
        self, gateway: Gateway, transport: Transport, heard: Callable[[Allowance], None] = lambda _: None
    ) -> None:
        self.gateway = gateway
        self.transport = transport
        self._heard = heard

    async def hold(
        self, exchange: Exchange[T], *, timeout: float, fence: Fence | None = None, fresh: bool = False
    ) -> T:
        """Drive a conversation to its end within `timeout` seconds and return its value.

        Raises a `KlingError` without secrets, without foreign exceptions behind it, and naming the gateway.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + timeout
        try:
            request = next(exchange)
            while (left := end - clock()) > 0:
                authorized = self.gateway.authorize(request, time.time())
                if fence is not None:
                    fence.answer = None
                response = await self.transport.send(authorized, timeout=left, fence=fence, fresh=fresh)
                if fence is not None:
                    fence.answer = response
                log.debug("%s %s: HTTP %d", request.method, request.path, response.status)
                said = allowance(response.headers, time.time())
                if said is not None:
                    self._heard(said)
                request = exchange.send(response)
            sent = fence is None or fence.sent
            failure = self.clean(unanswered("the gateway", "timeout", "the conversation took too long", sent=sent))
        except StopIteration as stop:
            value: T = stop.value
            return value
        except KlingError as error:
            failure = self.clean(error)
        except Exception as error:  # noqa: BLE001 - of the adapter, which may be a plug-in
            tell_mishap(f"the adapter {self.gateway.name} failed", error, self.gateway)
            failure = self.clean(ProtocolError(f"the adapter failed: {type(error).__name__}", code="adapter"))
        finally:
            exchange.close()
        raise failure  # clean before it has a name here: a traceback shows the locals, too

    def clean(self, error: KlingError) -> KlingError:
        """Return a fresh error that names the gateway and holds no trace of the key."""
        named = error.evolve(gateway=error.gateway or self.gateway.name)
        secret = secret_of(self.gateway)  # asked for each time: no attribute but the gateway's own holds it
        return named.scrubbed(secret) if secret else named

    def betrays(self, text: str) -> bool:
        """Tell whether a text of the gateway's holds the whole key, and must not be shown, stored or sent."""
        return repeats(text, secret_of(self.gateway))

    def cleaned(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot whose words and raw answer hold no trace of the key."""
        secret = secret_of(self.gateway)
        told = {name: value for name in _TOLD if (value := getattr(snapshot, name))} if secret else {}
        return evolve(snapshot, **scrub(told, secret)) if mentions(told, secret) else snapshot


_TOLD = ("raw", "message", "code", "raw_status", "prompt")
"""What a snapshot repeats of an answer."""


def secret_of(gateway: Gateway) -> str:
    """Return the key that an adapter holds, or nothing where it keeps its credentials elsewhere."""
    key: Secret | str | None = getattr(gateway, "api_key", None)
    return key.reveal() if isinstance(key, Secret) else key or ""
