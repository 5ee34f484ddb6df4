"""Rows I01 to I11 of the fault matrix: hostile job files, flags, keys and terminals, through the real command line.

Every row asserts what the gateway saw: nothing is sent before the whole file is sound.
"""

import json
import os
import re
import socket
from pathlib import Path

import pytest
from input_files import AS_OTHERS, IMPATIENT, KEY, QUICK, SPENDING, open_shop

MIB = 1024 * 1024
GOOD = {"prompt": "a fox"}


@pytest.fixture
def shop(tmp_path):
    with open_shop(tmp_path) as found:
        yield found


def refused(shop, done, *words, code=2):
    """See that a command said all these words, and that the gateway heard of nothing."""
    assert done.code == code, done.said
    for each in words:
        assert each in done.err
    assert KEY not in done.said
    assert shop.ledger.totals["submits"] == shop.ledger.polls == shop.ledger.uploads == 0


# I01: how a table is written.


@pytest.mark.parametrize(
    "data",
    [
        "\ufeffid,prompt,duration\na,Café at dawn,7\nb,a fox,5\n".encode(),
        "id,prompt,duration\r\na,Café at dawn,7\r\nb,a fox,5\r\n".encode(),
        "id;prompt;duration\na;Café at dawn;7\nb;a fox;5\n".encode(),
        "id\tprompt\tduration\na\tCafé at dawn\t7\nb\ta fox\t5".encode(),
        "id,prompt,duration\ra,Café at dawn,7\rb,a fox,5\r".encode(),
        '\ufeffid;prompt;duration\r\n"a";"Café at dawn";"7"\r\n\r\nb;a fox;5\r\n'.encode(),
    ],
    ids=["bom", "crlf", "semicolon", "tab", "cr", "all of it"],
)
def test_i01_a_table_as_any_program_writes_it_is_read(shop, data):
    done = shop.order(shop.file("jobs.csv", data))
    assert done.code == 0
    assert sorted(submit.prompt for submit in shop.ledger.submits) == ["Café at dawn", "a fox"]
    assert sorted(submit.charged for submit in shop.ledger.submits) == [200, 280]
    assert shop.videos == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("flags", [(), ("--skip-invalid",), ("--format", "csv")])
def test_i01_a_table_in_another_encoding_names_line_column_and_encoding(shop, flags):
    name = shop.file("jobs.csv", b"id,prompt\na,a fox\nb,caf\xe9 at dawn\n")
    words = ("line 3", "column 6", "0xe9 is not UTF-8", "looks like cp1252 (there it is 'é')", "save the file as UTF-8")
    refused(shop, shop.order(name, *flags), *words)
    refused(shop, shop.order(shop.file("wide.csv", "prompt\na fox\n".encode("utf-16"))), "line 1", "is UTF-16")


def test_i01_nothing_is_sent_before_the_last_row_is_read(shop):
    rows = [f"row-{number},a fox,5" for number in range(1, 1000)]
    done = shop.order(shop.file("jobs.csv", "\r\n".join(["id,prompt,duration", *rows, "last,,5"])))
    refused(shop, done, "1 row is not valid", "row 1000   prompt   is empty")


# I02: tables that are broken.


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b"bad,a\0b,5", ("line 3", "column 6 holds a NUL character")),
        (b'bad,"a fox,5\nmore,of it,5', ("row 2", "line 3: a quote is opened and never closed")),
        (b'bad,"a" fox,5', ("row 2", "line 3: something stands between a closing quote and the separator")),
        (b"bad," + b"x" * 200_000 + b",5", ("row 2", "line 3: a cell is longer than 131,072 characters")),
        (b"bad," + b"x" * (MIB + 1) + b",5", ("line 3", "is longer than 1,048,576 characters")),
        (b"bad,a fox,5,more", ("row 2", "has 4 cells, the header names 3 columns")),
        (b"bad,a fox", ("row 2", "has 2 cells, the header names 3 columns")),
        (b"good,another,5", ("row 2   id", "'good' is the name of row 1 already")),
        (b'bad,"a fox,\nof two lines",5\ngood,again,5', ("row 3   id", "'good' is the name of row 1 already")),
    ],
    ids=lambda value: None if isinstance(value, tuple) else "row",
)
def test_i02_a_broken_row_is_named_with_its_place_and_what_to_do(shop, row, words):
    name = shop.file("jobs.csv", b"id,prompt,duration\ngood,a fox,5\n" + row + b"\n")
    refused(shop, shop.order(name), name, *words)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"id,duration,quality", "prompt     is empty"),
        (b"id,promt,duration", "promt   unknown column; did you mean 'prompt'?"),
        (b"id,prompt,prompt", "prompt   is the name of two columns"),
        (b"eins,zwei,drei", "names no known column; known are aspect_ratio"),
        (b'"id,prompt,duration', "a quote is opened and never closed"),
        (b"prompt" + b"," * 200_000, "names 200,001 columns, more than 256"),
        (b",".join(b"promp%d" % number for number in range(257)), "names 257 columns, more than 256"),
        (b"prompt" + b"," * (2 * MIB), "is longer than 1,048,576 characters"),
    ],
    ids=["no prompt", "misspelt", "twice", "unknown", "quote", "wide", "alike", "endless"],
)
def test_i02_a_header_that_cannot_be_is_named_with_a_hint_and_at_once(shop, header, words):
    done = shop.order(shop.file("jobs.csv", header + b"\na,b,c\n"))
    refused(shop, done, words)
    assert done.seconds < 10


# I03: JSON lines that are broken.


def test_i03_every_broken_line_is_listed_up_to_twenty_and_the_rest_is_counted(shop):
    lines = [json.dumps({"prompt": f"clip {number}"}) for number in range(1, 1001)]
    broken = [500, *range(701, 730)]
    for number in broken:
        lines[number - 1] = '{"prompt": "broken'
    done = shop.order(shop.file("jobs.jsonl", "\n".join(lines)))
    refused(shop, done, "30 rows are not valid, nothing was sent", "and 10 more", "970 good rows: add --skip-invalid")
    assert re.findall(r"^  line (\d+) ", done.err, re.MULTILINE) == [str(number) for number in broken[:20]]
    assert "line 500" in done.err


BROKEN = [
    ('{"prompt": "a"', "column 15: is not JSON"),
    ("[1]", "is not an object"),
    ('"prompt"', "is not an object"),
    ("{'prompt': 'a'}", "column 2: is not JSON"),
    ('{"prompt": "a", "prompt": "b"}', "names 'prompt' twice"),
    ('{"prompt": "a", "cfg_scale": NaN}', "holds NaN, which is not JSON"),
    ('{"prompt": "a", "cfg_scale": 1e999}', "inf is not between 0 and 1"),
    ('{"prompt": ' + "[" * 100_000, "is not JSON that can be read"),
    ('{"prompt": "a", "duration": ' + "9" * 5000 + "}", "is not JSON that can be read"),
    ('{"prompt": "' + "a" * MIB + '"}', "is longer than 1,048,576 characters"),
    (json.dumps({"prompt": "a", "type": "reference-to-video", "images": ["x"] * 50_000}), "are more than 100"),
    (json.dumps({"prompt": "a", "shots": [{"prompt": "", "duration": 0}] * 20_000}), "20000 shots are more than 100"),
    (json.dumps({"prompt": "a", **{f"k{number}": 1 for number in range(50_000)}}), "unknown column"),
]


def test_i03_a_broken_line_is_named_and_the_good_ones_go_on_only_on_demand(shop):
    lines = ['{"prompt": "first"}', "", *(line for line, _ in BROKEN), '{"prompt": "last"}']
    name = shop.file("jobs.jsonl", "\n".join(lines))
    done = shop.order(name)
    refused(shop, done, f"{len(BROKEN)} rows are not valid, nothing was sent", "2 good rows: add --skip-invalid")
    for number, (_, words) in enumerate(BROKEN, 3):
        assert re.search(rf"^  line {number} .*{re.escape(words)}", done.err, re.MULTILINE), words
    assert done.seconds < 10
    done = shop.order(name, "--skip-invalid", "--json")
    assert done.code == 0
    assert sorted(submit.prompt for submit in shop.ledger.submits) == ["first", "last"]
    assert {event["row"] for event in done.events if event["event"] == "invalid"} == set(range(3, 3 + len(BROKEN)))
    assert done.events[-1]["invalid"] == len(BROKEN)


# I04: what is no file, or has no end.


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: (path.touch(), os.truncate(path, 10 * 1024 * MIB)), "is larger than 64 MiB; split it"),
        (lambda path: path.symlink_to("/dev/zero"), "is larger than 64 MiB; split it"),
        (lambda path: path.symlink_to("/dev/null"), "is empty"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.mkdir(), "is a directory, not a file"),
        (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "is a socket, not a file"),
        (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.symlink_to("/proc/self/mem"), "cannot be read: Input/output error"),
        (lambda path: None, "cannot be read: No such file or directory"),
    ],
    ids=["10 GB", "/dev/zero", "/dev/null", "empty", "directory", "socket", "loop", "unreadable", "missing"],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the socket is closed with the test
def test_i04_what_is_no_file_of_jobs_is_named_in_little_time_and_memory(shop, make, words):
    make(shop.place / "jobs.csv")
    done, _, peak = shop.watched("run", "jobs.csv", *SPENDING, *QUICK)
    refused(shop, done, "jobs.csv cannot be read, nothing was sent", words)
    assert done.seconds < 10
    assert peak < 256 * MIB


@pytest.mark.parametrize(
    ("first", "more", "words"),
    [
        ("prompt\n", "\n", "has more than 4,000,000 lines; split it"),
        ("{", '"a":1}\n', "has more than 200,000 rows; split it"),
        ("prompt\n", "x\n", "has more than 200,000 rows; split it"),
        ("prompt,", "prompt,", "is longer than 1,048,576 characters"),
        ('{"prompt": "', "x", "is longer than 1,048,576 characters"),
    ],
    ids=["lines", "objects", "rows", "header", "line"],
)
def test_i04_a_large_file_that_is_all_wrong_costs_little_time_and_memory(shop, first, more, words):
    name = shop.file("jobs", first)
    with (shop.place / name).open("a") as file:
        for _ in range(63):
            file.write(more * (MIB // len(more)))
    done, _, peak = shop.watched("run", name, *SPENDING, *QUICK)
    refused(shop, done, words)
    assert done.seconds < 30
    assert peak < 512 * MIB


def test_i04_a_file_that_may_not_be_read_is_named(shop):
    name = shop.file("jobs.csv", "prompt\na fox\n")
    (shop.place / name).chmod(0)
    refused(shop, shop.order(name, program=AS_OTHERS), "cannot be read: Permission denied")


LOCKED = [
    ("status", "locked/night.db"),
    ("watch", "locked/night.db"),
    ("stop", "locked/night.db"),
    ("resume", "locked/night.db"),
    ("retry", "locked/night.db"),
    ("reconcile", "locked/night.db"),
    ("export", "locked/night.db"),
    ("spend", "locked/night.db"),
    ("runs", "--store", "locked/store"),
    ("run", "jobs.csv", "--store", "locked/night.db"),
    ("run", "jobs.csv", "--store", "locked/store"),
    ("plan", "jobs.csv", "--store", "locked/night.db"),
    ("make", "a fox", "-o", "locked/fox.mp4"),
    ("make", "a fox", "-o", "locked/"),
]


@pytest.mark.parametrize("words", LOCKED, ids=" ".join)
def test_i04_a_path_that_may_not_be_looked_at_is_named_in_one_line(shop, words):
    shop.file("jobs.csv", "prompt\na fox\n")
    (shop.place / "locked").mkdir(mode=0)
    done = shop.kling(*words, program=AS_OTHERS)
    refused(shop, done, "locked", "Permission denied")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("words", [*LOCKED, ("plan", "jobs.csv", "-o", "locked/videos")], ids=" ".join)
def test_i04_a_path_that_is_too_long_is_named_in_one_line(shop, words):
    shop.file("jobs.csv", "prompt\na fox\n")
    done = shop.kling(*(word.replace("locked", "x" * 300) for word in words))
    if words[0] == "plan" and "-o" in words:
        assert done.code == 0  # it asks for room only
    else:
        refused(shop, done, "xxx")
        assert len(done.err.splitlines()) == 1


def test_i04_a_name_as_long_as_the_disk_takes_is_one(shop):
    name = f"{'y' * 240}.mp4"
    done = shop.kling("make", "a fox", *SPENDING[:1], "-o", name, *QUICK)
    assert (done.code, (shop.place / name).is_file()) == (0, True)


@pytest.mark.parametrize("cell", ["one\rtwo", "one\ntwo", "one\r\ntwo", "\rone", "one\r", 'o"n,e;'])
def test_i02_the_rows_that_failed_are_written_so_that_they_read_back(shop, cell):
    quoted = cell.replace('"', '""')
    name = shop.file("jobs.csv", f'prompt\n"[sandbox: fail] {quoted}"\n')
    assert shop.order(name).code == 3
    (failures,) = (shop.place / "videos").glob("*.failures.csv")
    assert shop.order(f"videos/{failures.name}").code == 3
    first, second = (submit.prompt for submit in shop.ledger.submits)
    assert first == second


def test_i04_a_silent_socket_is_given_up_as_a_pipe_is(shop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = shop.order("-", program=IMPATIENT, stdin=theirs)
    refused(shop, done, "is a socket that gave nothing for 0.5 s")
    assert done.seconds < 10


def test_i04_a_socket_is_read_to_its_end(shop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"prompt\na fox\n")
        ours.shutdown(socket.SHUT_WR)
        assert shop.order("-", stdin=theirs).code == 0
    assert [submit.prompt for submit in shop.ledger.submits] == ["a fox"]


def test_i04_a_pipe_is_read_to_its_end(shop):
    os.mkfifo(shop.place / "pipe.csv")
    script = '(printf "prompt\\na "; sleep 0.3; echo fox) > pipe.csv & "$@"'
    assert shop.order("pipe.csv", shell=script).code == 0
    assert [submit.prompt for submit in shop.ledger.submits] == ["a fox"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('"$@"', "is a pipe, and nobody opened its other end in 0.5 s"),
        (
            'sleep 20 > pipe.csv & other=$!; "$@"; code=$?; kill $other; exit $code',
            "is a pipe that gave nothing for 0.5 s",
        ),
    ],
    ids=["no writer", "silent writer"],
)
def test_i04_a_pipe_that_gives_nothing_is_not_waited_for_without_end(shop, script, words):
    os.mkfifo(shop.place / "pipe.csv")
    done = shop.order("pipe.csv", program=IMPATIENT, shell=script)
    refused(shop, done, words)
    assert done.seconds < 10


def test_i04_a_silent_standard_input_is_not_waited_for_without_end(shop):
    ours, theirs = os.pipe()
    try:
        done = shop.order("-", program=IMPATIENT, stdin=ours)
    finally:
        os.close(ours)
        os.close(theirs)
    refused(shop, done, "stdin cannot be read", "is a pipe that gave nothing for 0.5 s")


# I05: prompts.


def test_i05_a_prompt_that_is_no_text_is_refused_here(shop):
    prompts = ["", " \n ", 5, None, ["a"], "a\x1b[2J", "a\x00b", "a\x9b31m", "a\x7f", "a\ud800b", "\udfff"]
    done = shop.order(shop.file("jobs.jsonl", [{"prompt": "good"}, *({"prompt": each} for each in prompts)]))
    refused(shop, done, f"{len(prompts)} rows are not valid, nothing was sent")
    found = dict(re.findall(r"^  line (\d+) +prompt +(.*)$", done.err, re.MULTILINE))
    assert len(found) == len(prompts)
    assert found["2"] == found["3"] == "is empty"
    assert found["7"] == found["9"] == "holds a control character"
    assert found["11"] == found["12"] == "holds half of a surrogate pair, which is not text"


def test_i05_a_prompt_is_measured_in_characters_and_not_in_bytes_or_utf_16(shop):
    name = shop.file("jobs.jsonl", [{"id": "fits", "prompt": "🦊" * 2000}, {"id": "long", "prompt": "🦊" * 2001}])
    plan = shop.kling("plan", name)
    assert plan.code == 2
    assert "row 2   prompt   2001 characters are more than 2000" in plan.out
    done = shop.order(name)
    assert done.code == 3
    assert "2001 characters are more than 2000 (not charged)" in done.err
    assert [submit.prompt for submit in shop.ledger.submits] == ["🦊" * 2000]


def test_i05_a_prompt_of_any_script_is_sent_as_it_is_and_turns_no_line_on_the_terminal(shop):
    prompts = ["\u202egpj.exe\u202c a fox", "שלום\u200f fox", "نص\u061c", "e\u0301", "\ufeffzero", "a\tb\nc", "👩‍👩‍👧"]
    done = shop.on_terminal("run", shop.file("jobs.jsonl", [{"prompt": each} for each in prompts]), *SPENDING, *QUICK)
    assert done.code == 0
    assert sorted(submit.prompt for submit in shop.ledger.submits) == sorted(prompts)
    assert not re.search("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", done.out)


def test_i05_what_an_answer_could_not_repeat_is_not_sent_since_its_video_would_be_lost(shop):
    deep = json.loads("[" * 40 + "]" * 40)
    refused(shop, shop.order(shop.file("deep.jsonl", [{**GOOD, "extra": {"a": deep}}])), "is nested more than 16 deep")
    rows = [{**GOOD, "extra": {"a": "x" * 600_000}}, {**GOOD, "negative_prompt": "\u3042" * 100_000}]
    done = shop.order(shop.file("large.jsonl", rows))
    refused(shop, done, "has 600,", "bytes, more than 524,288", code=3)


# I06: durations.


def test_i06_a_duration_that_is_none_is_refused_here(shop):
    durations = [0, 2, -5, 121, 10**30, 5.5, 5.0, "5", "", True, None, [5], 1e999]
    rows = [json.dumps({**GOOD, "duration": each}).replace("Infinity", "1e999") for each in durations]
    done = shop.order(
        shop.file("jobs.jsonl", "\n".join(['{"prompt": "good"}', *rows, '{"prompt": "x", "duration": NaN}']))
    )
    refused(shop, done, f"{len(durations) + 1} rows are not valid, nothing was sent", "holds NaN, which is not JSON")
    assert len(re.findall(r"^  line \d+ +duration ", done.err, re.MULTILINE)) == len(durations)


def test_i06_a_duration_in_a_table_is_a_whole_number_in_plain_digits(shop):
    cells = ["0", "2", "121", "5.5", "5.0", "true", "NaN", "0x5", "5e0", "\uff15", "٥", "5 s", "1_0", "9" * 400]
    rows = [f"row {number},a fox,{cell}" for number, cell in enumerate(cells)]
    done = shop.order(shop.file("jobs.csv", "\n".join(["id,prompt,duration", "good,a fox, 5 ", *rows])))
    refused(shop, done, f"{len(cells)} rows are not valid, nothing was sent")
    assert len(re.findall(r"^  row \d+ +duration ", done.err, re.MULTILINE)) == len(cells)


def test_i06_a_duration_that_this_gateway_does_not_make_fails_without_a_request(shop):
    done = shop.order(shop.file("jobs.jsonl", [{**GOOD, "duration": 16}]))
    refused(shop, done, "kling3api cannot make 1 of 1 row", "16 is not between 3 and 15", code=3)


# I07: pictures that are no public URL.

MEDIA = (
    ("image-to-video", "image"),
    ("image-to-video", "end_image"),
    ("reference-to-video", "images"),
    ("reference-to-video", "video"),
    ("video-edit", "video"),
)


def with_media(urls):
    """Return a row for each URL, in each place that takes one."""
    for kind, name in MEDIA:
        for url in urls:
            base = {"type": kind, "prompt": "a fox"} | (
                {"image": "https://example.com/a.png"} if name == "end_image" else {}
            )
            yield {**base, name: [url] if name == "images" else url}


def test_i07_a_path_or_another_scheme_is_never_sent_as_a_picture(shop):
    (shop.place / "fox.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    urls = ["fox.png", "./fox.png", str(shop.place / "fox.png"), "~/fox.png", "file:///etc/passwd", "FILE:fox.png"]
    urls += [
        "ftp://example.com/a",
        "javascript:alert(1)",
        "https:///a",
        "https://",
        "http://[::1",
        "https://a b/c",
        "",
        5,
    ]
    rows = list(with_media(urls))
    done = shop.order(shop.file("jobs.jsonl", rows))
    refused(shop, done, f"{len(rows)} rows are not valid, nothing was sent", "is not a URL that starts with https://")


def test_i07_a_private_address_is_never_sent_as_a_picture(shop):
    hosts = [
        "localhost",
        "LOCALHOST.",
        "127.0.0.1",
        "10.0.0.7",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "[::1]",
    ]
    hosts += [
        "[fd00::1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
    ]
    hosts += [
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "nas.local",
        "metadata.google.internal",
        "intranet",
    ]
    rows = list(with_media([f"http://{host}/a.png" for host in hosts]))
    done = shop.order(shop.file("jobs.jsonl", rows), "--json")
    refused(shop, done, f"kling3api cannot make {len(rows)} of {len(rows)} rows", code=3)
    assert done.events[-1]["batch"]["rejected"] == len(rows)
    assert done.events[-1]["credits"] == "0"


def test_i07_a_public_host_of_any_script_is_no_private_one(shop):
    urls = [
        "https://bücher.example/a.png",
        "https://8.8.8.8/a.png",
        "https://a.example:8443/x?y=1",
        "http://1.example/a",
    ]
    rows = [{"type": "image-to-video", "prompt": "a fox", "image": url} for url in urls]
    assert shop.order(shop.file("jobs.jsonl", rows)).code == 0
    assert len(shop.ledger.submits) == len(urls)


def test_i07_a_local_picture_is_uploaded_where_the_gateway_takes_uploads_and_nothing_is_sent_elsewhere(shop):
    (shop.place / "fox.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    refused(shop, shop.kling("make", "a fox", "--image", "fox.png", *QUICK), "takes no uploads")
    done = shop.kling("make", "a fox", "--image", "fox.png", "--gateway", "apimart", "-o", "fox.mp4", *QUICK)
    assert (done.code, shop.ledger.uploads, len(shop.ledger.submits)) == (0, 1, 1)


# I08: YAML.

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{here}: &{here} [{', '.join([f'*{last}'] * 9)}]\n" for last, here in zip("abcdefghi", "bcdefghij", strict=True)
)
OBJECT = "- prompt: !!python/object/apply:os.system ['touch pwned']\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jobs.yaml", BOMB),
        ("jobs.YML", OBJECT),
        ("jobs.yaml", "prompt\na fox\n"),
        ("jobs.csv", f"---\n{OBJECT}"),
        ("jobs", OBJECT),
        ("jobs", "%YAML 1.2\n---\nprompt: no\n"),
        ("-", BOMB),
    ],
)
def test_i08_yaml_is_not_read_and_the_error_says_so(shop, name, text):
    written = shop.file("jobs" if name == "-" else name, text)
    with (shop.place / written).open("rb") as stdin:
        done = shop.order(name, stdin=stdin)
    refused(shop, done, "nothing was sent", "YAML, which is not read; write CSV, or one JSON object a line")
    assert done.seconds < 5
    assert not (shop.place / "pwned").exists()


# I09: money.


@pytest.fixture
def three(shop):
    """Three clips of 200 credits each."""
    return shop.file("jobs.csv", "prompt\none\ntwo\nthree\n")


@pytest.mark.parametrize(
    ("flags", "missing"),
    [((), "--yes and --budget"), (("--yes",), "give --budget."), (("--budget", "250"), "give --yes.")],
    ids=["nothing", "yes", "budget"],
)
def test_i09_without_a_terminal_both_words_are_needed(shop, three, flags, missing):
    done = shop.kling("run", three, *flags, *QUICK)
    refused(shop, done, "3 jobs cost about 600 credits", missing)


def test_i09_a_budget_below_the_batch_is_told_when_asked_and_nothing_is_sent_before_the_answer(shop, three):
    seen = []

    def asked():
        seen.append(shop.ledger.totals["submits"])

    done = shop.on_terminal("run", three, "--budget", "250", *QUICK, answer=b"n\n", asked=asked)
    assert "Start 3 jobs for about 600 credits (stops at 250 credits)? [y/N]" in done.out
    assert "Nothing was sent." in done.out
    assert (done.code, seen, shop.ledger.submits) == (2, [0], [])
    done = shop.on_terminal("run", three, "--budget", "250", *QUICK, answer=b"y\n", asked=asked)
    assert (done.code, seen, shop.ledger.charged) == (5, [0, 0], 200)


def test_i09_a_budget_below_the_batch_is_never_overshot(shop, three):
    done = shop.order(three, "--budget", "250")
    assert (done.code, shop.ledger.charged) == (5, 200)
    assert "of 250 credits 50 are left" in done.err
    done = shop.order(three, "--budget", "500")
    assert (done.code, shop.ledger.charged, shop.ledger.duplicates) == (5, 400, [])


def test_i09_a_budget_without_prices_is_refused_before_anything_is_sent(shop, three):
    done = shop.kling("run", three, "--yes", "--budget", "250", "--gateway", "klinggenerator", *QUICK)
    refused(shop, done, "3 jobs have a price that nobody knows")


def test_i09_a_budget_that_is_no_amount_is_refused(shop, three):
    for budget in ("-1", "1e9", "nan", "inf", "", "\u0663"):
        refused(shop, shop.kling("run", three, "--yes", "--budget", budget, *QUICK), "is not an amount of credits")


# I10: keys.

HEART = "sk-canary"
BAD_KEYS = {
    "empty": "",
    "blanks": "   ",
    "newline": f"{HEART}-one\n{HEART}-two",
    "header": f"{HEART}\r\nX-Evil: yes",
    "not ascii": f"{HEART}-schlüssel",
    "blank": f"{HEART} two words",
    "quoted": f'"{HEART}"',
    "endless": HEART * 1000,
}


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        *(("KLING_API_KEY", kind) for kind in BAD_KEYS),
        *(("KLING3API_API_KEY", kind) for kind in ("newline", "blank")),
        *(("key.txt", kind) for kind in ("empty", "newline", "not ascii", "endless")),
    ],
)
def test_i10_a_key_that_cannot_be_sent_is_a_matter_of_settings_and_is_never_shown(shop, where, kind):
    name, key = shop.file("jobs.csv", "prompt\na fox\n"), BAD_KEYS[kind]
    flags, env = (), {"KLING_API_KEY": None}
    if where == "key.txt":
        flags = ("--api-key-file", shop.file(where, key))
    else:
        env[where] = key
    done, seen, _ = shop.watched("run", name, *SPENDING, *QUICK, *flags, env=env)
    refused(shop, done, where, code=4)
    assert not re.search("canary|schl|Evil|two words", done.said)
    assert [event for event, _ in seen if event == "socket.connect"] == []
    assert not (shop.place / "store").exists()


def test_i10_a_key_that_is_missing_is_told_with_what_may_hold_it(shop):
    name = shop.file("jobs.csv", "prompt\na fox\n")
    done, seen, _ = shop.watched("run", name, *SPENDING, *QUICK, env={"KLING_API_KEY": None})
    refused(shop, done, "set KLING3API_API_KEY or KLING_API_KEY, or give --api-key-file FILE", code=4)
    assert [event for event, _ in seen if event == "socket.connect"] == []


def test_i10_blanks_and_a_line_break_around_a_key_are_no_part_of_it(shop):
    name = shop.file("jobs.csv", "prompt\na fox\n")
    done = shop.order(name, env={"KLING_API_KEY": f" {KEY}\n"})
    assert done.code == 0
    done = shop.order(
        name, "--fresh", "--api-key-file", shop.file("key.txt", f"{KEY}\r\n"), env={"KLING_API_KEY": None}
    )
    assert (done.code, len(shop.ledger.submits)) == (0, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "is a pipe, and nobody opened its other end in 0.5 s"),
        (lambda path: path.symlink_to("/dev/zero"), "cannot be sent"),
        (lambda path: path.mkdir(), "is a directory, not a file"),
        (lambda path: None, "cannot be read: No such file or directory"),
    ],
    ids=["pipe", "/dev/zero", "directory", "missing"],
)
def test_i10_a_key_file_that_is_none_is_named_in_time(shop, make, words):
    make(shop.place / "key.txt")
    name = shop.file("jobs.csv", "prompt\na fox\n")
    done = shop.order(name, "--api-key-file", "key.txt", program=IMPATIENT)
    refused(shop, done, "the file key.txt", words, code=4)
    assert done.seconds < 10


def test_i10_a_key_given_in_the_place_of_its_file_is_not_repeated(shop):
    done = shop.order(shop.file("jobs.csv", "prompt\na fox\n"), "--api-key-file", KEY)
    refused(shop, done, "--api-key-file takes the name of a file, not a key", code=4)


# I11: streams and terminals.


@pytest.fixture
def six(shop):
    """Six clips whose names no old terminal can show."""
    return shop.file(
        "jobs.jsonl", [{"id": f"größe {number} 🚤", "prompt": f"ein Boot {number}"} for number in range(6)]
    )


def made_all(shop, done, code=0):
    assert done.code == code, done.said
    assert (shop.ledger.accepted, shop.ledger.duplicates, len(shop.videos)) == (6, [], 6)


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["paths", "json"])
def test_i11_a_reader_that_leaves_early_stops_nothing(shop, six, flags):
    done = shop.order(six, *flags, shell='{ "$@"; echo $? > code; } | head -1')
    assert done.out.count("\n") == 1
    assert (shop.place / "code").read_text() == "0\n"
    made_all(shop, done)


@pytest.mark.parametrize("flags", [(), ("--json",), ("--progress", "rich")], ids=["paths", "json", "rich"])
def test_i11_a_reader_of_everything_that_leaves_early_stops_nothing(shop, six, flags):
    done = shop.order(six, *flags, shell='{ "$@"; echo $? > code; } 2>&1 | true')
    assert (shop.place / "code").read_text() == "0\n"
    made_all(shop, done)


@pytest.mark.parametrize(
    ("flags", "streams", "code"),
    [
        ((), ">&-", 1),
        ((), "2>&-", 0),
        ((), "<&-", 0),
        ((), "<&- >&- 2>&-", 1),
        ((), "> /dev/full", 1),
        ((), "2> /dev/full", 0),
        (("--json",), "> /dev/full", 1),
        (("--json",), "<&- 2>&-", 0),
        (("--progress", "rich"), ">&-", 1),
        (("--progress", "rich"), "2>&-", 0),
        (("--progress", "rich"), "2> /dev/full", 0),
    ],
)
def test_i11_a_stream_that_is_closed_or_full_stops_nothing_and_the_code_tells(shop, six, flags, streams, code):
    done = shop.order(six, *flags, shell=f'"$@" {streams}')
    made_all(shop, done, code)
    if code and "2>" not in streams:
        assert "stdout cannot be written" in done.err


@pytest.mark.parametrize("width", [1, 20])
def test_i11_a_narrow_terminal_stops_nothing(shop, six, width):
    made_all(shop, shop.on_terminal("run", six, *SPENDING, *QUICK, width=width))


@pytest.mark.parametrize(
    "env",
    [
        {"TERM": "dumb"},
        {"TERM": None, "NO_COLOR": "1"},
        {"NO_COLOR": "1"},
        {"COLUMNS": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp437:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda env: " ".join(f"{name}={value}" for name, value in env.items()),
)
def test_i11_a_poor_terminal_stops_nothing(shop, six, env):
    done = shop.on_terminal("run", six, *SPENDING, *QUICK, **env)
    made_all(shop, done)
    if env.get("TERM") == "dumb":
        assert "\x1b" not in done.out
    if "NO_COLOR" in env:
        assert not re.search(r"\x1b\[[\d;]*3\dm", done.out)


@pytest.mark.parametrize("encoding", ["ascii", "cp437"])
def test_i11_every_command_can_be_read_in_any_encoding(shop, six, encoding):
    env = {"PYTHONIOENCODING": encoding}
    assert shop.order(six, env=env).code == 0
    for command in ("retry --help", "status", "runs", "export", f"plan {six}"):
        assert shop.kling(*command.split(), env=env).code == 0, command


def test_i11_asked_for_data_ends_quietly_with_its_reader(shop):
    assert shop.order(shop.file("jobs.csv", "prompt\na fox\n")).code == 0
    for command in ("status", "runs", "export", "watch", "spend"):
        done = shop.kling(command, shell='{ "$@"; echo $? > code; } | true')
        assert ((shop.place / "code").read_text(), done.err) == ("0\n", ""), command


def test_i11_names_that_are_no_text_stop_nothing_or_are_refused_before_anything_is_sent(shop):
    name = os.fsencode(shop.place) + b"/caf\xe9.csv"
    Path(os.fsdecode(name)).write_text("prompt\na fox\n")
    done = shop.order(os.fsdecode(name))
    assert (done.code, len(shop.ledger.submits)) == (0, 1)
    assert "caf\\xe9.csv" in shop.kling("status").out
    done = shop.order(os.fsdecode(name), "--fresh", "-o", os.fsdecode(b"vid\xe9os"))
    assert (done.code, len(shop.ledger.submits)) == (2, 1)
    assert "is not UTF-8" in done.err
