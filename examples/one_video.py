"""Make one video and download it, with an answer to everything that can go wrong.

    export KLING_GATEWAY=kling3api KLING_API_KEY=...
    python examples/one_video.py "a paper boat in the rain" boat.mp4

Without an account and without money, against the sandbox:

    python -m kling_async.sandbox --port 8080 --speed 20 &
    export KLING_GATEWAY=kling3api KLING_API_KEY=any KLING_BASE_URL=http://127.0.0.1:8080
    python examples/one_video.py "a paper boat in the rain" boat.mp4
"""

import asyncio
import sys
from pathlib import Path

from kling_async import (
    ConnectionFailedError,
    DownloadError,
    GenerationFailedError,
    GenerationTimeoutError,
    InsufficientCreditsError,
    InvalidRequestError,
    KlingError,
    KlingSession,
    PollPlan,
    SubmissionInDoubtError,
    TextToVideo,
)

SOMEBODY_WAITS = PollPlan(maximum=2)


async def make(prompt: str, target: Path) -> None:
    """Make a video of five seconds and save it."""
    async with KlingSession(poll=SOMEBODY_WAITS) as session:
        video = await session.generate(TextToVideo(prompt, duration=5))
        print(f"{video.task_id} is ready and cost {video.credits} credits")
        print(f"saved as {await session.download(video, target)}")


def advice(error: KlingError) -> str:
    """Say what to do about an error: its class is named after that."""
    match error:
        case InvalidRequestError():
            words = "change the request: " + "; ".join(f"{fault.field}: {fault.message}" for fault in error.faults)
        case InsufficientCreditsError():
            words = "top up the account; nothing was charged"
        case ConnectionFailedError():
            words = "nothing was sent; check the network and KLING_BASE_URL"
        case SubmissionInDoubtError():
            words = "it may have been accepted and charged: look at the account before sending it again"
        case GenerationFailedError():
            words = f"the gateway could not make it (charged: {error.charged}); a changed prompt may help"
        case GenerationTimeoutError():
            words = f"it may still be running: session.attach({error.task_id!r}) picks it up"
        case DownloadError():
            words = f"the video is made and paid for: session.attach({error.task_id!r}) finds it again"
        case _:
            words = f"{type(error).__name__} (charged: {error.charged})"
    return words


def main() -> None:
    """Run the example."""
    if len(sys.argv) != 3:
        sys.exit("usage: one_video.py PROMPT FILE")
    try:
        asyncio.run(make(sys.argv[1], Path(sys.argv[2])))
    except KlingError as error:
        sys.exit(f"{error}\n{advice(error)}")


if __name__ == "__main__":
    main()
