"""Requests: every field of every kind refuses what it is not, by name, when it is made and when it is read."""

import copy
import math
import pickle
from collections.abc import Mapping
from types import MappingProxyType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import attrs
import pytest

from kling_async.errors import InvalidRequestError
from kling_async.requests import (
    KINDS,
    ImageToVideo,
    ReferenceToVideo,
    Request,
    Shot,
    Subject,
    TextToVideo,
    VideoEdit,
    default_model,
    said,
)
from kling_async.rows import request_from

URL = "https://example.com/a.jpg"
NEEDED: Mapping[type[Any], Mapping[str, Any]] = {
    TextToVideo: {"prompt": "x"},
    ImageToVideo: {"prompt": "x", "image": URL},
    ReferenceToVideo: {"prompt": "x", "images": (URL,)},
    VideoEdit: {"prompt": "x", "video": URL},
    Shot: {"prompt": "x", "duration": 2},
    Subject: {"name": "x", "description": "y", "images": (URL,)},
}

_HUGE = 10**5000
_DEEP: list[Any] = []
for _ in range(3000):
    _DEEP = [_DEEP]
WRONG: Mapping[Any, list[Any]] = {
    str: [5, 5.0, True, b"x", ["x"], {"x": 1}, object(), _HUGE, _DEEP, "\ud800", "a\x00b", "a\x1bb"],
    int: ["5", "", 5.0, True, False, math.nan, b"5", [5], {}, object(), _HUGE, -_HUGE, _DEEP, -1, 0],
    float: ["0.5", "", True, False, math.nan, math.inf, -math.inf, b"1", [0.5], {}, 10**400, _HUGE, -0.01, 1.01],
    bool: ["true", "yes", "", 1, 0, 1.0, b"1", [], [True], {}, object(), _HUGE],
    tuple: [5, 5.0, True, b"x", {}, {"a": 1}, [5], [None], [b"x"], [[URL]], [{"url": URL}], object(), _HUGE, [_DEEP]],
    Mapping: ["x", 5, True, b"x", ["x"], [], {1: 2}, {"a": object()}, {"a": math.nan}, {"a": "\ud800"}, {"a": b"x"}],
}


def _base(hint: Any) -> tuple[Any, bool]:
    """The plain type behind an annotation, and whether None is allowed."""
    optional = isinstance(hint, UnionType)
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if optional else [hint]
    (kind,) = kinds
    origin = get_origin(kind) or kind
    return (Mapping if origin is Mapping or issubclass(origin, Mapping) else origin), optional


FIELDS = [
    (kind, attribute.name, *_base(get_type_hints(kind)[attribute.name]))
    for kind in NEEDED
    for attribute in attrs.fields(kind)
]
IDS = [f"{kind.__name__}.{name}" for kind, name, *_ in FIELDS]


def _wrong(base: Any, optional: bool) -> list[Any]:
    return WRONG[base] if optional else [*WRONG[base], None]


@pytest.mark.parametrize(("kind", "name", "base", "optional"), FIELDS, ids=IDS)
def test_every_field_refuses_every_wrong_type_by_name(kind: type[Any], name: str, base: Any, optional: bool) -> None:
    for wrong in _wrong(base, optional):
        with pytest.raises(InvalidRequestError) as caught:
            kind(**{**NEEDED[kind], name: wrong})
        error = caught.value
        assert name in [fault.field for fault in error.faults]
        assert (error.stage, error.charged) == ("validate", "no")
        assert all(fault.message and len(fault.message) < 200 for fault in error.faults)
        assert error.message.isprintable()


ROWS = [(kind, name, base, optional) for kind, name, base, optional in FIELDS if kind in KINDS.values()]


@pytest.mark.parametrize(("kind", "name", "base", "optional"), ROWS, ids=[f"{k.__name__}.{n}" for k, n, *_ in ROWS])
def test_every_column_refuses_every_wrong_type_by_name(kind: type[Any], name: str, base: Any, optional: bool) -> None:
    for wrong in _wrong(base, optional):
        with pytest.raises(InvalidRequestError) as caught:
            request_from({"type": kind.kind, **NEEDED[kind], name: wrong})
        assert name in [fault.field for fault in caught.value.faults]


@pytest.mark.parametrize(("kind", "name", "base", "optional"), FIELDS, ids=IDS)
def test_every_optional_field_may_be_none(kind: type[Any], name: str, base: Any, optional: bool) -> None:
    if optional and not (kind is VideoEdit and name == "video") and not (kind is ImageToVideo and name == "image"):
        assert getattr(kind(**{**NEEDED[kind], name: None}), name) is None
    else:
        with pytest.raises(InvalidRequestError):
            kind(**{**NEEDED[kind], name: None})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ImageToVideo("", duration=99, quality="8k", sound="no", extra=5)  # type: ignore[arg-type]
    found = {fault.field for fault in caught.value.faults}
    assert found == {"prompt", "quality", "extra", "duration", "sound", "image"}


@pytest.mark.parametrize(
    ("make", "code", "field"),
    [
        (lambda: TextToVideo(""), "INVALID_PROMPT", "prompt"),
        (lambda: TextToVideo(" \n "), "INVALID_PROMPT", "prompt"),
        (TextToVideo, "INVALID_PROMPT", "prompt"),
        (lambda: TextToVideo("x", duration=2), "INVALID_DURATION", "duration"),
        (lambda: TextToVideo("x", duration=121), "INVALID_DURATION", "duration"),
        (lambda: ImageToVideo("x", image=URL, duration=16), "INVALID_DURATION", "duration"),
        (lambda: ImageToVideo("x"), "MISSING_IMAGE", "image"),
        (lambda: ImageToVideo("x", image=""), "MISSING_IMAGE", "image"),
        (lambda: ReferenceToVideo("x"), "MISSING_IMAGE", "images"),
        (lambda: VideoEdit("x"), "MISSING_VIDEO", "video"),
        (lambda: VideoEdit("x", video=""), "MISSING_VIDEO", "video"),
        (lambda: TextToVideo("x", model=""), "INVALID_TYPE", "model"),
        (lambda: TextToVideo("x", aspect_ratio="4:3"), "INVALID_PARAMETER", "aspect_ratio"),
        (lambda: TextToVideo("x", quality="PRO"), "INVALID_PARAMETER", "quality"),
        (lambda: TextToVideo("x", fps=241), "INVALID_PARAMETER", "fps"),
        (lambda: TextToVideo("x", shots=[Shot("y", 1)] * 101), "INVALID_PARAMETER", "shots"),
        (lambda: Shot("", 5), "INVALID_PROMPT", "prompt"),
        (lambda: Shot("x", 0), "INVALID_DURATION", "duration"),
        (lambda: Subject("x", "y", ()), "MISSING_IMAGE", "images"),
        (lambda: Subject(" ", "y", (URL,)), "INVALID_PARAMETER", "name"),
    ],
)
def test_what_no_gateway_takes_is_refused_with_its_code(make: Any, code: str, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        make()
    assert (caught.value.code, caught.value.field) == (code, field)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "example.com/a.jpg",
        "//example.com/a.jpg",
        "ftp://example.com/a.jpg",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///a.jpg",
        "https://example.com/a b.jpg",
        "https://example.com/a.jpg\n",
        "https://example.com\\@evil.example/",
        "https://exa\u202emple.com/",
        "https://[::1/",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://example.com:x/",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    for make in (
        lambda: VideoEdit("x", video=url),
        lambda: ImageToVideo("x", image=URL, end_image=url),
        lambda: ReferenceToVideo("x", images=[URL, url]),
        lambda: Subject("x", "y", [URL, url]),
    ):
        with pytest.raises(InvalidRequestError):
            make()


def test_a_list_becomes_a_tuple() -> None:
    request = ReferenceToVideo("x", images=[URL, URL], shots=[], subjects=[Subject("a", "b", [URL])])  # type: ignore[arg-type]
    assert request.images == (URL, URL)
    assert request.subjects[0].images == (URL,)
    assert hash(request) == hash(copy.deepcopy(request))


def test_a_prompt_may_be_left_out_where_there_are_shots() -> None:
    assert TextToVideo(shots=[Shot("x", 5)]).prompt == ""  # type: ignore[arg-type]


def test_extra_is_a_copy_of_ones_own() -> None:
    mine: dict[str, Any] = {"a": {"b": [1]}}
    request = TextToVideo("x", extra=mine)
    mine["a"]["b"].append(2)
    mine["c"] = 3
    assert request.extra == {"a": {"b": [1]}}


def test_extra_is_nested_no_deeper_than_an_answer_that_echoes_it_may_be() -> None:
    deep: object = 1
    for _ in range(15):
        deep = [deep]
    assert TextToVideo("x", extra={"a": deep}).extra
    with pytest.raises(InvalidRequestError, match="is nested more than 16 deep"):
        TextToVideo("x", extra={"a": {"b": deep}})


def test_extra_may_be_any_mapping() -> None:
    assert TextToVideo("x", extra=MappingProxyType({"a": 1})).extra == {"a": 1}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_request_is_frozen_hashable_and_pickles(kind: type[Request]) -> None:
    request = kind(**NEEDED[kind], extra={"a": 1})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.prompt = "other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(request)) == request
    assert len({request, attrs.evolve(request)}) == 1


def test_the_model_that_is_implied() -> None:
    implied = {kind: default_model(model(**NEEDED[model])) for kind, model in KINDS.items()}
    assert implied == {
        "text-to-video": "kling-3.0",
        "image-to-video": "kling-3.0",
        "reference-to-video": "kling-o3",
        "video-edit": "kling-o3",
    }
    assert default_model(TextToVideo("x", model="kling-2")) == "kling-2"


def test_an_edit_has_no_duration_ratio_or_sound() -> None:
    for name in ("duration", "aspect_ratio", "sound"):
        with pytest.raises(TypeError):
            VideoEdit("x", video=URL, **{name: 5})


def test_only_the_prompt_may_be_given_by_position() -> None:
    for kind in KINDS.values():
        with pytest.raises(TypeError):
            kind("x", 5)  # type: ignore[misc]


def test_what_was_said_is_what_differs_from_the_defaults() -> None:
    assert said(TextToVideo("x")) == {"prompt": "x"}
    assert said(TextToVideo("x", duration=5, sound=False, watermark=False, cfg_scale=0.0)) == {
        "prompt": "x",
        "watermark": False,
        "cfg_scale": 0.0,
    }
