"""The command at its smallest, with the library alone: the peers need not be installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers.clients import Client
from benchmarks.peers.command import missing, some_of
from benchmarks.peers.loopback import allowed

ROOT = Path(__file__).parents[2]


def test_the_library_is_measured_without_the_peers(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    words = ["--quick", "--json", str(file), "peers", "--only", "kling_async", "--scenarios", "plain", "--jobs", "4"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KLING_")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(file.read_text())["peers"]["scenarios"]["plain"]["clients"]["kling_async"]
    assert figures["videos"]["median"] == 4
    assert figures["lost"]["median"] == figures["twice"]["median"] == 0
    assert "plain: no limits, no faults. 4 jobs" in done.stdout


def test_a_peer_that_is_not_installed_is_left_out() -> None:
    assert missing(Client("x", "x", "fal", ("json", "no_such_module"), "")) == ["no_such_module"]


def test_only_known_names_can_be_chosen() -> None:
    assert some_of(("a", "b"))("b, a") == ("b", "a")
    with pytest.raises(Exception, match="'c' is none of a, b"):
        some_of(("a", "b"))("a,c")


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        (None, True),
        ("127.0.0.1", True),
        (b"127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("queue.fal.run", False),
        ("8.8.8.8", False),
    ],
)
def test_only_this_machine_is_reached(host: object, fits: bool) -> None:
    assert allowed(host) is fits


def test_a_process_that_stays_cannot_look_up_or_reach_another_host() -> None:
    code = (
        "import socket; from benchmarks.peers import loopback; loopback.stay()\n"
        "look_up = lambda: socket.getaddrinfo('fal.run', 443)\n"
        "connect = lambda: socket.socket().connect(('192.0.2.1', 80))\n"
        "for reach in (look_up, connect):\n"
        "    try: reach()\n"
        "    except ConnectionRefusedError: pass\n"
        "print(loopback.reached)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "['fal.run', '192.0.2.1']"
