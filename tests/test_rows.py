"""Rows: requests from plain JSON and CSV and back, strictly, with a readable line for everything that is wrong."""

import csv
import io
import json
from typing import Any

import pytest
from attrs import fields
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.errors import InvalidRequestError
from kling_async.requests import KINDS, ImageToVideo, ReferenceToVideo, Request, Shot, Subject, TextToVideo, VideoEdit
from kling_async.rows import request_from, request_to, row_key

URL = "https://example.com/a.jpg"

_CHARS = st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n\t\r")
_WORDS = st.text(_CHARS, min_size=1, max_size=30).filter(lambda text: bool(text.strip()))
_URLS = st.sampled_from([URL, "http://e.com:8080/b?x=1&y=%20", "https://пример.example/é.png"])
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))
    | st.text(_CHARS, max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(_CHARS, max_size=5), inner, max_size=3),
    max_leaves=6,
)
_URL_LISTS = st.lists(_URLS, min_size=1, max_size=4).map(tuple)
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "prompt": _WORDS,
    "model": st.none() | st.sampled_from(["kling-3.0", "kling-o3", "kling-2"]),
    "quality": st.sampled_from(["std", "pro", "4k"]),
    "negative_prompt": st.none() | _WORDS,
    "cfg_scale": st.none() | st.integers(0, 100).map(lambda percent: percent / 100) | st.sampled_from([0, 1]),
    "shots": st.lists(st.builds(Shot, _WORDS, st.integers(1, 120)), max_size=3).map(tuple),
    "subjects": st.lists(st.builds(Subject, _WORDS, _WORDS, _URL_LISTS), max_size=3).map(tuple),
    "watermark": st.none() | st.booleans(),
    "fps": st.none() | st.integers(1, 240),
    "extra": st.dictionaries(st.text(_CHARS, max_size=5), _JSON, max_size=3),
    "duration": st.integers(3, 15),
    "aspect_ratio": st.sampled_from(["16:9", "9:16", "1:1"]),
    "sound": st.booleans(),
    "image": _URLS,
    "end_image": st.none() | _URLS,
    "images": _URL_LISTS,
    "video": _URLS,
    "keep_original_sound": st.booleans(),
}
REQUESTS = st.one_of(
    *(
        st.builds(kind, **{attribute.name: _FIELDS[attribute.name] for attribute in fields(kind)})
        for kind in KINDS.values()
    )
)


@settings(max_examples=300)
@given(request_=REQUESTS)
def test_a_request_survives_the_way_through_a_json_row(request_: Request) -> None:
    row = json.loads(json.dumps(request_to(request_), allow_nan=False))
    read = request_from(row)
    assert read == request_
    assert type(read) is type(request_)
    assert request_to(read) == request_to(request_)


def _cell(value: Any) -> str:
    if isinstance(value, (list, dict, bool)):
        return json.dumps(value)
    return str(value)


@settings(max_examples=300)
@given(request_=REQUESTS)
def test_a_request_survives_the_way_through_a_csv_file(request_: Request) -> None:
    row = {name: _cell(value) for name, value in request_to(request_).items()}
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, [*row, "fps", "key"] if "fps" not in row else [*row, "key"], restval="")
    writer.writeheader()
    writer.writerow(row)
    file.seek(0)
    (read,) = csv.DictReader(file)
    assert request_from(read, text=True) == request_


def test_only_what_differs_from_the_defaults_is_in_a_row() -> None:
    assert request_to(TextToVideo("x")) == {"type": "text-to-video", "prompt": "x"}
    assert request_to(TextToVideo("x", shots=(Shot("y", 5),), extra={"a": [1]})) == {
        "type": "text-to-video",
        "prompt": "x",
        "shots": [{"prompt": "y", "duration": 5}],
        "extra": {"a": [1]},
    }


def test_the_type_is_text_to_video_where_nothing_else_is_said() -> None:
    assert request_from({"prompt": "x"}) == TextToVideo("x")


def test_the_name_of_a_row_is_not_a_field_of_the_request() -> None:
    assert request_from({"prompt": "x", "id": 5}) == request_from({"prompt": "x", "key": "a"}) == TextToVideo("x")


# ---- cells


@pytest.mark.parametrize(
    ("cells", "request_"),
    [
        ({"prompt": "x", "duration": "10", "sound": "true"}, TextToVideo("x", duration=10, sound=True)),
        ({"prompt": "x", "duration": " 10 ", "sound": "No"}, TextToVideo("x", duration=10)),
        ({"prompt": "x", "sound": "1", "watermark": "off"}, TextToVideo("x", sound=True, watermark=False)),
        ({"prompt": "x", "sound": "YES", "fps": "24"}, TextToVideo("x", sound=True, fps=24)),
        ({"prompt": "x", "duration": "", "sound": "", "model": None}, TextToVideo("x")),
        ({"prompt": "x", "cfg_scale": "0.5"}, TextToVideo("x", cfg_scale=0.5)),
        ({"prompt": "x", "cfg_scale": ".5"}, TextToVideo("x", cfg_scale=0.5)),
        ({"prompt": "x", "cfg_scale": "1"}, TextToVideo("x", cfg_scale=1)),
        ({"prompt": "5"}, TextToVideo("5")),
        ({"type": "", "prompt": "true"}, TextToVideo("true")),
        (
            {"type": "reference-to-video", "prompt": "x", "images": f"{URL} {URL}\n{URL}"},
            ReferenceToVideo("x", images=(URL, URL, URL)),
        ),
        (
            {"type": "reference-to-video", "prompt": "x", "images": f'["{URL}"]'},
            ReferenceToVideo("x", images=(URL,)),
        ),
        (
            {"shots": '[{"prompt":"a","duration":2},{"prompt":"b","duration":3}]'},
            TextToVideo(shots=(Shot("a", 2), Shot("b", 3))),
        ),
        (
            {"prompt": "@a", "subjects": f'[{{"name":"a","description":"b","images":["{URL}"]}}]'},
            TextToVideo("@a", subjects=(Subject("a", "b", (URL,)),)),
        ),
        ({"prompt": "x", "extra": '{"seed": 5}'}, TextToVideo("x", extra={"seed": 5})),
        (
            {"type": "video-edit", "prompt": "x", "video": URL, "keep_original_sound": "false"},
            VideoEdit("x", video=URL, keep_original_sound=False),
        ),
        ({"type": "image-to-video", "prompt": "x", "image": URL, "end_image": ""}, ImageToVideo("x", image=URL)),
    ],
)
def test_the_cells_of_a_csv_file_are_read(cells: dict[str, str], request_: Request) -> None:
    assert request_from(cells, text=True) == request_


@pytest.mark.parametrize(
    ("cells", "line"),
    [
        ({"duration": "five"}, "duration: 'five' is not a whole number"),
        ({"duration": "5.0"}, "duration: '5.0' is not a whole number"),
        ({"duration": "5s"}, "duration: '5s' is not a whole number"),
        ({"duration": "\u0665"}, "duration: '\u0665' is not a whole number"),
        ({"duration": "1_0"}, "duration: '1_0' is not a whole number"),
        ({"duration": "9" * 5000}, "duration: '9999"),
        ({"sound": "maybe"}, "sound: 'maybe' is not true or false"),
        ({"cfg_scale": "NaN"}, "cfg_scale: 'NaN' is not a number"),
        ({"cfg_scale": "inf"}, "cfg_scale: 'inf' is not a number"),
        ({"cfg_scale": "0,5"}, "cfg_scale: '0,5' is not a number"),
        ({"shots": "a;b"}, "shots: 'a;b' is not a list in JSON"),
        ({"shots": '"a"'}, "shots: 'a' is not a list"),
        ({"shots": "[" * 50_000}, "shots: '[[["),
        ({"shots": '[{"prompt":"a","duration":"2"}]'}, "shots: shot 1: duration: '2' is not a whole number"),
        ({"extra": "{"}, "extra: '{' is not an object in JSON"),
        ({"extra": "[1]"}, "extra: [1] is not an object"),
        ({"extra": '{"a": NaN}'}, "extra: holds something that is not JSON"),
    ],
)
def test_a_cell_that_cannot_be_read_says_why(cells: dict[str, str], line: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        request_from({"prompt": "x", **cells}, text=True)
    assert caught.value.message.startswith(line)
    assert len(caught.value.faults) == 1


def test_text_is_not_read_as_a_number_outside_of_csv() -> None:
    for wrong in ({"duration": "10"}, {"sound": "true"}, {"cfg_scale": "0.5"}, {"duration": ""}):
        with pytest.raises(InvalidRequestError):
            request_from({"prompt": "x", **wrong})


# ---- what is wrong


def test_there_is_one_readable_line_for_everything_that_is_wrong() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        request_from(
            {
                "type": "image-to-video",
                "prompt": "",
                "duraton": 5,
                "video": URL,
                "shots": [{"prompt": "", "duration": 2.5}, {"prompt": "b"}, {"prompt": "c", "duration": 1, "x": 2}],
                "sound": "yes",
            }
        )
    lines = [f"{fault.field}: {fault.message}" for fault in caught.value.faults]
    assert lines == [
        "duraton: unknown column; did you mean 'duration'?",
        "video: an image-to-video has no video",
        "shots: shot 1: prompt: is empty",
        "shots: shot 1: duration: 2.5 is not a whole number",
        "shots: shot 2: duration is missing",
        "shots: shot 3: unknown name 'x'",
        "prompt: is empty",
        "sound: 'yes' is not true or false",
        "image: an image-to-video needs the URL of an image",
    ]


@pytest.mark.parametrize(
    ("column", "hint"),
    [
        ("Prompt", "; did you mean 'prompt'?"),
        ("aspectratio", "; did you mean 'aspect_ratio'?"),
        ("\ufeffprompt", "; did you mean 'prompt'?"),
        ("typ", "; did you mean 'type'?"),
        ("seed", ""),
        ("__class__", ""),
        ("x" * 100_000, ""),
    ],
)
def test_an_unknown_column_is_refused_with_a_suggestion(column: str, hint: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        request_from({"prompt": "x", column: 1})
    (fault,) = caught.value.faults
    assert fault.message == f"unknown column{hint}"
    assert fault.field.isprintable()
    assert len(fault.field) <= 60


@pytest.mark.parametrize("column", [None, "", " "])
def test_a_cell_beyond_the_last_column_is_refused(column: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        request_from({"prompt": "x", column: ["too", "many"]}, text=True)
    assert caught.value.message == "(no name): unknown column"


@pytest.mark.parametrize("kind", ["text2video", "TEXT-TO-VIDEO", "", None, 5, ["text-to-video"], {"a": 1}, True])
def test_a_type_nobody_knows_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        request_from({"type": kind, "prompt": "x"})
    assert (caught.value.code, caught.value.field) == ("INVALID_TYPE", "type")
    assert "text-to-video, image-to-video, reference-to-video, video-edit" in caught.value.message


@pytest.mark.parametrize("row", [None, 5, "x", b"x", [], [("prompt", "x")], True])
def test_what_is_no_row_is_refused(row: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        request_from(row)
    assert caught.value.field == "row"


@pytest.mark.parametrize(
    "subject",
    [
        {"name": "a", "description": "b", "images": URL},
        {"name": "a", "description": "b", "images": {URL: 1}},
        {"name": "a", "description": "b", "images": 5},
        {"name": "a", "description": "b", "images": [5]},
        {"name": 5, "description": "b", "images": [URL]},
        {"name": "a", "images": [URL]},
        {"name": "a", "description": "b", "images": [URL], "id": 1},
        {1: 2},
        {},
        "a",
        None,
        [],
    ],
)
def test_a_subject_of_another_shape_is_refused(subject: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        request_from({"prompt": "x", "subjects": [subject]})
    assert {fault.field for fault in caught.value.faults} == {"subjects"}


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.none(), inner, max_size=4),
    max_leaves=10,
)
_COLUMNS = st.sampled_from([*_FIELDS, "type", "id", "key"]) | st.text(max_size=8) | st.none()


_VALUES = _ANY | st.sampled_from([*KINDS, "x", URL, "[]", "{}", "5"])


def _read(row: Any, *, text: bool) -> Request | InvalidRequestError:
    try:
        return request_from(row, text=text)
    except InvalidRequestError as error:
        return error


@settings(max_examples=500)
@given(row=st.dictionaries(_COLUMNS, _VALUES, max_size=6), text=st.booleans())
def test_any_row_is_a_request_or_refused(row: Any, text: bool) -> None:
    read = _read(row, text=text)
    if isinstance(read, InvalidRequestError):
        assert read.faults
        assert read.message.replace("\n", " ").isprintable()
    else:
        assert request_from(request_to(read)) == read


# ---- names


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({}, None),
        ({"id": None}, None),
        ({"id": ""}, None),
        ({"id": "a"}, "a"),
        ({"id": 5}, "5"),
        ({"id": 0}, "0"),
        ({"id": "a", "key": "b"}, "b"),
        ({"id": "a", "key": ""}, "a"),
        ({"key": "Größe 5 🚤"}, "Größe 5 🚤"),
        ({"key": "x" * 200}, "x" * 200),
    ],
)
def test_a_row_names_itself(row: dict[str, Any], name: str | None) -> None:
    assert row_key(row) == name


@pytest.mark.parametrize("name", [True, 1.5, ["a"], {}, b"a", "a\nb", "a\x00", "\u202ea", "x" * 201])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    for column in ("id", "key"):
        with pytest.raises(InvalidRequestError) as caught:
            row_key({column: name})
        assert caught.value.field == column


def test_a_name_of_five_thousand_digits_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        row_key({"id": 10**5000})
