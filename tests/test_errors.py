"""The tree of errors: what every one of them can do, and what none of them shows."""

import ast
import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import pytest

from kling_async import errors
from kling_async.errors import (
    Charged,
    Fault,
    InvalidRequestError,
    KlingError,
    NotFoundError,
    RateLimitError,
    UnsupportedError,
    bounded,
    mentions,
    scrub,
    shown,
)

SECRET = "sk-live-0123456789abcdef"


def _tree(kind: type[KlingError]) -> Iterator[type[KlingError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)


CLASSES = list(_tree(KlingError))
FULL: dict[str, Any] = {
    "gateway": "kling3api",
    "http_status": 409,
    "code": "ODD",
    "field": "prompt",
    "request_id": "req-1",
    "task_id": "n75abc",
    "key": "order-1",
    "retry_after": 2.5,
    "attempts": 3,
    "stage": "submit",
    "charged": "unknown",
    "cause": RateLimitError("slow", code="RATE_LIMITED"),
    "raw": '{"a":1}',
}


def _state(error: KlingError) -> dict[str, Any]:
    state = {name: getattr(error, name) for name in ("message", *FULL)}
    state["cause"] = None if error.cause is None else _state(error.cause)
    return {**state, "faults": getattr(error, "faults", None), "args": error.args, "kind": type(error)}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
class TestEveryClass:
    def test_pickles_with_everything_it_knows(self, kind: type[KlingError]) -> None:
        error = kind("it went wrong", **FULL)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert _state(pickle.loads(pickle.dumps(error, protocol))) == _state(error)

    def test_copies_with_everything_it_knows(self, kind: type[KlingError]) -> None:
        error = kind("it went wrong", **FULL)
        for copied in (copy.copy(error), copy.deepcopy(error)):
            assert copied is not error
            assert _state(copied) == _state(error)

    def test_is_json_ready(self, kind: type[KlingError]) -> None:
        told = json.loads(json.dumps(kind("it went wrong", **FULL).to_dict(), allow_nan=False))
        assert told["error"] == kind.__name__
        assert told["message"] == "it went wrong"
        assert {name: told[name] for name in FULL if name != "cause"} == {
            name: value for name, value in FULL.items() if name != "cause"
        }
        assert told["cause"]["error"] == "RateLimitError"

    def test_leaves_out_what_it_does_not_know(self, kind: type[KlingError]) -> None:
        assert set(kind().to_dict()) == {"error", "message", "charged"}

    def test_has_a_sentence_and_a_charge_of_its_own(self, kind: type[KlingError]) -> None:
        error = kind()
        assert str(error) == error.message == kind.default_message
        assert error.charged in get_args(Charged)

    def test_evolves_without_a_traceback(self, kind: type[KlingError]) -> None:
        with pytest.raises(kind) as caught:
            raise kind("it went wrong", **FULL)
        changed = caught.value.evolve(task_id="n75other")
        assert type(changed) is kind
        assert changed.__traceback__ is None
        assert _state(changed) == {**_state(caught.value), "task_id": "n75other"}

    def test_shows_no_secret_after_scrubbing(self, kind: type[KlingError]) -> None:
        known = dict.fromkeys(("code", "field", "request_id", "raw"), f"x{SECRET}y")
        cause = InvalidRequestError(SECRET, raw=SECRET, faults=[Fault("prompt", "ODD", f"is {SECRET}")])
        clean = kind(f"the key {SECRET} is wrong", **known, cause=cause).scrubbed(SECRET)
        assert type(clean) is kind
        shown_anywhere = [repr(clean), str(clean), json.dumps(clean.to_dict()), repr(_state(clean)), repr(clean.args)]
        assert not [text for text in shown_anywhere if SECRET in text]
        assert "***" in clean.message

    def test_is_exported(self, kind: type[KlingError]) -> None:
        import kling_async

        assert kind.__name__ in kling_async.__all__
        assert getattr(kling_async, kind.__name__) is kind


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        bare = line.lstrip("│├└─ ")
        if not bare.startswith(("KlingError", *[kind.__name__ for kind in CLASSES])):
            continue
        name, depth = bare.split()[0], (len(line) - len(bare)) // 3
        path[depth:] = [name]
        drawn[name] = path[depth - 1] if depth else ""
    real = {kind.__name__: kind.__mro__[1].__name__ for kind in CLASSES}
    assert drawn == {**real, "KlingError": ""}


def test_every_exported_name_has_a_room_and_every_room_exports_it() -> None:
    import kling_async

    assert sorted(kling_async._HOME) == sorted(name for name in kling_async.__all__ if name != "__version__")
    assert kling_async._HOME["InvalidRequestError"] == "errors"
    source = ast.parse(Path(kling_async.__file__).read_text(encoding="utf-8"))
    typed = {alias.name for node in ast.walk(source) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(kling_async._HOME) <= typed


def test_an_invalid_request_is_a_value_error() -> None:
    for kind in (InvalidRequestError, UnsupportedError, NotFoundError):
        assert issubclass(kind, ValueError)
    assert not issubclass(RateLimitError, ValueError)


def test_one_error_tells_of_all_faults() -> None:
    faults = [Fault("prompt", "INVALID_PROMPT", "is empty"), Fault("duration", "INVALID_DURATION", "0 is too short")]
    error = InvalidRequestError.of(faults)
    assert error.faults == tuple(faults)
    assert (error.code, error.field, error.stage, error.charged) == ("INVALID_PROMPT", "prompt", "validate", "no")
    assert error.message == "prompt: is empty; duration: 0 is too short"
    assert pickle.loads(pickle.dumps(error)).faults == tuple(faults)


def test_what_is_known_is_told_in_one_line() -> None:
    error = KlingError("it went wrong", gateway="apiin", code="ODD", http_status=500, task_id="n75abc")
    assert str(error) == "it went wrong (apiin, ODD, HTTP 500, task n75abc)"
    assert str(KlingError("no", code="HTTP_409", http_status=409)) == "no (HTTP_409)"


def test_the_repr_leaves_out_the_raw_answer() -> None:
    assert "private" not in repr(KlingError("x", raw="private"))


def test_becoming_another_class_keeps_what_is_known() -> None:
    error = RateLimitError("slow", **FULL)
    other = error.become(InvalidRequestError, code="NEW")
    assert type(other) is InvalidRequestError
    assert {**_state(other), "kind": None, "faults": None} == {
        **_state(error),
        "kind": None,
        "faults": None,
        "code": "NEW",
    }


@pytest.mark.parametrize("kept", range(6, len(SECRET)))
def test_a_secret_that_a_bounded_text_cuts_off_is_masked_too(kept: int) -> None:
    for end in ("", "…"):
        text = scrub(f"the key {SECRET[:kept]}{end}", SECRET)
        assert text == f"the key ***{end}"


def test_scrubbing_reaches_into_every_container() -> None:
    value = {"a": [f"x{SECRET}", {SECRET: (SECRET, 5, None)}]}
    assert scrub(value, SECRET) == {"a": ["x***", {"***": ["***", 5, None]}]}


@pytest.mark.parametrize(
    "value",
    [
        {"a": [f"x{SECRET}"]},
        {SECRET: 1},
        {"a": {"b": (1, None, MappingProxyType({"c": f"cut off: {SECRET[:8]}"}))}},
        ["x", [SECRET]],
        {"a": [1, 2.0, None, True, "x", SECRET[:5], {"b": {}}, [], ()]},
        {},
    ],
)
def test_a_trace_is_found_where_scrubbing_would_change_something(value: Any) -> None:
    assert mentions(value, SECRET) is (SECRET[:6] in str(value))
    assert ("***" in str(scrub(value, SECRET))) is mentions(value, SECRET)


def test_scrubbing_without_a_secret_changes_nothing() -> None:
    assert scrub({"a": ["x"]}, "") == {"a": ["x"]}


@pytest.mark.parametrize("hostile", ["\x1b[31m", "\u202e", "\x00", "\ud800", "\x85", "\u2028", "\r"])
def test_a_bounded_text_is_printable(hostile: str) -> None:
    assert bounded(f"a{hostile}b").isprintable()
    assert len(bounded(hostile * 5000, 100)) <= 100


def test_a_bounded_text_that_is_cut_says_so() -> None:
    assert bounded("x" * 100, 100) == "x" * 100
    assert bounded("x" * 101, 100) == "x" * 99 + "…"


class _Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_any_value_can_be_shown() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown("x") == "'x'"
    assert shown(_Unshowable()) == "a value of type _Unshowable"
    assert shown(10**10_000) == "a value of type int"
    assert len(shown(deep)) <= 80
    while deep:
        deep = deep.pop()
