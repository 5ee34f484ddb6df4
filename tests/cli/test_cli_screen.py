"""The screen, the count behind it, and the question before money is spent."""

import io
import os
import pty
import re
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest
from cli_helpers import QUICK, ROOT, Kling
from rich.console import Console

from kling_async.batch.keys import slug
from kling_async.cli import spending
from kling_async.cli.codes import code_of_run
from kling_async.cli.events import Event
from kling_async.cli.reading import Job
from kling_async.cli.screen import Screen
from kling_async.cli.summary import summary_lines
from kling_async.cli.tally import Tally
from kling_async.cli.view import Moment, Plain
from kling_async.cli.words import money, span
from kling_async.errors import DownloadError, GenerationFailedError, InsufficientCreditsError
from kling_async.requests import TextToVideo
from kling_async.sandbox.server import ThreadedServer

JOB = Job(7, "a-key", TextToVideo("a fox"))
EVIL = "\x1b[2J[/nope][link=x]\u202e\x9b\r\nnext"


def job(number: int) -> Job:
    return Job(number, f"job-{number}", TextToVideo("a fox"))


@pytest.mark.parametrize("width", [20, 40, 60, 100])
def test_the_screen_fits_any_width_and_takes_no_text_for_markup(width: int) -> None:
    out = io.StringIO()
    tally = Tally(10, 0.0)
    screen = Screen(tally, Console(file=out, width=width, force_terminal=True, highlight=False, color_system=None))
    screen.begin(f"title {EVIL}")
    event = Event("failed", Job(1, EVIL, JOB.request), charged="no", error=GenerationFailedError(EVIL, code=EVIL))
    tally.take(event, 1.0)
    screen.take(event)
    screen.tick(Moment(1.0, 20, 3, 2))
    screen.say("stopping")
    screen.end()
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert not set(seen) & {"\x1b", "\x9b", "\u202e"}
    assert "failed" in seen
    assert all(len(line) <= width for line in re.split(r"[\r\n]+", seen))


def test_the_screen_is_redrawn_at_most_four_times_a_second() -> None:
    out = io.StringIO()
    screen = Screen(Tally(10, 0.0), Console(file=out, width=60, force_terminal=True))
    screen.begin("title")
    drawn = 0
    for step in range(100):
        before = out.tell()
        screen.tick(Moment(step / 100))
        drawn += out.tell() > before
    screen.end()
    assert drawn <= 4


def test_plain_lines_come_every_thirty_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Plain(Tally(10, 100.0))
    plain.begin("title")
    for second in range(100, 191):
        plain.tick(Moment(float(second)))
    assert len(capsys.readouterr().err.splitlines()) == 1 + 3


def test_what_is_left_is_learned_first_and_then_follows_from_slots_and_time_per_job() -> None:
    tally = Tally(100, 0.0)
    assert tally.left(5.0, 10) is None
    for number in range(20):
        tally.take(Event("accepted", job(number)), 0.0)
        tally.take(Event("succeeded", job(number), seconds=60.0, charged="yes"), 60.0)
    assert tally.left(60.0, 10) == pytest.approx(80 * 60 / 10)
    assert tally.left(60.0, 80) == pytest.approx(60.0)
    for number in range(20, 30):
        tally.take(Event("accepted", job(number)), 60.0)
    assert tally.left(90.0, 10) == pytest.approx((70 * 60 + 10 * 30) / 10)


def test_money_is_counted_once_and_what_is_unknown_is_said() -> None:
    tally = Tally(3, 0.0)
    tally.take(Event("succeeded", job(1), credits=Decimal(200), charged="yes"), 1.0)
    tally.take(Event("download_failed", job(1), charged="yes", error=DownloadError("cut", code="not_a_video")), 2.0)
    tally.take(Event("failed", job(2), charged="unknown", error=GenerationFailedError("no")), 2.0)
    tally.take(Event("failed", job(3), charged="no", error=GenerationFailedError("no")), 2.0)
    assert (tally.spent, tally.unpriced, tally.ended) == (200, 1, 3)
    assert "200 credits spent, and 1 clip whose cost the gateway does not tell" in summary_lines(tally, 3.0)[0]


def test_of_several_exit_codes_the_gravest_counts() -> None:
    tally = Tally(9, 0.0)
    assert code_of_run(tally) == 0
    expected = {
        3: Event("failed", JOB, error=GenerationFailedError("x")),
        7: Event("late", JOB),
        8: Event("in_doubt", JOB),
        6: Event("failed", JOB, error=InsufficientCreditsError("x")),
        1: Event("download_failed", JOB, error=DownloadError("x", code="disk")),
    }
    for code, event in expected.items():
        tally.take(event, 1.0)
        assert code_of_run(tally) == code
    assert code_of_run(tally, stopped=130) == 130


def test_many_failures_are_grouped_and_what_is_in_doubt_is_always_named() -> None:
    tally = Tally(600, 0.0)
    for number in range(300):
        tally.take(Event("failed", job(number), charged="no", error=GenerationFailedError("x", code="C")), 1.0)
        tally.take(Event("in_doubt", job(1000 + number), charged="unknown"), 1.0)
    lines = summary_lines(tally, 2.0)
    assert sum("job-1" in line for line in lines if "row 1" in line and "row 1 " not in line) >= 300
    assert any("and 200 more" in line for line in lines)


def test_words_are_short_and_plain() -> None:
    assert [span(seconds) for seconds in (0.5, 42, 125, 3 * 3600 + 720)] == ["0.5 s", "42 s", "2 m 05 s", "3 h 12 m"]
    assert money(Decimal("6200.50")) == "6,200.5 credits"
    assert slug("An Échelle, [x] of  LIGHT!") == "echelle-of-light"


@pytest.mark.parametrize(("answer", "code", "sent"), [("y\n", 0, 1), ("n\n", 2, 0), ("\n", 2, 0)])
def test_somebody_at_a_terminal_is_asked_before_money_is_spent(
    run_kling: Kling, gateway: ThreadedServer, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, sent: int
) -> None:
    monkeypatch.setattr(spending, "is_terminal", lambda stream: True)
    Path("x.csv").write_text("prompt\na fox\n")
    done = run_kling("run", "x.csv", *QUICK, input=answer, unasked=True)
    assert "Start 1 job for about 200 credits? [y/N]" in done.stderr
    assert done.exit_code == code
    assert len(gateway.ledger.submits) == sent
    assert run_kling("run", "x.csv", "--yes", *QUICK).exit_code == 0
    assert len(gateway.ledger.submits) == 1  # what was made is not made again


@pytest.mark.parametrize(
    ("flags", "missing"),
    [((), "--yes and --budget"), (("--yes",), "--budget"), (("--budget", "1000"), "--yes")],
)
def test_without_a_terminal_money_needs_two_flags(
    run_kling: Kling, gateway: ThreadedServer, flags: tuple[str, ...], missing: str
) -> None:
    Path("x.csv").write_text("prompt\na fox\n")
    done = run_kling("run", "x.csv", *flags, *QUICK, unasked=True)
    assert done.exit_code == 2
    assert f"give {missing}." in done.stderr
    assert gateway.ledger.submits == []


@pytest.mark.parametrize(("term", "live"), [("xterm-256color", True), ("dumb", False)])
def test_a_terminal_gets_the_live_screen_and_a_dumb_one_plain_lines(term: str, live: bool) -> None:
    Path("x.csv").write_text("prompt\na fox\n")
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "kling_async", "run", "x.csv", "--sandbox", "--sandbox-speed", "500"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": term, "NO_COLOR": "1", "COLUMNS": "20"}
    process = subprocess.Popen(
        command, stdin=terminal, stderr=terminal, stdout=subprocess.PIPE, env=environment, text=True
    )
    os.close(terminal)
    seen = bytearray()
    reader = threading.Thread(target=_drain, args=(main, seen))
    reader.start()
    out, _ = process.communicate(timeout=60)
    reader.join()
    os.close(main)
    assert (process.returncode, out) == (0, "videos/001-fox.mp4\n")
    assert (b"\x1b[" in seen) is live
    assert b"1 done" in seen


def _drain(terminal: int, into: bytearray) -> None:
    try:
        while data := os.read(terminal, 4096):
            into += data
    except OSError:  # Linux: the other side is closed
        return
