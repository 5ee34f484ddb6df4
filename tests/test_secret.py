"""A secret is sent and never shown."""

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from kling_async.errors import ConfigurationError
from kling_async.gateways.apiin import ApiIn
from kling_async.gateways.apimart import ApiMart
from kling_async.gateways.kling3api import Kling3Api
from kling_async.gateways.klinggenerator import KlingGenerator
from kling_async.secret import Secret

CANARY = "sk-canary-0123456789"
ADAPTERS = (Kling3Api, ApiIn, KlingGenerator, ApiMart)

WAYS: list[Callable[[Any], str]] = [
    repr,
    str,
    ascii,
    lambda value: f"{value}",
    lambda value: f"{value!r}",
    lambda value: f"{[value]}",
    lambda value: "%s %r" % (value, value),  # noqa: UP031
    "{}".format,
    lambda value: json.dumps({"key": value}, default=str),
    lambda value: logging.makeLogRecord({"msg": "%s", "args": (value,)}).getMessage(),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [Secret, *ADAPTERS])
def test_nothing_shows_the_key(make: Callable[[str], Any], way: Callable[[Any], str]) -> None:
    text = way(make(CANARY))
    assert text
    assert CANARY not in text
    assert CANARY[:8] not in text


def test_a_secret_shows_as_stars() -> None:
    assert f"{Secret(CANARY)}" == "Secret(***)"


@pytest.mark.parametrize("make", ADAPTERS)
def test_the_plain_data_of_an_adapter_does_not_show_its_key(make: Callable[[str], Any]) -> None:
    adapter = make(CANARY)
    for told in (attrs.asdict(adapter), attrs.astuple(adapter), getattr(adapter, "__dict__", {})):
        assert CANARY not in repr(told)
    assert repr(attrs.asdict(adapter)["api_key"]) == "Secret(***)"


def test_a_secret_has_no_variables() -> None:
    with pytest.raises(TypeError):
        vars(Secret(CANARY))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("make", [Secret, *ADAPTERS])
def test_a_secret_is_not_pickled(make: Callable[[str], Any], protocol: int) -> None:
    with pytest.raises(TypeError) as caught:
        pickle.dumps(make(CANARY), protocol)
    assert CANARY not in str(caught.value)


def test_a_format_that_is_not_known_does_not_show_it() -> None:
    with pytest.raises(TypeError) as caught:
        format(Secret(CANARY), ">30")
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("make", ADAPTERS)
def test_a_copy_of_an_adapter_still_has_its_key(make: Callable[[str], Any]) -> None:
    adapter = make(CANARY)
    for copied in (copy.copy(adapter), copy.deepcopy(adapter), attrs.evolve(adapter)):
        assert copied.api_key.reveal() == CANARY


def test_a_secret_can_be_copied() -> None:
    assert copy.copy(Secret(CANARY)) == copy.deepcopy(Secret(CANARY)) == Secret(CANARY)


def test_two_secrets_are_equal_by_their_text() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret(Secret("a")) == Secret("a")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        " ",
        f"{CANARY} ",
        f"{CANARY}\n",
        f"{CANARY}\r\nX: 1",
        f"{CANARY}\x00",
        f"{CANARY}é",
        "x" * 4097,
        None,
        5,
        b"x",
    ],
)
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(wrong: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Secret(wrong)
    error = caught.value
    assert (error.field, error.stage) == ("api_key", "validate")
    assert CANARY not in "".join(traceback.format_exception(error)).replace(repr(wrong), "")
    assert CANARY not in repr(error)
    assert CANARY not in json.dumps(error.to_dict())
