"""The reader of job files: anything becomes rows, or an error that names the place."""

import os
import threading
from pathlib import Path

import pytest
from cli_helpers import EXAMPLE
from hypothesis import given
from hypothesis import strategies as st

from kling_async.cli.problems import MOST_SHOWN, InputError, Problem, problem_lines
from kling_async.cli.reading import jobs_in, read_jobs
from kling_async.cli.records import known_columns
from kling_async.cli.source import read_source
from kling_async.requests import ImageToVideo, TextToVideo

HEAD = b"id,prompt,duration\n"


def fatal(data: bytes, name: str = "jobs.csv") -> list[Problem]:
    with pytest.raises(InputError) as caught:
        jobs_in(data, name)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"id,prompt,duration\na,a fox,7\n", "jobs.csv"),
        (b"\xef\xbb\xbfid,prompt,duration\r\na,a fox,7\r\n", "jobs.csv"),
        (b"id;prompt;duration\na;a fox;7\n", "jobs.csv"),
        (b"id\tprompt\tduration\na\ta fox\t7\n", "jobs.tsv"),
        (b'id,prompt,duration\n\n"a","a fox","7"\n,,\n', "jobs.csv"),
        (b"id,prompt,duration,\na,a fox,7,\n", "jobs.csv"),
        (b"id,prompt,duration\ra,a fox,7\r", "jobs.csv"),
        (b'{"id": "a", "prompt": "a fox", "duration": 7}\n', "jobs.jsonl"),
        (b'\xef\xbb\xbf\r\n{"id": "a", "prompt": "a fox", "duration": 7}\r\n', "-"),
        (b"id,prompt,duration\na,a fox,7\n", "-"),
    ],
)
def test_every_usual_way_to_write_a_row_is_read(data: bytes, name: str) -> None:
    reading = jobs_in(data, name)
    assert reading.problems == ()
    assert [(job.row > 0, job.key, job.request) for job in reading.jobs] == [
        (True, "a", TextToVideo("a fox", duration=7))
    ]


@pytest.mark.parametrize(
    ("data", "place", "words"),
    [
        (b"", "file", "is empty"),
        (b"\n \n", "file", "is empty"),
        (HEAD, "file", "has no rows"),
        (b"prompt\ncaf\xe9 at dawn\n", "line 2", "column 4: the byte 0xe9 is not UTF-8; it looks like cp1252"),
        (b"\xef\xbb\xbfprompt\nx\nab\x81\n", "line 3", "column 3: the byte 0x81"),
        ("prompt\nx\n".encode("utf-16"), "line 1", "is UTF-16"),
        (b"prompt\nab\0c\n", "line 2", "column 3 holds a NUL"),
        (b"id,promt\na,b\n", "header", "did you mean 'prompt'?"),
        (b"id,prompt,id\na,b,c\n", "header", "is the name of two columns"),
        (b"alpha,beta\na,b\n", "header", "names no known column"),
        (b'"prompt\na\n', "header", "a quote is opened and never closed"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_as_a_whole(data: bytes, place: str, words: str) -> None:
    (problem,) = fatal(data)
    assert problem.place == place
    assert words in problem.message


def test_every_misspelt_column_gets_a_suggestion() -> None:
    found = {problem.field: problem.message for problem in fatal(b"promt,duratoin\na,5\n")}
    assert found == {
        "promt": "unknown column; did you mean 'prompt'?",
        "duratoin": "unknown column; did you mean 'duration'?",
    }


@pytest.mark.parametrize(
    ("row", "field", "words"),
    [
        (b"x,a fox,2", "duration", "2 is not between 3 and 120"),
        (b"x,a fox,5.5", "duration", "'5.5' is not a whole number"),
        (b"x,a fox,NaN", "duration", "'NaN' is not a whole number"),
        (b"x,a fox,true", "duration", "'true' is not a whole number"),
        (b"x,,5", "prompt", "is empty"),
        (b"x,a \x1b[2J,5", "prompt", "holds a control character"),
        (b"x,a fox", "", "has 2 cells, the header names 3 columns"),
        (b"x,a fox,5,more", "", "has 4 cells, the header names 3 columns"),
        (b'x,"a fox"y,5', "", "something stands between a closing quote and the separator"),
        (b'x,"a fox,5', "", "line 3: a quote is opened and never closed"),
        (b"x," + b"y" * 200_000 + b",5", "", "a cell is longer than 131,072 characters"),
        (b"good,again,5", "id", "'good' is the name of row 1 already"),
    ],
)
def test_a_bad_row_of_a_table_is_named(row: bytes, field: str, words: str) -> None:
    reading = jobs_in(HEAD + b"good,a fox,5\n" + row + b"\n", "jobs.csv")
    assert [(each.place, each.field) for each in reading.problems] == [("row 2", field)]
    assert words in reading.problems[0].message
    assert [job.key for job in reading.jobs] == ["good"]
    assert (reading.rows, reading.bad_rows) == (2, 1)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"prompt": "a"', "column 15: is not JSON"),
        (b'["a"]', "is not an object"),
        (b'{"prompt": "a", "prompt": "b"}', "names 'prompt' twice"),
        (b'{"prompt": "a", "cfg_scale": NaN}', "holds NaN"),
        (b'{"prompt": "a", "duration": "5"}', "'5' is not a whole number"),
        (b'{"prompt": "a", "duration": true}', "True is not a whole number"),
        (b'{"prompt": "\\ud800"}', "half of a surrogate pair"),
        (b'{"prompt": 5}', "5 is not text"),
        (b'{"promt": "a"}', "did you mean 'prompt'?"),
        (b'{"prompt": "a", "id": true}', "is not a name"),
        (b'{"prompt": ' + b"[" * 100_000, "is not JSON that can be read"),
        (b'{"prompt": "a", "duration": ' + b"9" * 5000 + b"}", "is not JSON that can be read"),
        (b'{"prompt": "' + b"a" * 1_100_000 + b'"}', "is longer than"),
    ],
)
def test_a_bad_line_of_json_is_named(line: bytes, words: str) -> None:
    reading = jobs_in(b'{"prompt": "good"}\n\n' + line + b"\n", "jobs.jsonl")
    assert {each.place for each in reading.problems} == {"line 3"}
    assert any(words in each.message for each in reading.problems)
    assert len(reading.jobs) == 1


def test_all_faults_of_all_rows_are_found_and_twenty_are_shown() -> None:
    lines = [b'{"prompt": ""}' if number % 2 else b'{"prompt": "x"}' for number in range(1000)]
    reading = jobs_in(b"\n".join(lines), "jobs.jsonl")
    assert len(reading.problems) == 500
    shown = problem_lines(reading.problems)
    assert len(shown) == MOST_SHOWN + 1
    assert shown[-1] == "  and 480 more"


def test_a_fault_is_shown_without_characters_that_steer_a_terminal() -> None:
    reading = jobs_in(b'{"prompt": "a", "x\\u001b]0;x\\u202e": 1, "type": "\\u001b[2J"}', "-")
    assert all(line.isprintable() for line in problem_lines(reading.problems))


def test_a_row_without_a_name_gets_one_from_its_number_and_prompt() -> None:
    data = "prompt\nA paper boat in the rain\n紙の船\n[sandbox: fail] The End\n".encode()
    assert [job.key for job in jobs_in(data, "x.csv").jobs] == [
        "001-paper-boat-in-the-rain",
        "002-text-to-video",
        "003-end",
    ]


def test_names_that_are_made_up_never_meet_names_that_are_given() -> None:
    reading = jobs_in(b"id,prompt\n002-fox,x\n,fox\n", "x.csv")
    assert len({job.key for job in reading.jobs}) == 2


def test_lists_in_cells_are_separated_by_blanks_or_json() -> None:
    data = b'type,prompt,images\nreference-to-video,x,https://e.com/a https://e.com/b\nreference-to-video,x,"[""https://e.com/a""]"\n'
    assert [job.request.images for job in jobs_in(data, "x.csv").jobs] == [
        ("https://e.com/a", "https://e.com/b"),
        ("https://e.com/a",),
    ]


@pytest.mark.parametrize("image", [b"fox.jpg", b"/etc/passwd", b"file:///etc/passwd"])
def test_a_path_is_never_taken_for_the_url_of_a_picture(image: bytes) -> None:
    reading = jobs_in(b"type,prompt,image\nimage-to-video,x," + image + b"\n", "x.csv")
    assert reading.jobs == ()
    assert reading.problems[0].field == "image"


def test_a_directory_a_missing_file_and_endless_input_are_named(tmp_path: Path) -> None:
    for name, words in ((str(tmp_path), "is a directory"), ("missing.csv", "No such file"), ("a\0b", "cannot be read")):
        with pytest.raises(InputError, match=words):
            read_jobs(name)
    with pytest.raises(InputError, match="is larger than 1 MiB"):
        read_source("/dev/zero", limit=1024 * 1024)


def test_a_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "jobs.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"prompt\na fox\n",))
    writer.start()
    assert len(read_jobs(str(pipe)).jobs) == 1
    writer.join()


def test_the_example_has_all_kinds_of_request_and_no_fault() -> None:
    reading = read_jobs(str(EXAMPLE))
    assert reading.problems == ()
    assert len(reading.jobs) >= 30
    assert len({job.request.kind for job in reading.jobs}) == 4
    assert any(isinstance(job.request, ImageToVideo) for job in reading.jobs)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    for name in ("x.csv", "x.jsonl", "-"):
        try:
            reading = jobs_in(data, name)
        except InputError as error:
            assert error.problems
        else:
            assert reading.rows == len(reading.jobs) + len({each.place for each in reading.problems})


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=3, max_size=3), min_size=1, max_size=5
    ),
    st.sampled_from([",", ";", "\t"]),
    st.lists(st.sampled_from(known_columns()), min_size=3, max_size=3, unique=True),
)
def test_any_table_is_read_or_refused_by_name(rows: list[list[str]], separator: str, head: list[str]) -> None:
    text = "\n".join(separator.join(row) for row in [head, *rows])
    try:
        reading = jobs_in(text.encode(), "x.csv")
    except InputError as error:
        assert error.problems
    else:
        assert len({job.key for job in reading.jobs}) == len(reading.jobs)
