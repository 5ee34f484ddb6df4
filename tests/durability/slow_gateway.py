"""A sandbox in a process of its own, with a network that takes its time and videos of any size.

It prints `listening on URL`. `GET /downloads` tells, by task, which ranges were asked for and how many bytes left;
`GET /forget` makes it forget the keys of all submits.
"""

import argparse
import asyncio
import random
import socket
import sys
from collections import defaultdict

from aiohttp import web

import kling_async.sandbox.downloads
from kling_async.sandbox import Sandbox, create_app
from kling_async.sandbox.mp4 import box, video


def parser():
    made = argparse.ArgumentParser()
    made.add_argument("--median", type=float, default=0.05, help="seconds that a job lasts")
    made.add_argument("--latency", type=float, default=0.0, help="the most seconds that a POST is under way, each way")
    made.add_argument("--padding", type=int, default=0, help="bytes added to each video")
    made.add_argument("--piece", type=int, default=0, help="send videos in pieces of so many bytes, 2 ms apart")
    made.add_argument("--bare", type=int, default=0, help="1: with the pieces, tell neither their length nor an ETag")
    return made


def watched(given, served):
    """Return what stands between the network and the sandbox."""

    async def in_pieces(request, answer, known):
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        if given.bare:
            del response.headers["ETag"]
        else:
            response.content_length = len(answer.body)
        await response.prepare(request)
        # What waits in the network would count as sent.
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        for start in range(0, len(answer.body), given.piece):
            piece = answer.body[start : start + given.piece]
            await response.write(piece)
            known["bytes"] += len(piece)
            await asyncio.sleep(0.002)
        return response

    @web.middleware
    async def watch(request, handler):
        if request.method == "POST" and given.latency:
            await asyncio.sleep(random.random() * given.latency)
            answer = await handler(request)
            await asyncio.sleep(random.random() * given.latency)
            return answer
        if not request.path.startswith("/_sandbox/videos/"):
            return await handler(request)
        known = {"range": request.headers.get("Range"), "bytes": 0}
        served[request.path.rpartition("/")[2].removesuffix(".mp4")].append(known)
        answer = await handler(request)
        if given.piece:
            return await in_pieces(request, answer, known)
        known["bytes"] += len(answer.body)
        return answer

    return watch


async def serve(given):
    served = defaultdict(list)

    async def report(_request):
        return web.json_response(served)

    if given.padding:
        kling_async.sandbox.downloads.video = lambda *about: video(*about) + box(b"free", bytes(given.padding))
    sandbox = Sandbox(median=given.median)

    async def forget(_request):
        sandbox.replays.clear()
        return web.json_response({})

    app = create_app(sandbox)
    app.middlewares.append(watched(given, served))
    app.router.add_get("/downloads", report)
    app.router.add_get("/forget", forget)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sandbox.public_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    print(f"listening on {sandbox.public_url}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until whoever started it is gone
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(parser().parse_args()))
