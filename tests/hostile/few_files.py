"""A program that may open few files: it begins and makes jobs without a free one, then with some; says what came."""

import asyncio
import json
import os
import resource
import sys

from kling_async import ConfigurationError, DownloadError, KlingSession, PollPlan, RetryPolicy, TextToVideo

FEW = 32


def allow(files):
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def take_all():
    """Open files until no more may be opened."""
    taken = []
    while True:
        try:
            taken.append(os.dup(0))
        except OSError:
            return taken


def give_back(taken):
    for file in taken:
        os.close(file)


def session(url, attempts):
    retry = RetryPolicy(attempts=attempts, initial=0.02, maximum=0.05, budget=1000)
    return KlingSession("kling3api", base_url=url, rate=None, retry=retry, poll=PollPlan(0.02, 0.02, 0.2))


def say(**told):
    print(json.dumps(told), flush=True)


def refusal(what):
    """Return what is raised where there is no file to load with what is loaded late."""
    taken = take_all()
    try:
        what()
    except ConfigurationError as error:
        return [error.code, error.charged]
    finally:
        give_back(taken)


async def begin(url):
    """Make a session, open it and make a batch, each without a file first."""
    refused = [refusal(lambda: session(url, 1))]
    made = session(url, 1)
    taken = take_all()
    try:
        await made.__aenter__()
    except ConfigurationError as error:
        refused.append([error.code, error.charged])
    give_back(taken)
    async with made:
        refused.append(refusal(lambda: made.batch("never.db")))
        made.batch("never.db")
    say(not_loaded=refused)


async def run(url):
    await begin(url)
    say(files=resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    async with session(url, 3) as short:
        taken = take_all()
        refused = await short.submit(TextToVideo("a boat without a file"), key="order-1").outcome()
        say(refused=refused.error.to_dict(), charged=refused.charged, status=refused.status)
        give_back(taken)
    async with session(url, 1000) as patient:
        taken = take_all()
        futures = [patient.submit(TextToVideo(f"a boat that waits, {number}")) for number in range(8)]
        await asyncio.sleep(0.3)
        say(paused=sorted({str(future.status) for future in futures}))
        allow(2 * FEW)
        outcomes = [await future.outcome() for future in futures]
        say(raised=[outcome.ok for outcome in outcomes])
        taken += take_all()
        try:
            await patient.download(outcomes[0].video, "never.mp4")
        except DownloadError as error:
            say(download=error.to_dict())
        give_back(taken)


if __name__ == "__main__":
    allow(FEW)
    asyncio.run(run(sys.argv[1]))
