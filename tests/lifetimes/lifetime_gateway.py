"""A sandbox in a process of its own, so that the sockets of the process under test are those of its client alone.

It prints its origin, and ends with whoever started it. Its videos are long enough to arrive in several pieces.
"""

import asyncio
import sys

from aiohttp import web

import kling_async.sandbox.downloads
from kling_async.sandbox import Sandbox, create_app
from kling_async.sandbox.mp4 import box, video

PADDING = 600_000


async def serve():
    kling_async.sandbox.downloads.video = lambda *about: video(*about) + box(b"free", bytes(PADDING))
    sandbox = Sandbox(median=0.02, sigma=0)
    runner = web.AppRunner(create_app(sandbox), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sandbox.public_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    print(sandbox.public_url, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve())
