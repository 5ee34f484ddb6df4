"""`python -m kling_async.sandbox`: serve a sandbox on a port until Ctrl-C."""

import argparse
import asyncio
import signal
import sys

from kling_async.sandbox.core import Sandbox
from kling_async.sandbox.server import serve


def parser() -> argparse.ArgumentParser:
    """The options, named as the settings of `Sandbox`."""
    made = argparse.ArgumentParser(prog="python -m kling_async.sandbox", description=__doc__)
    made.add_argument("--host", default="127.0.0.1", help="a loopback address (default 127.0.0.1)")
    made.add_argument("--port", type=int, default=0, help="default 0: a free one")
    made.add_argument("--speed", type=float, default=1.0, help="durations are divided by it (default 1)")
    made.add_argument("--median", type=float, default=90.0, help="median duration of a task in seconds (default 90)")
    made.add_argument("--sigma", type=float, default=0.4, help="spread of the durations (default 0.4)")
    made.add_argument("--seed", type=int, default=0, help="everything random follows from it (default 0)")
    made.add_argument("--balance", type=float, help="credits in the account (default endless)")
    made.add_argument("--rate", type=float, help="calls a second for each key (default no limit)")
    made.add_argument("--burst", type=float, help="calls at once (default a quarter of a second's worth)")
    made.add_argument("--max-running", type=int, help="tasks that may run at once (default no limit)")
    made.add_argument("--daily-quota", type=int, help="klinggenerator: submits a day (default no limit)")
    made.add_argument("--api-key", action="append", dest="api_keys", help="a key to let in (default any)")
    return made


async def run(sandbox: Sandbox, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve(sandbox, host, port) as server:
        sys.stdout.write(f"listening on {server.url}\n")
        sys.stdout.flush()
        await stop.wait()


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    given = vars(parser().parse_args(arguments))
    host, port = given.pop("host"), given.pop("port")
    asyncio.run(run(Sandbox(**given), host, port))


if __name__ == "__main__":
    main()
