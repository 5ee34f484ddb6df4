"""Headers that say what is left of a limit are claims: what is sound is read, whatever else they say is not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_async.flow.allowance import Allowance, allowance

NOW = 1_770_000_000.0
NAMES = ["x-ratelimit-remaining", "ratelimit-remaining", "x-rate-limit-remaining", "x-ratelimit-remaining-requests"]


@pytest.mark.parametrize("name", NAMES)
def test_every_usual_name_is_read_with_the_reset_that_belongs_to_it(name):
    assert allowance({name: "7", name.replace("remaining", "reset"): "30"}, NOW) == Allowance(7, 30)
    assert allowance({name: "7", "retry-after": "30"}, NOW) == Allowance(7, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("3", 3),
        ("2.5", 2.5),
        (" 12 ", 12),
        (str(int(NOW) + 60), 60),
        (str((int(NOW) + 60) * 1000), 60),
        (str(int(NOW) - 60), 0),
        ("6m0s", 360),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1m0.5s", 60.5),
    ],
)
def test_a_reset_is_seconds_or_a_time_since_1970_or_a_span(text, seconds):
    said = allowance({"x-ratelimit-remaining": "0", "x-ratelimit-reset": text}, NOW)
    assert said == Allowance(0, pytest.approx(seconds))


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf", "1e400", "5x", "m5", "1m and more", "0x10"])
def test_a_reset_that_is_not_understood_is_not_known(text):
    assert allowance({"x-ratelimit-remaining": "4", "x-ratelimit-reset": text}, NOW) == Allowance(4, None)


@pytest.mark.parametrize("text", ["", "many", "-1", "nan", "inf", "-inf", "1e400", "0x10", "7;w=60", "1,000"])
def test_a_remainder_that_is_not_a_sound_number_says_nothing(text):
    assert allowance({"x-ratelimit-remaining": text, "x-ratelimit-reset": "30"}, NOW) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"default";r=50;t=30', Allowance(50, 30)),
        ('"default";r=0', Allowance(0, None)),
        ("limit=100, remaining=50, reset=5", Allowance(50, 5)),
        ("remaining=0,reset=0", Allowance(0, 0)),
        ("r = 3 ; t = 4", Allowance(3, 4)),
        ('"default";q=100;w=60', None),
        ("limit=100", None),
        ("remaining=many", None),
        ("", None),
    ],
)
def test_the_combined_header_is_read_as_the_draft_and_its_forerunners_write_it(text, said):
    assert allowance({"ratelimit": text}, NOW) == said


def test_the_plain_header_counts_where_there_are_both():
    assert allowance({"x-ratelimit-remaining": "1", "ratelimit": '"default";r=50;t=30'}, NOW) == Allowance(1, None)


def test_headers_that_do_not_speak_of_limits_say_nothing():
    assert allowance({}, NOW) is None
    assert allowance({"x-ratelimit-limit": "100", "x-ratelimit-reset": "5", "retry-after": "9"}, NOW) is None


NUMBERS = st.one_of(st.integers(-10, 10**20).map(str), st.floats().map(str), st.sampled_from(["6m0s", "9" * 400]))
TEXTS = st.one_of(st.text(max_size=30), NUMBERS)


@given(
    headers=st.dictionaries(
        st.sampled_from([*NAMES, *(name.replace("remaining", "reset") for name in NAMES), "ratelimit"]), TEXTS
    ),
    now=st.floats(0, 1e10),
)
def test_whatever_is_said_what_is_read_is_finite_and_not_negative(headers, now):
    said = allowance(headers, now)
    if said is not None:
        assert 0 <= said.remaining < math.inf
        assert said.reset_after is None or 0 <= said.reset_after < math.inf
