"""What the flags say about the session, and the session they make: a real gateway, or the sandbox in this process."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from attrs import frozen

from kling_async.cli.keys import key_for, key_source
from kling_async.errors import ConfigurationError
from kling_async.gateways.protocol import Gateway
from kling_async.gateways.registry import gateway_factory
from kling_async.secret import Secret
from kling_async.session import KlingSession
from kling_async.settings import DownloadPolicy, PollPlan, Rate, Timeouts

SANDBOX_GATEWAY = "kling3api"
SANDBOX_SPEED = 30.0
SANDBOX_KEY = f"sk-{os.urandom(16).hex()}"
"""No word of any message, since every trace of the key is masked."""
SANDBOX_MEDIAN = 90.0
RATE = "auto"
SANDBOX_RATE = "50/s"
UNSET = "unset"
"""Stands for a rate that no flag names: None is the flag's "none"."""
_FLAGS = (
    ("Timeouts.generation", "--timeout"),
    ("Timeouts.submit", "--submit-timeout"),
    ("PollPlan.first", "--poll-first"),
    ("PollPlan.minimum", "--poll-min"),
    ("PollPlan.maximum", "--poll-max"),
    ("allow_private_hosts", "--allow-private-host"),
)


@frozen(kw_only=True)
class Setup:
    """The flags, read. Times are in seconds; None leaves the library's default.

    Args:
        sandbox: talk to a sandbox in this process; `gateway` says for whom it stands in.
        speed, seed: of the sandbox.
    """

    gateway: str | None = None
    api_key_file: str | None = None
    base_url: str | None = None
    concurrency: int | Literal["auto"] | None = "auto"
    rate: Rate = UNSET
    poll_min: float | None = None
    poll_max: float | None = None
    poll_first: float | None = None
    timeout: float | None = 3600.0
    submit_timeout: float = 90.0
    allow_private_host: tuple[str, ...] = ()
    sandbox: bool = False
    speed: float = SANDBOX_SPEED
    seed: int = 0

    @property
    def name(self) -> str:
        """The gateway's name. Raises `ConfigurationError` where nobody named one."""
        if self.sandbox:
            return self.gateway or SANDBOX_GATEWAY
        name = self.gateway or os.environ.get("KLING_GATEWAY")
        if not name:
            raise ConfigurationError("no gateway: give --gateway NAME or set KLING_GATEWAY", field="gateway")
        return name

    def adapter(self) -> Gateway:
        """Return the gateway's adapter with a key that is none, to check and to price without an account."""
        return gateway_factory(self.name)(Secret("plan"))

    def session(self, base_url: str | None = None) -> KlingSession:
        """Return the session, not entered. Raises `ConfigurationError`, in the words of the command line."""
        try:
            return self._session(base_url)
        except ConfigurationError as error:
            told = self._in_flags(error)
        raise told

    def _session(self, base_url: str | None) -> KlingSession:
        gateway_factory(self.name)  # a name that nobody has is told before a missing key
        return KlingSession(
            self.name,
            api_key=SANDBOX_KEY if self.sandbox else key_for(self.name, self.api_key_file),
            base_url=base_url or self.base_url,
            concurrency=self.concurrency,
            rate=self._rate(),
            poll=self.poll(),
            timeouts=Timeouts(submit=self.submit_timeout, generation=self.timeout),
            downloads=DownloadPolicy(allow_private_hosts=self.allow_private_host),
        )

    def poll(self) -> PollPlan:
        """Return when to look at jobs: as the flags say, else as it suits the sandbox's speed."""
        given = (self.poll_min, self.poll_max, self.poll_first)
        if self.sandbox and given == (None, None, None):
            typical = max(SANDBOX_MEDIAN / self.speed, 0.05)
            return PollPlan(first=typical / 2, minimum=typical / 10, maximum=typical / 5)
        minimum = self.poll_min if self.poll_min is not None else min(1.0, self.poll_max or 1.0)
        maximum = self.poll_max if self.poll_max is not None else max(30.0, minimum)
        return PollPlan(first=self.poll_first, minimum=minimum, maximum=maximum)

    def _rate(self) -> Rate:
        if self.rate != UNSET:
            return self.rate
        return SANDBOX_RATE if self.sandbox else RATE

    @property
    def key_source(self) -> str:
        """What the key is taken from, in words."""
        return key_source(self.name, self.api_key_file)

    def _in_flags(self, error: ConfigurationError) -> ConfigurationError:
        """Return the error with flags for the names that the library has for them."""
        words = error.message
        for name, flag in (*_FLAGS, ("base_url", "--base-url" if self.base_url else "KLING_BASE_URL")):
            words = words.replace(name, flag)
        return error.evolve(message=f"--rate: {words}" if error.field == "rate" else words)


@asynccontextmanager
async def opened(setup: Setup, ready: KlingSession | None = None) -> AsyncIterator[KlingSession]:
    """Open the session, that one if it is made; with `--sandbox`, serve the sandbox on loopback around a new one."""
    if not setup.sandbox:
        async with ready or setup.session() as session:
            yield session
        return
    from kling_async.sandbox import Sandbox
    from kling_async.sandbox.server import serve

    async with serve(Sandbox(seed=setup.seed, speed=setup.speed)) as server, setup.session(server.url) as session:
        yield session
