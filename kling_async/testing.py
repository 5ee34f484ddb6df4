"""Testing aids: a pytest plugin with the fixture `kling_sandbox`, and the faults that it can play.

    from kling_async.testing import drop_after_accept

    async def test_a_lost_answer_is_in_doubt(kling_sandbox):
        kling_sandbox.next(drop_after_accept())              # takes the job, then hangs up
        async with KlingSession() as session:                # KLING_* point at the sandbox
            outcome = await session.submit(TextToVideo("a red fox")).outcome()
        assert isinstance(outcome.error, SubmissionInDoubtError)
        assert kling_sandbox.charges == 1

The fixture is a plain synchronous one, so it works in any test: synchronous, anyio, pytest-asyncio. Its server runs in
a thread. The plugin is loaded in every pytest run of an environment that has kling_async: nothing else is imported
until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kling_async.contract import check_gateway
    from kling_async.sandbox.core import Sandbox
    from kling_async.sandbox.faults import (
        accepted_then,
        answer,
        drop_after_accept,
        drop_before_accept,
        empty,
        ends_after,
        expired_link,
        fail,
        garbage,
        half_body,
        hang_after_accept,
        html,
        http,
        lie_about,
        no_url,
        not_a_video,
        reset_after_accept,
        slow,
        stuck,
        truncated_mp4,
    )
    from kling_async.sandbox.handle import KlingSandbox
    from kling_async.sandbox.server import ThreadedServer, create_app, serve

__all__ = [
    "KlingSandbox",
    "Sandbox",
    "ThreadedServer",
    "accepted_then",
    "answer",
    "check_gateway",
    "create_app",
    "drop_after_accept",
    "drop_before_accept",
    "empty",
    "ends_after",
    "expired_link",
    "fail",
    "garbage",
    "half_body",
    "hang_after_accept",
    "html",
    "http",
    "lie_about",
    "no_url",
    "not_a_video",
    "reset_after_accept",
    "serve",
    "slow",
    "stuck",
    "truncated_mp4",
]

_HOME = {
    "KlingSandbox": "sandbox.handle",
    "Sandbox": "sandbox.core",
    "ThreadedServer": "sandbox.server",
    "check_gateway": "contract",
    "create_app": "sandbox.server",
    "serve": "sandbox.server",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"kling_async.{_HOME.get(name, 'sandbox.faults')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # Without the lazy names: pytest looks at every name of a plugin, and would import them all.
    return sorted(globals())


def pytest_configure(config: Any) -> None:
    """Give pytest the fixtures."""
    config.pluginmanager.register(import_module("kling_async.sandbox.fixtures"), "kling_async.fixtures")
