"""The command line takes no key as an argument, and shows none: in `ps`, in what it prints, in what it starts."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from canary import KEY, PRIVATE, PROMPT, SIGNATURE, leaks
from commands import QUICK, run
from echoing_gateway import FAULTS, ROWS, EchoingGateway

from kling_async.cli.app import kling

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes in /proc")


def rows(name: str = "shots.csv") -> str:
    """Write the job file whose jobs end in every way."""
    Path(name).write_text("id,prompt\n" + "".join(f'{key},"{prompt}"\n' for key, prompt in ROWS.items()))
    return name


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command."""
    with click.Context(kling) as context:
        for name in kling.list_commands(context):
            command = kling.get_command(context, name)
            assert command is not None
            yield name, command


def test_no_command_has_an_option_that_takes_a_key() -> None:
    options = {option for _, command in commands() for each in command.params for option in each.opts}
    assert "--api-key-file" in options
    assert {option for option in options if "key" in option or "secret" in option or "token" in option} == {
        "--api-key-file"
    }
    for _, command in commands():
        taken = [each for each in command.params if "--api-key-file" in each.opts]
        assert all(each.envvar is None and not getattr(each, "prompt", None) for each in taken)


@pytest.mark.parametrize("option", ["--api-key", "--key", "--token", "--api_key", "-k"])
@pytest.mark.parametrize("command", ["run", "make", "fetch", "resume", "gateways", "status"])
def test_a_key_that_is_given_as_an_option_is_refused_and_not_repeated(
    at_work: EchoingGateway, command: str, option: str
) -> None:
    glued = f"{option}={KEY}" if option.startswith("--") else f"{option}{KEY}"
    for arguments in ([command, option, KEY], [command, glued], [option, KEY], [glued]):
        told = run(*arguments)
        assert "No such option" in told
        assert leaks(told) == []
    assert at_work.visits == []


@pytest.mark.parametrize("name", [KEY, "sk-0123456789abcdef", "eyJhbGciOi.JIUzI1NiJ9.abcdefgh", "x" * 4096])
def test_a_key_in_the_place_of_its_file_is_not_repeated(at_work: EchoingGateway, name: str) -> None:
    told = run("run", rows(), "--api-key-file", name, "--yes", "--budget", "none")
    assert "takes the name of a file, not a key" in told
    assert leaks(told, name) == []
    assert at_work.visits == []


@pytest.mark.parametrize("name", ["key.txt", "no-such-dir/key.txt", "./no-such-file-in-here"])
def test_a_file_that_is_not_there_is_named(at_work: EchoingGateway, name: str) -> None:
    assert f"the file {name} of --api-key-file cannot be read" in run("run", rows(), "--api-key-file", name, "--yes")


@pytest.mark.parametrize("wrong", [f'"{KEY}"', f"'{KEY}", f"{KEY} {KEY}", f"{KEY}\n{KEY}", f"{KEY}é", KEY * 200])
@pytest.mark.parametrize("place", ["variable", "own variable", "file"])
def test_a_key_that_cannot_be_sent_is_not_repeated(at_work: EchoingGateway, place: str, wrong: str) -> None:
    Path("key.txt").write_text(wrong)
    settings = {"variable": {"KLING_API_KEY": wrong}, "own variable": {"KLING3API_API_KEY": wrong}}.get(place, {})
    arguments = ("--api-key-file", "key.txt") if place == "file" else ()
    for command in (("run", rows()), ("make", "a boat"), ("fetch", "task-1")):
        told = run(*command, *arguments, *(() if command[0] == "fetch" else ("--yes",)), **settings)
        assert "the API key in" in told
        assert leaks(told) == []
    assert leaks(run("gateways", **settings) + run("gateways", "--json", **settings)) == []
    assert at_work.visits == []


FLAGS = [("-vv",), ("--json", "-vv"), ("--progress", "rich", "--color", "always")]


@pytest.mark.parametrize("flags", FLAGS, ids=" ".join)
def test_no_command_prints_the_key(at_work: EchoingGateway, flags: tuple[str, ...]) -> None:
    """A run in which everything goes wrong that can, and every other command over what it leaves."""
    spend = ("--yes", "--budget", "none")
    flags = (*flags, "--timeout", "0.7")
    told = {
        "run": run("run", rows(), *spend, *QUICK, *flags),
        "make": run("make", PROMPT, "--yes", "-o", "made.mp4", *QUICK, *flags),
        "make, refused": run("make", f"refused {PROMPT}", "--yes", *QUICK, *flags),
        "fetch": run("fetch", "task-1", *QUICK[:6], *flags),
        "resume": run("resume", *spend, *QUICK, *flags),
        "retry": run("retry", "--in-doubt", *spend, *QUICK, *flags),
        "reconcile": run("reconcile", *QUICK, *flags),
        "demo": run("demo", "demo", "--sandbox-speed", "3000", *flags[:-2]),
        "sandbox run": run("run", rows(), "--sandbox", "--sandbox-speed", "3000", *flags, KLING_BASE_URL=""),
        "stop": run("stop"),
        "watch": run("watch"),
    }
    for name in ("gateways", "runs", "status", "spend"):
        told[name] = run(name) + run(name, "--json")
    told["plan"] = run("plan", rows()) + run("plan", rows(), "--json")
    told["export"] = run("export") + run("export", "--format", "csv")
    assert {name: leaks(text) for name, text in told.items() if leaks(text)} == {}
    assert "***" in told["status"] + told["export"] + told["run"] + told["make, refused"]
    assert any(leaks(visit.head) for visit in at_work.visits), "the key was sent"


@pytest.mark.parametrize("name", list(FAULTS)[::11])
def test_no_refusal_prints_the_key(at_work: EchoingGateway, name: str) -> None:
    at_work.faults = {"submit": FAULTS[name]}
    told = run("make", PROMPT, "--yes", "-vv", *QUICK)
    at_work.faults = {"poll": FAULTS[name]}
    told += run("fetch", "task-1", "-vv", *QUICK[:6], "--timeout", "0.2")
    assert leaks(told) == []
    assert "kling" in told


def test_help_and_versions_do_not_read_the_key(at_work: EchoingGateway) -> None:
    told = run("--help") + run("--version") + "".join(run(name, "--help") for name, _ in commands())
    assert leaks(told) == []


def test_verbose_words_hold_no_prompt_above_debug_and_no_signed_url(at_work: EchoingGateway) -> None:
    told = run("run", rows(), "--yes", "--budget", "none", "-vv", *QUICK)
    assert "debug " in told
    lines = [line for line in told.splitlines() if line.startswith(("info ", "warning ", "error ", "critical "))]
    assert lines
    assert not [line for line in lines if PRIVATE in line]
    assert SIGNATURE not in told


# Other processes' view.


def child(*arguments: str, **settings: Any) -> "subprocess.Popen[str]":
    """Start the command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, *settings.pop("flags", ()), "-m", "kling_async", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings},
    )


def descendants(pid: int) -> set[int]:
    """Return a process and all that it has started."""
    found, waiting = set(), [pid]
    while waiting:
        each = waiting.pop()
        found.add(each)
        for thread in Path(f"/proc/{each}/task").glob("*/children"):
            waiting += [int(text) for text in thread.read_text().split() if int(text) not in found]
    return found


def public_view(pid: int) -> str:
    """Return what `ps` and `/proc` tell everybody of a process."""
    told = ""
    for name in ("cmdline", "comm", "stat", "status", "wchan"):
        try:
            told += Path(f"/proc/{pid}/{name}").read_bytes().decode("latin-1").replace("\0", " ")
        except OSError:  # it has ended, or may not be read
            continue
    return told


@pytest.mark.parametrize("source", ["file", "variable"])
def test_no_process_shows_the_key_and_none_is_started(at_work: EchoingGateway, source: str) -> None:
    Path("key.txt").write_text(f"{KEY}\n")
    settings = {"KLING_API_KEY": "" if source == "file" else KEY}
    arguments = ("--api-key-file", "key.txt") if source == "file" else ()
    running = child("run", rows(), "--yes", "--budget", "none", *arguments, *QUICK, **settings)
    started: set[int] = set()
    environment = b""
    while running.poll() is None:
        started |= descendants(running.pid)
        assert leaks("".join(map(public_view, started))) == []
        try:
            environment = Path(f"/proc/{running.pid}/environ").read_bytes() or environment
        except OSError:
            break
        time.sleep(0.02)
    out, err = running.communicate(timeout=20)
    assert len(at_work.visits) > len(ROWS), err
    assert leaks(out + err) == []
    assert started == {running.pid}, "kling starts no other process"
    assert bool(leaks(environment)) is (source == "variable"), "its environment is what the user made it"


def test_a_process_in_development_mode_shows_no_key(at_work: EchoingGateway) -> None:
    """With asyncio's debug mode, warnings of everything that is left open, and -vv."""
    flags = ("-X", "dev", "-W", "always")
    running = child("run", rows(), "--yes", "--budget", "none", "-vv", *QUICK, flags=flags, PYTHONASYNCIODEBUG="1")
    out, err = running.communicate(timeout=60)
    assert "debug " in err
    assert leaks(out + err) == []


def test_a_crash_of_the_command_shows_no_key(at_work: EchoingGateway) -> None:
    """A bug leaves a traceback; without locals, and with nothing of the gateway's words in it."""
    program = (
        "import sys; from kling_async.cli import main; from kling_async.cli import runner; "
        "runner.Run._made = lambda *a: 1 / 0; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "make", PROMPT, "--yes", *QUICK],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "ZeroDivisionError" in done.stderr
    assert leaks(done.stdout + done.stderr) == []


def test_the_search_does_find_a_key_in_a_command(at_work: EchoingGateway) -> None:
    """Otherwise none of these tests could fail."""
    running = subprocess.Popen([sys.executable, "-c", "input()", KEY], stdin=subprocess.PIPE)
    try:
        assert descendants(os.getpid()) >= {running.pid}
        deadline = time.monotonic() + 10
        while not leaks(public_view(running.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert leaks(public_view(running.pid))
    finally:
        running.communicate(b"\n")
    assert leaks(json.dumps({"key": KEY}))
