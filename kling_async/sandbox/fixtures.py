"""The pytest fixtures; registered by the plugin `kling_async.testing`."""

from collections.abc import Iterator

import pytest

from kling_async.sandbox.core import Sandbox
from kling_async.sandbox.handle import KlingSandbox

API_KEY = "sandbox-key"
SPEED = 200.0


@pytest.fixture
def kling_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[KlingSandbox]:
    """A fresh Kling sandbox on a loopback port, with KLING_* set to it: jobs take about half a second.

    `.next(action)` and `.script(action, ...)` spoil answers; `.charges`, `.submissions`, `.max_in_flight`,
    `.polls_per_task`, `.ledger` and `.assert_paid_once()` tell what happened; `.url`, `.api_key`, `.sandbox`.
    """
    from kling_async.sandbox.server import ThreadedServer

    sandbox = Sandbox(speed=SPEED, api_keys=(API_KEY,))
    with ThreadedServer(sandbox) as server:
        monkeypatch.setenv("KLING_GATEWAY", "kling3api")
        monkeypatch.setenv("KLING_API_KEY", API_KEY)
        monkeypatch.setenv("KLING_BASE_URL", server.url)
        yield KlingSandbox(server.url, API_KEY, sandbox)
