"""A gateway in a process of its own, sessions at its pace, and what the ledger says of their jobs."""

import json
import os
import subprocess
import sys
import urllib.request
from itertools import count
from pathlib import Path

from attrs import define

from kling_async import DownloadPolicy, KlingSession, PollPlan, RetryPolicy, TextToVideo, Timeouts

HERE = Path(__file__).parent
POLL = PollPlan(first=0.02, minimum=0.02, maximum=0.05)
RETRY = RetryPolicy(attempts=3, initial=0.02, maximum=0.05)
NAME = os.environ.get("LIFETIME_NAME", "")
"""What keeps the prompts of several programs at one gateway apart."""
_number = count(1)


class RememberingSession(KlingSession):
    """A session that keeps every job it was given."""

    def __init__(self, *about, **settings):
        super().__init__(*about, **settings)
        self.jobs = []

    def _job(self, *about):
        job = super()._job(*about)
        self.jobs.append(job)
        return job


@define(eq=False)
class Gateway:
    """A running `lifetime_gateway`."""

    process: subprocess.Popen
    url: str

    @classmethod
    def start(cls):
        process = subprocess.Popen(
            [sys.executable, HERE / "lifetime_gateway.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return cls(process, process.stdout.readline().strip())

    def end(self):
        self.process.communicate(timeout=20)

    def session(self, gateway="kling3api", **settings):
        """Return a session for this gateway that looks often."""
        known = {"api_key": "sk-lifetimes", "base_url": self.url, "rate": None, "poll": POLL, "retry": RETRY}
        known |= {"timeouts": Timeouts(submit=5, connect=5), "downloads": DownloadPolicy(stall=5)}
        return RememberingSession(gateway, **(known | settings))

    def reset(self):
        """Begin a new ledger."""
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/_sandbox/reset", method="POST")) as answer:
            answer.read()

    def ledger(self):
        with urllib.request.urlopen(f"{self.url}/_sandbox/ledger") as answer:
            return json.load(answer)

    def accepted(self, name=""):
        """Return the ids of the tasks that were taken and charged, by prompt; each prompt was taken once at most.

        Of one program only, if it has a name.
        """
        ledger = self.ledger()
        assert ledger["duplicates"] == []
        taken = (each for each in ledger["submits"] if each["accepted"] and each["prompt"].startswith(f"boat {name}"))
        return {each["prompt"]: each["task_id"] for each in taken}


def clip(directive="", **more):
    """Return a request with a prompt that no other has."""
    told = f" [sandbox: {directive}]" if directive else ""
    return TextToVideo(f"boat {NAME}{next(_number)}{told}", duration=3, **more)


def clips(number, directive=""):
    return [clip(directive) for _ in range(number)]
