"""`kling` itself, and the commands around `run`: help, plan, make, gateways, demo."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import EXAMPLE, KEY, QUICK, ROOT, Kling, events_in

from kling_async.cli import NEEDS, main
from kling_async.sandbox.server import ThreadedServer

HEAVY = ("aiohttp", "rich", "attrs", "attr", "cattrs", "anyio", "asyncio", "orjson", "uvloop", "yarl", "json")
COMMANDS = (
    *("run", "plan", "resume", "retry", "reconcile", "runs", "status", "watch", "stop", "export", "spend"),
    *("make", "fetch", "gateways", "sandbox", "demo"),
)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_imports_nothing_but_click(command: str | None) -> None:
    code = f"""
import sys
from kling_async.cli import main
assert main(sys.argv[1:]) == 0
loaded = [name for name in {HEAVY!r} if name in sys.modules]
loaded += [name for name in sys.modules if name.startswith("kling_async.") and not name.startswith("kling_async.cli")]
sys.exit(" ".join(loaded).replace("kling_async._version", "").strip() or 0)
"""
    done = python(code, *filter(None, [command]), "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: kling" in done.stdout


def test_without_click_one_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['click'] = None; from kling_async.cli import main; sys.exit(main(['run', 'x']))"
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{NEEDS}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plna", "x.csv"), "Did you mean 'plan'?"),
        (("run", "--concurency", "3", "x"), "--concurrency"),
        (("run", "x", "--gateway", "apimat"), "did you mean 'apimart'?"),
    ],
)
def test_a_near_miss_is_named(run_kling: Kling, arguments: tuple[str, ...], words: str) -> None:
    Path("x").write_text("prompt\na\n")
    done = run_kling(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_main_returns_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateways"]) == 0
    assert main(["nonsense"]) == 2
    assert main(["--version"]) == 0
    assert main(["plan", "missing.csv", "--gateway", "apiin"]) == 2
    capsys.readouterr()


def test_plan_prices_by_kind_and_quality_without_a_key(run_kling: Kling) -> None:
    done = run_kling("plan", str(EXAMPLE), "--gateway", "kling3api", "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    groups = {(group["type"], group["quality"]): group for group in document["groups"]}
    assert groups["video-edit", "std"]["cost"] == "360"
    assert document["cost"] == str(sum(int(group["cost"]) for group in document["groups"]))
    assert document["rows"] == sum(group["jobs"] for group in document["groups"])


def test_plan_names_what_would_fail_before_sending(run_kling: Kling) -> None:
    done = run_kling("plan", str(EXAMPLE), "--gateway", "klinggenerator")
    assert done.exit_code == 2
    assert "klinggenerator makes no image-to-video" in done.stdout
    assert "Nothing was sent." in done.stdout


def test_plan_names_rows_that_ask_for_the_same(run_kling: Kling) -> None:
    Path("x.csv").write_text("id,prompt\na,one\nb,two\nc,one\n")
    done = run_kling("plan", "x.csv", "--gateway", "kling3api", "--json")
    assert json.loads(done.stdout)["same_as_earlier"] == [{"row": 3, "earlier": 1}]


def test_plan_refuses_what_run_refuses(run_kling: Kling) -> None:
    Path("x.csv").write_text("id,prompt,duration\na,one,1\n")
    for command in (("plan", "x.csv", "--gateway", "kling3api"), ("run", "x.csv", "--sandbox")):
        done = run_kling(*command)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "1 is not between 3 and 120" in done.stderr


def test_make_writes_the_file_it_is_told(run_kling: Kling, gateway: ThreadedServer) -> None:
    flags = ("--duration", "5", "--aspect-ratio", "9:16", "--quality", "pro", "--sound")
    done = run_kling("make", "a red fox", *flags, "-o", "fox.mp4", *QUICK)
    assert (done.exit_code, done.stdout) == (0, "fox.mp4\n")
    assert Path("fox.mp4").stat().st_size > 1000
    (submit,) = gateway.ledger.submits
    assert submit.charged == 400


@pytest.mark.parametrize("directory", ["there", "there/", "new/"])
def test_make_writes_into_the_directory_it_is_told(run_kling: Kling, gateway: ThreadedServer, directory: str) -> None:
    Path("there").mkdir()
    done = run_kling("make", "A red fox", "-o", directory, *QUICK)
    assert (done.exit_code, done.stdout) == (0, f"{directory.rstrip('/')}/red-fox.mp4\n")


def test_make_finds_a_name_that_is_free(run_kling: Kling, gateway: ThreadedServer) -> None:
    for expected in ("red-fox.mp4", "red-fox-2.mp4"):
        assert run_kling("make", "A red fox", *QUICK).stdout == f"{expected}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", "-o", "there.mp4"), "exists already"),
        (("x", "-o", "no/such/x.mp4"), "directory that does not exist"),
        (("x", "-o", ""), "names no file"),
        (("x", "-o", "/proc/x.mp4"), "/proc cannot be written to"),
        (("",), "is empty"),
        (("x", "--image", "missing.png"), "neither a URL nor a file"),
        (("x", "--image", "there.mp4"), "takes no uploads"),
        (("x", "--duration", "2"), "2 is not between 3 and 120"),
        (("x", "--duration", "60"), "60 is not between 3 and 15"),
        (("x", "--quality", "best"), "is not one of std, pro, 4k"),
        (("x", "--end-image", "https://example.com/a.png"), "needs the URL of an image"),
        (("x", "--video", "https://example.com/a.mp4", "--duration", "5"), "no duration"),
    ],
)
def test_make_pays_for_nothing_that_cannot_work(
    run_kling: Kling, gateway: ThreadedServer, arguments: tuple[str, ...], words: str
) -> None:
    Path("there.mp4").write_text("mine")
    done = run_kling("make", *arguments, *QUICK)
    assert done.exit_code == 2
    assert words in done.stderr
    assert gateway.ledger.submits == []
    assert Path("there.mp4").read_text() == "mine"


def test_make_sends_every_kind_of_request(run_kling: Kling, gateway: ThreadedServer) -> None:
    url = "https://example.com/a"
    for flags in (("--image", url, "--end-image", url), ("--video", url), ("--reference", url, "--reference", url)):
        assert run_kling("make", "x", *flags, "--no-such" if not flags else "-q", *QUICK).exit_code == 0
    assert len(gateway.ledger.submits) == 3


def test_a_local_picture_is_uploaded_before_the_job_is_sent(run_kling: Kling, gateway: ThreadedServer) -> None:
    Path("fox.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    flags = ("--gateway", "apimart", "--json", "--timeout", "0.1", *QUICK)
    done = run_kling("make", "x [sandbox: stuck]", "--image", "fox.png", *flags)
    assert events_in(done.stdout)[1]["event"] == "accepted"
    assert len(gateway.ledger.submits) == 1


def test_gateways_says_where_a_key_is_and_never_the_key(run_kling: Kling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APIIN_API_KEY", KEY)
    monkeypatch.setenv("APIMART_API_KEY", "two words")
    for flags in ((), ("--json",)):
        done = run_kling("gateways", *flags)
        assert done.exit_code == 0
        assert KEY not in done.output
        assert "two words" not in done.output
        assert "APIIN_API_KEY" in done.stdout
    found = {each["name"]: each for each in json.loads(done.stdout)["gateways"]}
    assert found["apiin"]["key_sound"]
    assert not found["apimart"]["key_sound"]
    assert found["kling3api"]["key"] is None
    assert found["kling3api"]["prices_as_of"]


def test_the_demo_needs_no_key_and_leaves_real_files(run_kling: Kling) -> None:
    done = run_kling("demo", "clips", "--sandbox-speed", "1000")
    assert done.exit_code == 0
    assert sorted(done.stdout.split()) == sorted(map(str, Path("clips").iterdir()))
    assert len(done.stdout.split()) == 12
    assert "nothing was paid" in done.stderr
