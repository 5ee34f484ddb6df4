"""The command line in a child process, in a directory of its own, against a sandbox whose ledger is looked at."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from attrs import define, field, frozen

from kling_async.sandbox import Sandbox
from kling_async.sandbox.server import ThreadedServer

ROOT = Path(__file__).parents[2]
KEY = "sk-canary-7d1e93b2c4f05a68"
QUICK = ("--rate", "none", "--poll-min", "0.01", "--poll-max", "0.05", "--poll-first", "0.05")
SPENDING = ("--yes", "--budget", "none")

PLAIN = "import sys; from kling_async.cli import main; sys.exit(main())"
IMPATIENT = f"from kling_async.cli import source; source.WRITER_SECONDS = source.QUIET_SECONDS = 0.5; {PLAIN}"
"""The command, which waits half a second for a pipe instead of minutes."""
AS_OTHERS = f"""
import ctypes, os, sys
for ability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, which the next program then lacks
    ctypes.CDLL(None).prctl(24, ability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-P", "-c", {PLAIN!r}, *sys.argv[1:]])
"""
"""The command, which obeys the modes of files even where the superuser runs it."""
WATCHED = f"""
import atexit, json, re, sys
seen = []
sys.addaudithook(lambda event, given: event in ("open", "socket.connect", "subprocess.Popen", "os.system", "os.exec",
    "exec.file") and seen.append([event, repr(given[1] if event == "socket.connect" else given[0])]))
from pathlib import Path
read, write = Path.read_text, Path.write_text
@atexit.register
def tell():
    peak = re.search(r"VmHWM:\\s+(\\d+)", read(Path("/proc/self/status")))[1]
    found = json.dumps({{"seen": seen, "peak": int(peak) * 1024}})
    write(Path("{{told}}"), found)
{PLAIN}
"""
"""The command, which tells afterwards what it opened, ran and connected to, and the most memory that it took."""


@frozen
class Done:
    """How a command ended: its exit code, what it said, and how long it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def said(self):
        return self.out + self.err

    @property
    def events(self):
        return [json.loads(line) for line in self.out.splitlines()]


@define
class Shop:
    """A directory with job files, and the gateway that sells the videos."""

    server: ThreadedServer
    place: Path
    settings: dict = field(factory=dict)

    @property
    def ledger(self):
        return self.server.ledger

    @property
    def videos(self):
        return sorted(path.name for path in (self.place / "videos").glob("*"))

    def file(self, name, data):
        """Write a job file: bytes, text, or rows that become JSON lines; returns its name."""
        if not isinstance(data, (bytes, str)):
            data = "".join(f"{json.dumps(row)}\n" for row in data)
        (self.place / name).write_bytes(data.encode() if isinstance(data, str) else data)
        return name

    def environment(self, **changes):
        """Return the environment of a command; None takes a variable away."""
        kept = {name: value for name, value in os.environ.items() if not re.search("KLING|_API_KEY|COLUMNS", name)}
        own = {
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.place),
            "KLING_STORE": str(self.place / "store"),
            "KLING_GATEWAY": "kling3api",
            "KLING_API_KEY": KEY,
            "KLING_BASE_URL": self.server.url,
        }
        return {name: value for name, value in {**kept, **own, **self.settings, **changes}.items() if value is not None}

    def kling(self, *arguments, program=PLAIN, seconds=60, shell="", env=None, **settings):
        """Run the command to its end, in a `shell` script as `"$@"` if there is one. It never dies of a bug."""
        command = [sys.executable, "-P", "-c", program, *map(os.fspath, arguments)]
        if shell:
            command = ["sh", "-c", shell, "sh", *command]
        settings = {"stdin": subprocess.DEVNULL, "cwd": self.place, "env": self.environment(**(env or {})), **settings}
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        done = Done(
            process.returncode, *(told.decode("utf-8", "replace") for told in (out, err)), time.monotonic() - begun
        )
        assert "Traceback" not in done.said, done.err
        return done

    def order(self, name, *flags, **settings):
        """Run a job file, with the words that a run without a terminal needs."""
        return self.kling("run", name, *SPENDING, *QUICK, *flags, **settings)

    def watched(self, *arguments, **settings):
        """Run the command and return how it ended, what it opened, ran and connected to, and its memory."""
        told = self.place / "told.json"
        done = self.kling(*arguments, program=WATCHED.replace("{told}", str(told)), **settings)
        found = json.loads(told.read_text())
        told.unlink()
        return done, [tuple(each) for each in found["seen"]], found["peak"]

    def on_terminal(self, *arguments, width=80, answer=b"", asked=None, seconds=60, **changes):
        """Run the command on a terminal; `answer` is typed once it asks, after `asked` was called."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
        environment = self.environment(**{"TERM": "xterm-256color", **changes})
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", PLAIN, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=self.place,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        said = b""
        try:
            while time.monotonic() - begun < seconds:
                if not select.select([ours], [], [], 0.2)[0]:
                    continue
                with contextlib.suppress(OSError):
                    if chunk := os.read(ours, 65536):
                        said += chunk
                        if answer and b"[y/N]" in said:
                            if asked is not None:
                                asked()
                            os.write(ours, answer)
                            answer = b""
                        continue
                break
            code = process.wait(timeout=10)
        finally:
            process.kill()
            process.wait()
            os.close(ours)
        done = Done(code, said.decode("utf-8", "replace"), "", time.monotonic() - begun)
        assert "Traceback" not in done.out, done.out
        return done


@contextlib.contextmanager
def open_shop(place, **settings):
    """Open a shop whose gateway is quick and lets one key in."""
    with ThreadedServer(Sandbox(speed=1000, api_keys=[KEY], **settings)) as server:
        yield Shop(server, place)
