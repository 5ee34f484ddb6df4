"""What the command says: in its own words, once, with the variable, file or flag at fault, and never the key."""

import io
import re
from pathlib import Path

import pytest
from cli_helpers import KEY, QUICK, ROOT, Kling, child, events_in
from rich.console import Console

from kling_async.cli import spending
from kling_async.cli.events import Event
from kling_async.cli.reading import Job
from kling_async.cli.screen import Screen
from kling_async.cli.summary import summary_lines
from kling_async.cli.tally import Tally
from kling_async.requests import TextToVideo
from kling_async.sandbox.server import ThreadedServer

MIXED = "id,type,prompt,image\na,text-to-video,x,\nb,image-to-video,x,https://example.com/a.png\n"


def one_row() -> str:
    Path("x.csv").write_text("prompt\na fox\n")
    return "x.csv"


def test_run_counts_the_rows_that_the_gateway_cannot_make_before_it_asks(
    run_kling: Kling, gateway: ThreadedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending, "is_terminal", lambda stream: True)
    Path("x.csv").write_text(MIXED)
    done = run_kling("run", "x.csv", "--gateway", "klinggenerator", *QUICK, input="n\n", unasked=True)
    words = "klinggenerator cannot make 1 of 2 rows: it will fail before it is sent"
    assert done.stderr.index(words) < done.stderr.index("[y/N]")
    assert gateway.ledger.submits == []


def test_run_goes_on_with_the_rows_that_the_gateway_makes(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("x.csv").write_text(MIXED)
    done = run_kling("run", "x.csv", "--gateway", "klinggenerator", *QUICK)
    assert (done.exit_code, len(gateway.ledger.submits)) == (3, 1)
    assert "cannot make 1 of 2 rows" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--timeout", "0"), "--timeout must be"),
        (("--submit-timeout", "0"), "--submit-timeout must be"),
        (("--poll-min", "0"), "--poll-min must be"),
        (("--poll-min", "5", "--poll-max", "1"), "--poll-max (1) is below --poll-min (5)"),
        (("--rate", "fast"), "--rate: 'fast' is not a rate"),
        (("--base-url", "ftp://x"), "--base-url is not an origin"),
        (("--allow-private-host", "http://x/"), "--allow-private-host takes"),
    ],
)
def test_a_wrong_setting_is_told_by_its_flag(
    run_kling: Kling, gateway: ThreadedServer, flags: tuple[str, ...], words: str
) -> None:
    done = run_kling("run", one_row(), *flags)
    assert done.exit_code == 2
    assert words in done.stderr
    assert not re.search(r"Timeouts|PollPlan|base_url|allow_private", done.stderr)


def test_a_wrong_address_in_the_environment_is_told_by_its_variable(run_kling: Kling, gateway: ThreadedServer) -> None:
    done = run_kling("run", one_row(), env={"KLING_BASE_URL": "nonsense"})
    assert "KLING_BASE_URL is not an origin" in done.stderr


@pytest.mark.parametrize("key", [f'"{KEY}"', f"'{KEY}'", f"{KEY} {KEY}", "schlüssel"])
@pytest.mark.parametrize("variable", ["KLING_API_KEY", "APIIN_API_KEY"])
def test_a_key_that_cannot_be_is_told_by_its_variable_and_not_shown(
    run_kling: Kling, gateway: ThreadedServer, variable: str, key: str
) -> None:
    done = run_kling("run", one_row(), "--gateway", "apiin", env={variable: key})
    assert done.exit_code == 4
    assert f"the API key in {variable} " in done.stderr
    assert ("quotation mark" in done.stderr) is (key[0] in "\"'")
    assert "--api-key-file" not in done.stderr
    assert KEY not in done.output
    assert "schl" not in done.output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "the file key.txt of --api-key-file cannot be read: No such file"),
        ("", "in the file key.txt is empty"),
        (f'"{KEY}"\n', "in the file key.txt begins or ends with a quotation mark"),
        ("a b", "in the file key.txt cannot be sent"),
    ],
)
def test_a_key_file_that_holds_no_key_is_named(
    run_kling: Kling, gateway: ThreadedServer, content: str | None, words: str
) -> None:
    if content is not None:
        Path("key.txt").write_text(content)
    done = run_kling("run", one_row(), "--api-key-file", "key.txt")
    assert done.exit_code == 4
    assert words in done.stderr
    assert KEY not in done.output


def test_a_missing_key_names_what_may_hold_it(run_kling: Kling) -> None:
    done = run_kling("run", one_row(), "--gateway", "apiin")
    assert done.exit_code == 4
    assert "set APIIN_API_KEY or KLING_API_KEY, or give --api-key-file FILE" in done.stderr
    assert "pass api_key" not in done.stderr


def test_a_key_that_the_gateway_refuses_is_told_by_its_variable(run_kling: Kling, gateway: ThreadedServer) -> None:
    done = run_kling("run", one_row(), *QUICK, env={"KLING3API_API_KEY": "sk-somebody-elses-key"})
    assert done.exit_code == 4
    assert "The key that was refused is in KLING3API_API_KEY." in done.stderr


def test_a_key_sent_in_clear_text_is_told_once(gateway: ThreadedServer) -> None:
    process = child("run", one_row(), "--base-url", "http://192.0.2.1:9", unasked=True)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("clear text")) == (2, 1)  # nobody agreed, so nothing is contacted


def test_rows_left_out_are_counted_at_the_end(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("x.csv").write_text("id,prompt,duration\na,fine,5\nb,too short,2\n")
    done = run_kling("run", "x.csv", "--skip-invalid", "--json", *QUICK)
    assert done.stderr.splitlines()[-1].endswith("; 1 row was not valid and left out")
    summary = events_in(done.stdout)[-1]
    assert (summary["jobs"], summary["invalid"]) == (1, 1)


def test_the_summary_goes_by_row_and_says_once_where_to_look() -> None:
    tally = Tally(4, 0.0)
    for row in (4, 2, 3, 1):
        job = Job(row, f"job-{row}", TextToVideo("a fox"))
        tally.take(Event("in_doubt", job, charged="unknown" if row > 2 else "no", message="lost"), 1.0)
    lines = summary_lines(tally, 2.0, "apiin")
    assert [line.split()[1] for line in lines if "job-" in line] == ["3", "4", "1", "2"]
    assert sum("before you send again" in line for line in lines) == 1
    assert "Look at apiin" in lines[-1]


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_hint_that_does_not_fit_ends_in_an_ellipsis(width: int) -> None:
    out = io.StringIO()
    screen = Screen(Tally(1, 0.0), Console(file=out, width=width, force_terminal=True, color_system=None))
    screen.begin("title")
    screen.end()
    hint = next(line for line in re.split(r"[\r\n]+", out.getvalue()) if "Ctrl-C" in line)
    assert re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", hint).rstrip().endswith("…")


def test_help_and_document_agree_on_defaults_and_words(run_kling: Kling) -> None:
    text = (ROOT / "docs" / "cli.md").read_text().replace("\\|", "|")
    shown = " ".join(run_kling("run", "--help").stdout.split())
    assert "| `--sandbox-speed X` | `30` |" in text
    assert "--sandbox-speed X How much faster. [default: 30;" in shown
    for words in ("N|auto|none", "RATE|auto|none", "TIME|none"):
        assert f"{words}`" in text
        assert words in shown
