"""`kling sandbox`: a simulated gateway on a loopback port until Ctrl-C."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from kling_async.cli.codes import DONE, UNEXPECTED, USAGE
from kling_async.cli.drive import on_loop
from kling_async.cli.output import Output, talk
from kling_async.cli.signals import signals
from kling_async.cli.words import count, one_line
from kling_async.sandbox import Sandbox
from kling_async.sandbox.server import serve


def serve_sandbox(given: Mapping[str, Any]) -> int:
    """Serve until a signal comes."""
    settings = dict(given)
    port = settings.pop("port")
    if settings["seed"] is None:
        settings["seed"] = int.from_bytes(os.urandom(4))  # no task id of an earlier one, which a journal may hold
    return on_loop(_served(Sandbox(**settings), port))


async def _served(sandbox: Sandbox, port: int) -> int:
    stop, output = asyncio.Event(), Output()
    try:
        with signals(lambda _: stop.set()):
            async with serve(sandbox, port=port) as server:
                output.line(server.url.encode())
                _explain(server.url)
                await stop.wait()
    except OSError as error:
        talk(f"kling: port {port} cannot be used: {one_line(error.strerror or error)}")
        return USAGE
    talk(f"The sandbox took {count(sandbox.ledger.accepted, 'job')}.")
    if output.broken:
        talk(output.broken)
        return UNEXPECTED
    return DONE


def _explain(url: str) -> None:
    talk("It stands in for every gateway, and any key will do. In another terminal:")
    talk("")
    for line in ("KLING_GATEWAY=kling3api", "KLING_API_KEY=anything", f"KLING_BASE_URL={url}"):
        talk(f"  export {line}")
    talk("")
    talk("  kling run prompts.csv")
    talk("")
    talk("Ctrl-C ends it.")
