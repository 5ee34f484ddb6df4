"""Names of jobs, and their identities at the gateway."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_async import ImageToVideo, InvalidRequestError, TextToVideo, VideoEdit, request_to
from kling_async.asked import key_fault
from kling_async.batch.keys import Names, Planned, digest_of, identity_of, named, said, slug

PROMPTS = st.text(min_size=1, max_size=60).filter(lambda text: text.strip() and text.isprintable()) | st.sampled_from(
    ["a boat", "A boat!", "[sandbox: fail] a boat", "лодка", "船" * 30, "the " * 99, "e\u0301te\u0301", "___"]
)
TEXTS = st.builds(TextToVideo, PROMPTS, duration=st.integers(3, 15), sound=st.booleans())
REQUESTS = (
    TEXTS
    | st.builds(ImageToVideo, PROMPTS, image=st.just("https://example.com/a.png"))
    | st.builds(VideoEdit, PROMPTS, video=st.just("https://example.com/a.mp4"))
)
KEYS = st.text(min_size=1, max_size=200).filter(lambda key: key_fault(key) is None)
ITEMS = st.lists(
    REQUESTS | st.tuples(KEYS, REQUESTS) | REQUESTS.map(request_to),
    max_size=12,
    unique_by=lambda item: item[0] if isinstance(item, tuple) else object(),
)


def keys_of(items):
    return [planned.key for planned in named(items, Names())]


@given(ITEMS)
def test_the_same_input_gets_the_same_keys(items):
    assert keys_of(items) == keys_of(items)


@given(ITEMS, st.integers(0, 12))
def test_what_comes_later_does_not_rename_what_came_before(items, place):
    assert keys_of(items)[:place] == keys_of(items[:place])


@given(st.lists(REQUESTS, max_size=12))
def test_derived_keys_name_one_job_each_and_are_sound(requests):
    keys = keys_of(requests)
    assert len(set(keys)) == len(keys)
    assert [key for key in keys if key_fault(key) is not None] == []
    assert all(key.isascii() for key in keys)


@given(REQUESTS, st.integers(1, 12))
def test_equal_requests_in_one_input_are_numbered(request, count):
    first, *others = keys_of([request] * count)
    assert others == [f"{first}-{number}" for number in range(2, count + 1)]


@given(REQUESTS)
def test_a_request_and_its_plain_row_have_the_same_name(request):
    assert keys_of([request]) == keys_of([request_to(request)])
    assert digest_of(request) == digest_of(Names().of(request_to(request)).request)


@given(KEYS, REQUESTS)
def test_a_key_of_ones_own_is_kept(key, request):
    assert keys_of([(key, request)]) == [key]
    assert keys_of([Planned(key, request, row=7)]) == [key]


@given(KEYS, REQUESTS, REQUESTS)
def test_one_key_for_two_requests_of_an_input_is_refused(key, one, other):
    assert keys_of([(key, one), (key, one)]) == [key, key]
    if one != other:
        with pytest.raises(InvalidRequestError, match="names two requests"):
            keys_of([(key, one), (key, other)])


@pytest.mark.parametrize(("row", "key"), [({"id": 7}, "7"), ({"key": "a", "id": 7}, "a"), ({"id": " x "}, " x ")])
def test_a_row_names_itself(row, key):
    assert keys_of([{"prompt": "a boat", **row}]) == [key]


@given(REQUESTS, REQUESTS)
def test_the_digest_tells_requests_apart(one, other):
    assert (digest_of(one) == digest_of(other)) == (one == other) == (said(one) == said(other))


@pytest.mark.parametrize(
    "item",
    [
        *(None, 7, "a boat", b"x", [], (), ("k",), ("k", "a boat"), ("", TextToVideo("a")), (5, TextToVideo("a"))),
        *(
            (None, TextToVideo("a")),
            ("a\nb", TextToVideo("a")),
            ("x" * 201, TextToVideo("a")),
            ("\ud800", TextToVideo("a")),
        ),
        *({"prompt": "a", "id": 1.5}, {"prompt": "a", "key": True}, {"prompt": "a", "duration": "long"}, {}),
    ],
    ids=repr,
)
def test_what_is_no_job_is_refused_by_name(item):
    with pytest.raises(InvalidRequestError) as caught:
        keys_of([TextToVideo("a good one"), item])
    assert caught.value.faults


@given(
    st.tuples(st.text(), KEYS, st.binary(), st.integers(1, 10**6)),
    st.tuples(st.text(), KEYS, st.binary(), st.integers(1, 10**6)),
)
def test_an_identity_tells_batch_key_request_and_attempt_apart(one, other):
    assert (identity_of(*one) == identity_of(*other)) == (one == other)


@given(st.text(), KEYS, st.binary(), st.integers(1, 10**6), st.integers(0, 3))
def test_a_change_in_any_part_is_another_identity(batch, key, digest, attempt, place):
    parts = [batch, key, digest, attempt]
    changed = list(parts)
    changed[place] = [batch + "x", key + "x", digest + b"x", attempt + 1][place]
    assert identity_of(*changed) != identity_of(*parts)


@given(st.text(), st.text(), st.binary(), st.integers())
def test_an_identity_is_a_header_that_every_gateway_takes(batch, key, digest, attempt):
    identity = identity_of(batch, key, digest, attempt)
    assert 1 <= len(identity) <= 191
    assert all("!" <= char <= "~" for char in identity)


@given(st.text(max_size=300))
def test_a_slug_is_a_part_of_any_file_name(prompt):
    found = slug(prompt)
    assert len(found) <= 48
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert found == found.strip("-")


def test_a_slug_speaks_of_the_prompt():
    assert slug("[sandbox: fail] A paper boat, in the RAIN of a summer night") == "paper-boat-in-the-rain-of"
    assert slug("Été à Zürich") == "ete-a-zurich"
    assert slug("船") == ""
    assert keys_of([TextToVideo("船")])[0].startswith("text-to-video-")
