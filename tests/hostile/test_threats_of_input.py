"""What a person who gives rows, a gateway that answers, and another user of the machine can do through the command.

Each test is named after the threat that it tries: file names, cells, words on the terminal, lines of a log, journals,
and files that nobody named.
"""

import contextlib
import csv
import io
import json
import logging
import re
import socket
import sqlite3
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from input_files import KEY, QUICK, SPENDING, open_shop

from kling_async import KlingSession, PollPlan, TextToVideo
from kling_async.cli.export import COLUMNS, _cell
from kling_async.sandbox import ends_after, fail, http, lie_about

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")
EVIL = (
    "\x1b[2J\x1b]0;owned\x07\x1b]8;;http://evil\x1b\\ \u202egpj.exe \x9b31m"
    " [/nope] [link=http://evil]x[/link]\r\n2026 forged"
)
STEERING = re.compile(
    "\x1b\\]|\x1b\\[2J\x1b|\x07|\x9b|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]|^2026 forged", re.MULTILINE
)


@pytest.fixture
def shop(tmp_path):
    with open_shop(tmp_path) as found:
        yield found


def journal(shop):
    (found,) = (shop.place / "store").glob("*.db")
    return found


def change(path, *statements):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(*([statement] if isinstance(statement, str) else statement))


# T12: names of files.


def test_t12_a_name_that_a_row_gives_itself_never_leads_out_of_the_directory(shop):
    names = [
        "../../outside",
        "/etc/passwd",
        "..",
        ".",
        "~",
        "CON",
        "nul",
        "a/b\\c",
        "-rf",
        "$(touch pwned)",
        "; touch pwned",
    ]
    names += ["Fox", "fox", "fOX", "é", "e\u0301", "x" * 200, "tail.", "a.mp4", ".hidden", "%2e%2e%2f", "日本"]
    done = shop.order(shop.file("jobs.jsonl", [{"id": name, "prompt": f"clip {name}"} for name in names]))
    assert done.code == 0
    assert len(shop.ledger.submits) == len(names)
    made = shop.videos
    assert len({name.casefold() for name in made}) == len(names)
    assert all(re.fullmatch(r"[\w.-]{1,150}\.mp4", name, re.ASCII) and name[0] not in ".-" for name in made)
    assert {path.name for path in shop.place.iterdir()} == {"jobs.jsonl", "store", "videos"}
    assert not (shop.place.parent / "outside.mp4").exists()


def test_t12_a_link_that_waits_for_a_file_is_never_written_through(shop):
    victim = shop.place / "victim"
    victim.write_text("mine")
    name = shop.file(
        "jobs.jsonl", [{"id": "boat", "prompt": "a boat"}, {"id": "wolf", "prompt": "[sandbox: fail] wolf"}]
    )
    assert shop.order(name).code == 3
    (failures,) = (shop.place / "videos").glob("*.failures.jsonl")
    for path in (shop.place / "videos").iterdir():
        path.unlink()
    traps = ["boat.mp4", "boat.mp4.part", "boat-2.mp4.part", "boat-3.mp4.json.part", "boat-3.mp4.json"]
    for trap in (*traps, failures.name, f"{failures.name}.part"):
        (shop.place / "videos" / trap).symlink_to(victim)
    assert shop.order(name, "--fresh", "--sidecar").code == 3
    assert shop.kling("retry", failures.name.split(".")[0], *SPENDING, *QUICK, "--sidecar").code == 3
    assert victim.read_text() == "mine"
    assert (shop.place / "videos" / "boat-3.mp4").stat().st_size > 1000
    assert not (shop.place / "videos" / "boat-3.mp4.json").is_symlink()


@pytest.mark.parametrize("column", ["'../victim'", "'..'", r"'..\victim'"])
def test_t12_a_name_in_a_journal_never_leads_out_of_the_directory(shop, column):
    assert shop.order(shop.file("jobs.csv", "prompt\na fox\n")).code == 0
    change(journal(shop), f"UPDATE job SET state = 'succeeded', file = {column}, sha256 = NULL, size = NULL")
    before = {path: path.stat().st_mtime_ns for path in shop.place.rglob("*.mp4")}
    for command in (("resume", *SPENDING, *QUICK), ("export",), ("run", "jobs.csv", *SPENDING, *QUICK)):
        done = shop.kling(*command)
        assert (done.code, "holds what no version writes" in done.err) == (1, True), done.said
    assert {path: path.stat().st_mtime_ns for path in shop.place.rglob("*.mp4")} == before
    assert len(shop.ledger.submits) == 1


# T14: cells.


@given(st.one_of(st.text(), st.builds(str.__add__, st.sampled_from(FORMULA), st.text()), st.integers(), st.none()))
def test_t14_no_cell_is_a_formula_and_every_cell_can_be_read_back(value):
    cell = _cell(value)
    assert not cell.startswith(FORMULA)
    assert cell.isprintable() or not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", cell)
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([cell, "next"])
    assert list(csv.reader([line.getvalue()])) == [[cell, "next"]]
    assert line.getvalue().encode().count(b"\n") == 0


def test_t14_not_even_a_journal_that_was_made_for_it_exports_a_formula(shop):
    assert shop.order(shop.file("jobs.jsonl", [{"prompt": f"clip {each!r}"} for each in FORMULA])).code == 0
    for number, start in enumerate(FORMULA, 1):
        evil = f"{start}cmd|' /C calc'!A{number}"
        video, error = json.dumps({"url": evil}), json.dumps({"error": evil, "code": evil, "message": evil})
        sql = "UPDATE job SET key = ?, task_id = ?, charged = ?, video = ?, error = ? WHERE id = ?"
        change(journal(shop), (sql, [evil, evil, evil, video, error, number]))
    done = shop.kling("export", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert (len(rows), list(rows[0])) == (len(FORMULA), list(COLUMNS))
    assert not [cell for row in rows for cell in row.values() if cell.startswith(FORMULA)]
    assert all("calc" in row[name] for row in rows for name in ("key", "task_id", "charged", "url", "error", "message"))


# T15 and T16: hostile words on the terminal and in the log.


@pytest.fixture
def evil(shop):
    """Rows that the gateway makes, fails and refuses, with hostile words in prompts, names and answers."""
    shop.server.sandbox.script(fail(EVIL, code="EVIL\x1b[1m\nX"), prompt="fails")
    body = {"code": "B\x1b[0m\n2026 forged", "message": EVIL}
    shop.server.sandbox.script(http(400, body=body), on="submit", prompt="refused")
    rows = [
        {"id": f"{number} [/nope]", "prompt": f"{words} [/nope] \u202e [link=http://evil]x"}
        for number, words in enumerate(("made", "fails", "refused"))
    ]
    return shop.file("jobs.jsonl", rows)


@pytest.mark.parametrize(
    ("flags", "env"),
    [((), {}), (("--progress", "plain"), {}), (("--json",), {}), (("-vv",), {}), ((), {"TERM": "dumb"})],
    ids=["live", "plain", "json", "verbose", "dumb"],
)
def test_t15_hostile_words_are_shown_and_do_nothing(shop, evil, flags, env):
    done = shop.on_terminal("run", evil, *SPENDING, *QUICK, *flags, width=200, **env)
    assert (done.code, len(shop.ledger.submits)) == (3, 3)
    assert not STEERING.search(done.out), STEERING.search(done.out)
    assert "[/nope]" in done.out
    for command in () if flags or env else ("status", "export", "watch"):
        done = shop.on_terminal(command, width=200)
        assert done.code == 0
        assert not STEERING.search(done.out.replace("\r", "")), command
        assert "\x1b" not in done.out


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/\x1b]0;x\x07.mp4", "http://127.0.0.1/\u202e.mp4", f"http://127.0.0.1/{EVIL}"]
)
def test_t15_a_hostile_url_is_none(shop, url):
    shop.server.sandbox.script(lie_about(response=[url]))
    name = shop.file("jobs.csv", "prompt\na fox\n")
    for flags in ((), ("--json", "--fresh")):
        done = shop.on_terminal("run", name, *SPENDING, *QUICK, "--no-download", *flags, width=200)
        assert not STEERING.search(done.out), done.out
    assert not STEERING.search(shop.kling("export").out)


def test_t16_nobody_writes_lines_of_a_log_but_us(shop, evil):
    done = shop.order(evil, "-vv")
    lines = done.err.splitlines()
    assert any(line.startswith("info job") for line in lines)
    assert any("forged" in line for line in lines)
    assert not [line for line in lines if line.startswith(("2026", "\x1b")) or not line.isprintable()]


@pytest.mark.anyio
async def test_t16_nobody_writes_lines_of_a_programs_log_but_us(shop, evil):
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    log = logging.getLogger("kling_async")
    level = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    try:
        settings = {"rate": None, "poll": PollPlan(0.02, 0.02, 0.1)}
        async with KlingSession("kling3api", api_key=KEY, base_url=shop.server.url, **settings) as session:
            futures = [session.submit(TextToVideo(words), key=f"{words} {EVIL}") for words in ("made", "fails")]
            futures += [session.submit(TextToVideo(words), key=words) for words in ("made", "fails", "refused")]
            futures.append(session.attach(f"task {EVIL}"))
            for future in futures:
                await future.outcome()
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert len([line for line in seen if line.startswith("job ")]) >= 6
    assert not [line for line in seen if not line.isprintable()]


# T17: journals.


def test_t17_only_the_owner_can_read_a_journal_its_log_and_its_lock_whatever_the_umask(shop):
    shop.server.sandbox.script(ends_after(1.0))
    look = 'until ls store/*-shm > /dev/null 2>&1; do sleep 0.05; done; stat -c "%a %n" store store/*'
    script = f'umask 0; "$@" & {look}; wait $!'
    done = shop.order(shop.file("jobs.csv", "prompt\na fox\n"), shell=script)
    assert done.code == 0
    modes = dict(reversed(line.split(maxsplit=1)) for line in done.out.splitlines() if " store" in line)
    assert modes.pop("store") == "700"
    assert {Path(name).suffix for name in modes} == {".db", ".db-wal", ".db-shm", ".lock"}
    assert set(modes.values()) == {"600"}


def test_t17_no_file_of_a_run_holds_the_key(shop):
    rows = [{"prompt": "a fox"}, {"prompt": f"[sandbox: fail {KEY}] wolf"}]
    assert shop.order(shop.file("jobs.jsonl", rows), "--sidecar").code == 3
    assert shop.kling("export", "-o", "results.csv").code == 0
    job_file = (shop.place / "jobs.jsonl").read_bytes()
    asked = [json.loads(line)["prompt"].encode() for line in job_file.splitlines()]
    for path in shop.place.rglob("*"):
        if path.is_file() and path.name != "jobs.jsonl":
            data = path.read_bytes()
            for prompt in asked:  # what a user writes into a prompt is his own
                data = data.replace(prompt, b"")
            assert KEY.encode() not in data, path


CRAFTED = {
    "a trigger that sends again": [
        "CREATE TRIGGER again AFTER UPDATE ON job BEGIN UPDATE job SET state = 'planned' WHERE id = new.id; END",
    ],
    "a view in the place of a table": [
        "ALTER TABLE event RENAME TO aside",
        "CREATE VIEW event AS SELECT * FROM aside",
    ],
    "a virtual table": ["CREATE VIRTUAL TABLE aside USING rtree(id, low, high)"],
}


@pytest.mark.parametrize("crafted", CRAFTED.values(), ids=CRAFTED)
def test_t17_a_journal_that_does_something_by_itself_is_refused_and_nothing_is_sent(shop, crafted):
    assert shop.order(shop.file("jobs.csv", "prompt\na fox\n")).code == 0
    change(journal(shop), *crafted)
    for command in (("resume", *SPENDING, *QUICK), ("status",), ("run", "jobs.csv", *SPENDING, *QUICK)):
        done = shop.kling(*command)
        assert (done.code, "holds a trigger, a view or a virtual table" in done.err) == (1, True), done.said
    assert "holds a trigger" in shop.kling("runs").out
    assert len(shop.ledger.submits) == 1


def test_t17_words_of_a_crafted_journal_steer_no_terminal(shop):
    name = shop.file("jobs.jsonl", [{"prompt": "a fox"}, {"prompt": "[sandbox: fail] wolf"}])
    assert shop.order(name).code == 3
    error = json.dumps({"error": EVIL, "code": EVIL, "message": EVIL})
    change(
        journal(shop),
        ("UPDATE job SET key = ? || id, name = ?, error = ? WHERE error IS NOT NULL", [EVIL, EVIL, error]),
        ("UPDATE batch SET source = ?, directory = ?, gateway = ?, unit = ?", [EVIL] * 4),
    )
    commands = ("status", "runs", "export", "watch", "spend", "resume", "status --json", "watch --json", "runs --json")
    for command in (*commands, "export --format csv"):
        done = shop.kling(*command.split())
        assert not STEERING.search(done.said), (command, done.said)
        assert "\x1b" not in done.said


def test_t17_a_lock_that_is_a_link_is_not_written_through(shop):
    assert shop.order(shop.file("jobs.csv", "prompt\na fox\n")).code == 0
    victim = shop.place / "victim"
    victim.write_text("mine")
    lock = journal(shop).with_name(f"{journal(shop).name}.lock")
    lock.unlink()
    lock.symlink_to(victim)
    (shop.place / "jobs.csv").write_text("prompt\na fox\na wolf\n")
    done = shop.order("jobs.csv")
    assert done.code == 1
    assert victim.read_text() == "mine"
    assert len(shop.ledger.submits) == 1


# T26: files and addresses that nobody named.


def test_t26_only_what_was_named_is_opened_and_connected_to(shop):
    mine = {"jobs.csv", "store", "videos", "told.json"}
    traps = {
        ".env": "KLING_API_KEY=sk-of-somebody-else\nKLING_BASE_URL=http://127.0.0.1:1\n",
        "kling.toml": "gateway = 'apiin'\n",
        "pyproject.toml": "[tool.kling]\ngateway = 'apiin'\n",
        ".netrc": "default login x password y\n",
        "setup.cfg": "[kling]\n",
    }
    for module in (
        "orjson",
        "click",
        "rich",
        "aiohttp",
        "attrs",
        "kling",
        "json",
        "sitecustomize",
        "usercustomize",
        "uvloop",
    ):
        traps[f"{module}.py"] = "open('pwned', 'w')\n"
    for name, text in traps.items():
        (shop.place / name).write_text(text)
    (shop.place / ".config" / "kling").mkdir(parents=True)
    (shop.place / ".config" / "kling" / "config.toml").write_text("gateway = 'apiin'\n")
    shop.file("jobs.csv", "prompt\na fox\n")
    with socket.create_server(("127.0.0.1", 0)) as tripwire:
        proxy = f"http://127.0.0.1:{tripwire.getsockname()[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
        env = dict.fromkeys(names, proxy) | {"NO_PROXY": "", "no_proxy": ""}
        done, seen, _ = shop.watched("run", "jobs.csv", *SPENDING, *QUICK, env=env)
        tripwire.settimeout(0.1)
        with pytest.raises(TimeoutError):
            tripwire.accept()
    assert (done.code, len(shop.ledger.submits)) == (0, 1)
    opened = {Path(name.strip("'\"")) for event, name in seen if event == "open" and name[0] in "'\""}
    here = {path.parts[0] for path in opened if not path.is_absolute()}
    here |= {path.relative_to(shop.place).parts[0] for path in opened if shop.place in path.parents}
    assert here <= mine
    assert {"jobs.csv", "videos"} <= here
    port = shop.server.url.rpartition(":")[2]
    assert {address for event, address in seen if event == "socket.connect"} == {f"('127.0.0.1', {port})"}
    assert not [event for event, _ in seen if event in ("subprocess.Popen", "os.system", "os.exec")]
    elsewhere = [path for path in opened if path.is_absolute() and path.parts[1] in ("tmp", "home", "root", "var")]
    ours = (shop.place, Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2])
    assert not [path for path in elsewhere if not any(each in (path, *path.parents) for each in ours)]
    assert not (shop.place / "pwned").exists()
