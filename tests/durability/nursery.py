"""Forks runs of `runner` from a process that has the library imported, so that a run costs no start of Python.

Each line of its input asks for one run: its arguments, its failpoint, and after how many seconds from the moment its
batch is open it is killed. Each line of its output says how one ended, and what it had said.
"""

import contextlib
import gc
import json
import os
import queue
import random
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from attrs import define, field

AT_ONCE = 3


@define
class Nursery:
    """Some such processes, started when they are needed; may be used from several threads."""

    environment: dict
    _free: queue.LifoQueue = field(init=False, factory=queue.LifoQueue)
    _all: list = field(init=False, factory=list)
    _gate: threading.Lock = field(init=False, factory=threading.Lock)

    def run(self, arguments, failpoint=None, killed_after=None):
        """Make one run to its end; returns its exit code, its output and its complaints."""
        process = self._take()
        try:
            asked = {"arguments": [str(each) for each in arguments], "failpoint": failpoint, "after": killed_after}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, f"the parent of the runs ended by itself: {process.wait(10)}"
            told = json.loads(answer)
        finally:
            self._free.put(process)
        return told["code"], told["out"], told["err"]

    def _take(self):
        with self._gate:
            if len(self._all) < AT_ONCE and self._free.empty():
                self._all.append(self._started())
                return self._all[-1]
        return self._free.get()

    def _started(self):
        command = [sys.executable, Path(__file__)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=self.environment)

    def close(self):
        """End the processes."""
        for process in self._all:
            process.stdin.close()
            process.wait(30)
            process.stdout.close()
        self._all.clear()
        self._free = queue.LifoQueue()


def live(job):
    """Be the run."""
    import runner

    from kling_async import failpoints

    if job["failpoint"]:
        os.environ["KLING_FAILPOINT"] = job["failpoint"]
    failpoints._name, failpoints._left = failpoints._armed()
    random.seed()
    try:
        runner.main(job["arguments"])
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def listen(pid, files, after):
    """Read what a run says until it ends, and kill it so many seconds after it has said that its batch is open."""
    said, kill_at = dict.fromkeys(files, b""), None
    while files:
        left = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        ready, _, _ = select.select(files, [], [], left)
        for file in ready:
            piece = os.read(file, 65_536)
            said[file] += piece
            if not piece:
                files.remove(file)
        if after is not None and any(b'"opened"' in text for text in said.values()):
            kill_at, after = time.monotonic() + after, None
        if kill_at is not None and time.monotonic() >= kill_at:
            os.kill(pid, signal.SIGKILL)
            kill_at = None
    return [text.decode() for text in said.values()]


def run(job):
    """Fork one run and follow it to its end."""
    (out, child_out), (err, child_err) = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        with contextlib.suppress(BaseException):
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(child_out, 1)
            os.dup2(child_err, 2)
            os.closerange(3, child_err + 1)
            code = live(job)
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    os.close(child_out)
    os.close(child_err)
    told = listen(pid, [out, err], job["after"])
    _, status = os.waitpid(pid, 0)
    os.close(out)
    os.close(err)
    return {"code": os.waitstatus_to_exitcode(status), "out": told[0], "err": told[1]}


def main():
    import runner  # noqa: F401 - before the fork

    import kling_async.batch.batch
    import kling_async.download
    import kling_async.transport  # noqa: F401 - before the fork

    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
