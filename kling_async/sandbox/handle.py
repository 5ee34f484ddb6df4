"""What the pytest fixture `kling_sandbox` yields: a running sandbox, and what a test asks about it."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from attrs import define, field

from kling_async.sandbox.core import Sandbox
from kling_async.sandbox.faults import Action, Operation, Rule
from kling_async.sandbox.ledger import Ledger

if TYPE_CHECKING:
    from kling_async.session import KlingSession


@define(eq=False)
class KlingSandbox:
    """A sandbox on a loopback port. KLING_GATEWAY, KLING_API_KEY and KLING_BASE_URL point at it meanwhile.

    `url` is its origin, `api_key` the one key that it lets in, `sandbox` the whole of it.
    """

    url: str
    api_key: str = field(repr=False)
    sandbox: Sandbox

    def session(self, gateway: str = "kling3api", **settings: Any) -> "KlingSession":
        """Return a session for this sandbox, at its pace: looks every few hundredths of a second, no rate limit.

        Takes the settings of `KlingSession`; use it with `async with`.
        """
        from kling_async.session import KlingSession
        from kling_async.settings import PollPlan, RetryPolicy

        pace = {"rate": None, "poll": PollPlan(0.05, 0.05, 0.5), "retry": RetryPolicy(initial=0.05, maximum=0.5)}
        return KlingSession(gateway, **{"api_key": self.api_key, "base_url": self.url, **pace, **settings})

    def next(self, action: Action, *, on: Operation = "submit") -> None:
        """Apply an action to the very next call of that operation; several of them wait in line."""
        self.sandbox.next(action, on=on)

    def script(
        self,
        action: Action,
        *,
        on: Operation | None = None,
        prompt: str | None = None,
        api_key: str | None = None,
        nth: int | Collection[int] | None = None,
        times: int | None = None,
        every: int | None = None,
        share: float | None = None,
    ) -> Rule:
        """Apply an action to every call that matches; see `Sandbox.script`."""
        return self.sandbox.script(
            action, on=on, prompt=prompt, api_key=api_key, nth=nth, times=times, every=every, share=share
        )

    @property
    def ledger(self) -> Ledger:
        """Every submit, and counts of the rest."""
        return self.sandbox.ledger

    @property
    def charges(self) -> int:
        """How many jobs were accepted and charged."""
        return self.ledger.accepted

    @property
    def submissions(self) -> int:
        """How many submits arrived, whatever was answered."""
        return len(self.ledger.submits)

    @property
    def max_in_flight(self) -> int:
        """The most tasks that ran at the same time."""
        return self.ledger.max_running

    @property
    def polls_per_task(self) -> Mapping[str, int]:
        """How often each task was polled."""
        return dict(self.ledger.polls_per_task)

    def assert_paid_once(self, prompts: Collection[str] | None = None) -> None:
        """Fail unless no prompt was accepted more than once; and each of `prompts`, where given, exactly once."""
        counts = self.ledger.accepted_per_prompt
        wrong = {prompt: count for prompt, count in dict(counts).items() if count > 1}
        wrong |= {prompt: counts[prompt] for prompt in prompts or () if counts[prompt] != 1}
        if wrong:
            told = ", ".join(f"{prompt!r} {count} times" for prompt, count in wrong.items())
            raise AssertionError(f"not paid once: {told}")
