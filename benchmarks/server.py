"""The gateway of the benchmarks, in a process of its own: jobs that are done at a given look, whatever the time.

`python -m benchmarks.server --looks 3` prints its URL, and serves until its standard input ends.
"""

import argparse
import sys

from kling_async.sandbox import Sandbox, ThreadedServer, lie_about


def sandbox_of(looks: int) -> Sandbox:
    """A sandbox whose jobs are shown as finished at exactly that look; 0: they never end."""
    sandbox = Sandbox(median=1e9 if looks == 0 else 1e-6, sigma=0.0)
    if looks > 1:
        sandbox.script(lie_about(times=looks - 1, status="IN_PROGRESS", response=None))
    return sandbox


def main() -> None:
    """Serve until the parent lets go."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description=__doc__)
    parser.add_argument("--looks", type=int, default=3, help="the look that finds a job done; 0: none ever does")
    with ThreadedServer(sandbox_of(parser.parse_args().looks)) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
