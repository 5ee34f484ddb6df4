"""A key that a gateway echoes is masked in every dress, whole or cut off, and nothing else is touched."""

import html
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote

import pytest
from canary import KEY, forms, leaks
from hypothesis import given
from hypothesis import strategies as st

from kling_async.errors import bounded, mentions, repeats, scrub
from kling_async.traces import BEGINNING, CUT_OFF, Traces

FORMS = forms()
PLAIN = "sk-live-0123456789abcdef"


@pytest.mark.parametrize("name", FORMS)
def test_the_canary_is_seen_in_every_form(name: str) -> None:
    """Otherwise none of the tests in this directory could fail."""
    assert leaks(f"invalid: {FORMS[name]}!")
    assert leaks(FORMS[name].encode())


@pytest.mark.parametrize("name", FORMS)
def test_a_key_is_masked_in_every_form(name: str) -> None:
    text = f'{{"message": "the key {FORMS[name]} is wrong"}}'
    assert leaks(scrub(text, KEY)) == []
    assert mentions([text], KEY)
    assert scrub(text, KEY).startswith('{"message": "the key ')
    assert scrub(text, KEY).endswith(' is wrong"}')


@pytest.mark.parametrize("name", FORMS)
def test_what_an_error_keeps_of_a_long_answer_holds_no_key_wherever_it_is_cut_off(name: str) -> None:
    text = f"{'x' * 20} {FORMS[name]} {'y' * 20}"
    for length in range(10, len(text)):
        assert leaks(scrub(bounded(text, length), KEY)) == [], length


@pytest.mark.parametrize("between", ["\n", "\r\n", " ", "\\n", "\\r\\n", "\t", " \n "])
@pytest.mark.parametrize("place", [1, 4, 7, 8, 20])
def test_a_key_that_is_broken_over_lines_is_masked_to_its_end(between: str, place: int) -> None:
    assert scrub(f"a {KEY[:place]}{between}{KEY[place:]} z", KEY) == "a *** z"


def test_a_key_with_a_blank_after_each_character_is_masked() -> None:
    assert scrub(" ".join(KEY), KEY) == "***"


@pytest.mark.parametrize("shown", range(BEGINNING, len(PLAIN)))
def test_a_beginning_of_the_key_is_a_trace_of_it(shown: int) -> None:
    """As in "Incorrect API key provided: sk-live-0123****cdef"."""
    assert scrub(f"key {PLAIN[:shown]}****cdef", PLAIN) == "key *******cdef"


@pytest.mark.parametrize("shown", range(CUT_OFF, BEGINNING))
def test_a_shorter_one_is_a_trace_where_the_text_ends(shown: int) -> None:
    assert scrub(f"key {PLAIN[:shown]}", PLAIN) == "key ***"
    assert scrub(f"key {PLAIN[:shown]}…", PLAIN) == "key ***…"
    assert scrub(f"key {PLAIN[:shown]} ", PLAIN) == f"key {PLAIN[:shown]} "


LATE = ("sk-live-0&CANARY-9f8e7d6c5b4a", "sk-live-0%25CANARY-9f8e", "sk-live-0<CANARY-tail-99", "sk-live-0%CANARY-tail")


@pytest.mark.parametrize("key", LATE)
@pytest.mark.parametrize("escape", [html.escape, quote, lambda key: html.escape(html.escape(key)), str])
def test_a_key_is_masked_to_its_end_wherever_it_has_a_character_that_is_escaped(
    key: str, escape: Callable[[str], str]
) -> None:
    """The escaped one begins with the plain one: `&amp;` with `&`, and `%25` with `%`."""
    assert scrub(f"the key {escape(key)} is wrong", key) == "the key *** is wrong"


ENTITIES: dict[str, Callable[[str], str]] = {
    "escaped once more": lambda key: html.escape("".join(f"&#{ord(char)};" for char in key)),
    "without an end": lambda key: "".join(f"&#{ord(char)}" for char in key),
    "with zeros": lambda key: "".join(f"&#{ord(char):07d};" for char in key),
    "in hexadecimal, with zeros": lambda key: "".join(f"&#x{ord(char):06X};" for char in key),
}


@pytest.mark.parametrize("name", ENTITIES)
def test_a_key_in_any_entities_is_masked(name: str) -> None:
    assert scrub(f"the key {ENTITIES[name](PLAIN)} is wrong", PLAIN) == "the key *** is wrong"


def test_a_key_with_entities_that_have_names_is_masked() -> None:
    assert scrub("the key sk&lowbar;live&period;0123&colon;45 is wrong", "sk_live.0123:45") == "the key *** is wrong"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\\n", "\\r\\n"])
def test_base64_that_is_broken_into_lines_is_masked(end: str) -> None:
    """As in mail: 76 characters to a line, wherever the key begins."""
    for before in range(57):
        told = encodebytes(b"x" * before + PLAIN.encode()).decode().rstrip("\n").replace("\n", end)
        assert leaks(scrub(told, PLAIN).replace(end, ""), PLAIN) == [], before


def test_every_trace_in_a_text_is_masked() -> None:
    assert scrub(f"{PLAIN}{PLAIN},{PLAIN[:12]} {PLAIN.encode().hex()}", PLAIN) == "******,*** ***"


def test_the_keys_own_backslashes_do_not_end_a_trace() -> None:
    key = 'ab\\\\\\"cd\\ef\\'
    for told in forms(key).values():
        assert scrub(f"({told})", key) == "(***)" or scrub(f"({told})", key).count("***") == 1
        assert "ef" not in scrub(f"({told})", key).replace("***", "")


def test_a_short_key_is_masked_where_it_is_whole() -> None:
    assert scrub("the key abc123 is abc12", "abc123") == "the key *** is abc12"


@pytest.mark.parametrize("key", ["", "k", "any", "plan", "token"])
def test_a_key_that_is_a_part_of_any_word_spoils_no_message(key: str) -> None:
    """Nobody's account has it; against the sandbox, any will do."""
    assert scrub("the gateway kept any plan for the token", key) == "the gateway kept any plan for the token"
    assert not mentions(["any plan"], key)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"task-{PLAIN}-1", True),
        (PLAIN.upper(), True),
        (f"t-{PLAIN.encode().hex()}", True),
        (b64encode(f"x{PLAIN}".encode()).decode().rstrip("="), True),
        (urlsafe_b64encode(f"user:{PLAIN}".encode()).decode().rstrip("="), True),
        (PLAIN[:-1], False),
        (PLAIN[:-1].encode().hex(), False),
        (b64encode(PLAIN[:-4].encode()).decode(), False),
        (f"{PLAIN[:12]}-7", False),
        ("n75abckling3", False),
    ],
)
def test_a_text_repeats_a_key_only_where_all_of_it_is_there(text: str, told: bool) -> None:
    """Keys begin as other things of a gateway's do, with its name say; the ids of paid jobs may, too."""
    assert repeats(text, PLAIN) is told
    assert not repeats(text, "sk-live")


_SOUND = st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="*")
_KEYS = st.text(_SOUND, min_size=BEGINNING, max_size=80)


@given(_KEYS, st.text(max_size=20), st.text(max_size=20), st.data())
def test_no_form_of_any_key_is_left_in_any_text(key: str, before: str, after: str, data: st.DataObject) -> None:
    told = forms(key)
    name = data.draw(st.sampled_from(sorted(told)))
    text = f"{before}{told[name]}{after}"
    clean = scrub(text, key)
    assert leaks(clean, key) == [], name
    assert scrub(clean, key) == clean


@given(st.text(max_size=200))
def test_a_text_without_a_trace_is_left_alone(text: str) -> None:
    traces = Traces(KEY)
    assert traces.found_in(text) is (traces.masked(text) != text)
    assert traces.masked(text) == text


@given(_KEYS, st.text(max_size=60))
def test_a_trace_is_found_exactly_where_masking_changes_something(key: str, text: str) -> None:
    traces = Traces(key)
    for each in (text, text + key[:6], key + text):
        assert traces.found_in(each) is (traces.masked(each) != each)


def test_a_hostile_text_is_read_in_a_moment() -> None:
    """Half a megabyte of what nearly is the key: no pattern may go over it more than a few times."""
    import time

    begun = time.perf_counter()
    for piece in (KEY[:5], " ", "%25", "\\", "&#0", KEY[0] + " ", "\\\\u00", "&#x0000"):
        scrub(piece * (500_000 // len(piece)), KEY)
    assert time.perf_counter() - begun < 10
