"""A program that opens a session and a batch, makes its videos, and leaves neither of them."""

import asyncio
import sys
from pathlib import Path

from lifetime_place import Gateway, clip
from lifetime_uses import Opened
from lifetime_watch import LOOPS


async def never_left(gateway, place):
    opened = await Opened.at(gateway, place, "ends_after 0.2")
    opened.session.submit(clip("stuck"))
    return [outcome.ok for outcome in await opened.finish()]


if __name__ == "__main__":
    loop_name, url, directory = sys.argv[1:]
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        print(runner.run(never_left(Gateway(None, url), Path(directory))))
