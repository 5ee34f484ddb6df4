"""Laws of the readers that the adapters share: what they return for anything at all, and for what is sound."""

import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kling_async.errors import ProtocolError, bounded
from kling_async.gateways.reading import (
    MAX_AMOUNT,
    MAX_KEPT,
    MAX_URL,
    MAX_URLS,
    TOO_LARGE,
    amount,
    ids_in,
    is_named,
    is_ok,
    kept,
    moment,
    reason_in,
    seconds,
    share,
    status_of,
    task_id_in,
    text_code,
    unwrapped,
    urls_in,
    words,
)
from kling_async.gateways.refusals import same_task
from kling_async.results import Status
from kling_async.wire import MAX_DEPTH, is_task_id, read_json, segment

ODD = (
    "\x00",
    "\x1b[2J",
    "\u202e",
    "\u2028",
    "\x85",
    "\ud800",
    "\udfff",
    "\ufeff",
    "\U0001f6a4",
    "\r\n",
    "\n",
    '"',
    "\\",
    "é",
)
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(ODD) | st.text(max_size=3)).map("".join))
"""Any text, half of a surrogate pair included, and often such as could do harm."""
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.integers(-(10**40), 10**40), st.sampled_from([0, -0.0, 1e308, 5e-324, math.nan])
)
NUMERIC = st.one_of(
    NUMBERS.map(str),
    st.decimals(allow_nan=True).map(str),
    st.sampled_from(
        ["1e999", "1E-999999999", "sNaN", "-0", "1_0", "\u0661\u0662", "\u00b2", "0x1F", "%", "45%", " 5 ", "+1"]
    ),
)
NAMES = st.sampled_from(
    ["url", "video_url", "videos", "video", "urls", "resource", "message", "error", "code", "status", "id"]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    TEXTS,
    NUMERIC,
    st.sampled_from(
        ["https://e.com/a.mp4", "file:///etc/passwd", "n75abc", "SUCCESS", "failed", "404", "HTTP", "success"]
    ),
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(NAMES | TEXTS, inner, max_size=6),
        inner.map(json.dumps),
    ),
    max_leaves=20,
)
WHOLE_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**28), 10**28)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WHOLE_TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(WHOLE_TEXTS, inner),
    max_leaves=30,
)


def is_one_line(text: str | None, longest: int) -> bool:
    return text is None or (0 < len(text) <= longest and text.isprintable() and text == text.encode().decode())


# ---- JSON


@given(JSON, st.booleans(), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_sound_json_is_read_as_it_was_written(value: Any, escaped: bool, marked: bool, indent: Any) -> None:
    body = json.dumps(value, ensure_ascii=escaped, indent=indent).encode("utf-8-sig" if marked else "utf-8")
    assert read_json(body) == value


@given(ANYTHING)
@example({"\ud800": "a", "\\ud800": "b"})
@example(["\udc00\ud83d\udea4", "\\\\ud800"])
def test_what_is_read_can_be_written_and_is_then_read_as_the_same(value: Any) -> None:
    read = read_json(json.dumps(value).encode())
    again = json.dumps(read, ensure_ascii=False, allow_nan=False).encode()
    assert read_json(again) == read


@given(st.dictionaries(WHOLE_TEXTS, st.integers(0, 99), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_of_two_members_of_one_name_the_last_counts(value: dict[str, Any], random: Any) -> None:
    pairs = [(name, random.randrange(9)) for name in value for _ in range(random.randrange(3))] + list(value.items())
    body = ",".join(f"{json.dumps(name)}:{json.dumps(item)}" for name, item in pairs)
    assert read_json(f"{{{body}}}".encode()) == value


@given(st.lists(st.sampled_from(["[@]", '{"a":@}', '["]}",@]', '[{},@,"[["]', '{"[":[],"b":@}']), max_size=70))
def test_depth_is_counted_outside_of_texts(shells: list[str]) -> None:
    text = "@"
    for shell in shells:
        text = shell.replace("@", text)
    deep = len(shells) + (1 if shells and ("{}" in shells[0] or "[]" in shells[0]) else 0)
    body = text.replace("@", "1").encode()
    deepest = max((depth for depth in _depths(json.loads(body))), default=0)
    assert deepest in (deep, len(shells))
    if deepest <= MAX_DEPTH:
        assert read_json(body) == json.loads(body)
    else:
        with pytest.raises(ProtocolError) as caught:
            read_json(body)
        assert caught.value.code == "too_deep"


def _depths(value: Any, depth: int = 0) -> Any:
    if isinstance(value, (list, dict)):
        yield depth + 1
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _depths(inner, depth + 1)


# ---- texts


@given(TEXTS, st.integers(1, 60))
def test_a_bounded_text_has_its_length_and_no_character_that_steers(text: str, limit: int) -> None:
    shown = bounded(text, limit)
    assert len(shown) <= limit
    assert shown.replace("\n", "").isprintable()
    assert shown.encode().decode() == shown
    assert bounded(shown, limit) == shown


@given(WHOLE_TEXTS, st.integers(1, 60))
def test_a_text_that_harms_nobody_and_fits_stays_as_it_is(text: str, limit: int) -> None:
    if text.isprintable() and len(text) <= limit:
        assert bounded(text, limit) == text


@given(ANYTHING, st.integers(1, 60))
def test_words_are_one_line_or_nothing(value: Any, limit: int) -> None:
    said = words(value, limit)
    assert is_one_line(said, limit)
    assert said is None or words(said, limit) == said.strip()
    if isinstance(value, str) and value.strip().isprintable() and 0 < len(value.strip()) <= limit:
        assert said == value.strip()


@given(ANYTHING)
def test_a_reason_is_a_short_code_and_a_line(value: Any) -> None:
    for code, message in (reason_in(value), reason_in([value]), reason_in(None, {"error": value}, {"message": value})):
        assert is_one_line(code, 100)
        assert is_one_line(message, 2048)
    assert is_one_line(text_code(value), 100)
    if isinstance(value, str):
        code, message = unwrapped(value)
        assert is_one_line(code, 100)
        assert message == value or is_one_line(message, 2048)


@given(ANYTHING)
def test_any_word_has_a_known_status_or_none(value: Any) -> None:
    assert status_of(value) in (None, Status.IN_PROGRESS, Status.SUCCEEDED, Status.FAILED)
    assert is_ok(value) in (True, False)


# ---- ids

SOUND_IDS = st.text("abzABZ059-._~:@!$&'()*+,;=", min_size=1, max_size=128).filter(lambda name: name not in (".", ".."))


@given(SOUND_IDS)
def test_a_sound_id_is_one_segment_that_reads_back(name: str) -> None:
    assert is_task_id(name)
    assert task_id_in(None, "", name, "another") == name
    there = segment(name)
    assert unquote(there) == name
    assert not set(there) & set("/?# \\")


@given(SOUND_IDS, st.integers(0, 127), st.characters(exclude_characters="abcdefghijklmnopqrstuvwxyz", codec=None))
def test_one_character_makes_an_id_unsound(name: str, at: int, char: str) -> None:
    spoilt = name[:at] + char + name[at:]
    allowed = char.isascii() and (char.isalnum() or char in "-._~:@!$&'()*+,;=")
    assert is_task_id(spoilt) == (allowed and len(spoilt) <= 128 and spoilt not in (".", ".."))


@given(st.lists(ANYTHING, max_size=4))
def test_an_id_is_sound_or_refused_with_its_raw_value_escaped(values: list[Any]) -> None:
    try:
        found = task_id_in(*values)
    except ProtocolError as error:
        assert error.code == "bad_task_id"
        assert error.task_id is None
        assert error.raw is not None
        assert 0 < len(error.raw) <= 200
        assert error.raw.isprintable()
        assert error.raw.removesuffix("\u2026").isascii()
    else:
        assert found is None or is_task_id(found)
        assert found is not None or all(value is None or value == "" for value in values)


@given(st.dictionaries(st.sampled_from(["task_id", "job_id", "id", "status"]), LEAVES | SOUND_IDS), SOUND_IDS)
@pytest.mark.parametrize("bare_id", [False, True])
def test_an_answer_is_about_the_task_asked_for_or_refused(bare_id: bool, data: dict[str, Any], asked: str) -> None:
    """One that names no task at all is neither; `named` says so, and it is asked for again where it is the last."""
    own = [str(data[name]) for name in ("task_id", "job_id") if data.get(name)]
    bare = [data["id"]] if isinstance(data.get("id"), str) and data["id"] else []
    assert ids_in(data) == own
    every = [*own, *([str(data["id"])] if data.get("id") else [])]
    assert is_named(asked, data) is (asked in every)
    if asked in every or not (own or (bare and bare_id)):
        same_task("kling3api", asked, data, bare_id=bare_id)
        return
    with pytest.raises(ProtocolError) as caught:
        same_task("kling3api", asked, data, bare_id=bare_id)
    assert (caught.value.code, caught.value.task_id) == ("other_task", asked)


# ---- URLs


@given(st.lists(ANYTHING, max_size=4))
def test_urls_are_few_bounded_and_printable(places: list[Any]) -> None:
    urls = urls_in(*places)
    assert len(urls) <= MAX_URLS
    assert len(set(urls)) == len(urls)
    for url in urls:
        assert len(url) <= MAX_URL
        assert url.isprintable()
        assert ":" in url
        assert not set(url) & set(" \t\n")
    assert urls_in(urls and list(urls)) == urls


@given(st.lists(st.from_regex(r"https?://e\.com/[a-z0-9%?=&]{1,30}\.mp4", fullmatch=True), max_size=8, unique=True))
def test_urls_are_found_in_every_shape_that_gateways_use(urls: list[str]) -> None:
    found = tuple(urls)
    shapes: list[Any] = [
        urls,
        [{"url": url} for url in urls],
        {"videos": [{"url": [url]} for url in urls]},
        json.dumps(urls),
    ]
    shapes += [{"video": {"urls": urls}, "request": "https://e.com/mine.mp4"}, [{"resource": url} for url in urls]]
    for shape in shapes:
        assert urls_in(shape) == found
    assert urls_in(*urls, *urls) == found


# ---- numbers and times


@given(ANYTHING)
def test_an_amount_is_finite_and_bounded_or_nothing(value: Any) -> None:
    found = amount(value)
    assert found is None or (isinstance(found, Decimal) and found.is_finite() and 0 <= found <= MAX_AMOUNT)
    assert found is None or not found.is_signed()
    long = seconds(value)
    assert long is None or (isinstance(long, float) and 0 <= long <= 10_000_000)


@given(st.decimals(0, MAX_AMOUNT, places=6))
def test_a_sound_amount_is_read_exactly_as_a_number_or_a_text(number: Decimal) -> None:
    assert amount(str(number)) == amount(f" {number} ") == number
    whole = int(number)
    assert amount(whole) == amount(str(whole)) == whole
    assert amount(float(whole)) == whole


@pytest.mark.parametrize("value", [5.04, 0.1, 8.52, 1e-7, 123456.789])
def test_a_float_is_the_amount_that_it_shows(value: float) -> None:
    assert amount(value) == Decimal(repr(value))


@given(st.integers(max_value=-1) | st.integers(min_value=int(MAX_AMOUNT) + 1) | st.floats(max_value=-1e-300))
def test_what_is_below_nothing_or_absurd_is_no_amount(value: float) -> None:
    assert amount(value) is None
    assert amount(str(value)) is None


@given(ANYTHING)
def test_a_share_is_between_nothing_and_all_of_it(value: Any) -> None:
    found = share(value)
    assert found is None or (isinstance(found, float) and 0.0 <= found <= 1.0)


@given(st.integers(0, 100))
def test_a_share_is_the_same_in_every_spelling(percent: int) -> None:
    said = {
        share(each) for each in (percent, float(percent), str(percent), f"{percent}%", f"{percent} %", f" {percent}% ")
    }
    assert said == {percent / 100}


@given(ANYTHING)
def test_a_moment_is_aware_and_after_the_epoch_or_nothing(value: Any) -> None:
    found = moment(value)
    if found is not None:
        assert found.utcoffset() == timedelta(0)
        assert found > datetime(1970, 1, 1, tzinfo=UTC)
        assert datetime.fromisoformat(found.isoformat()) == found


@given(st.datetimes(datetime(1971, 1, 2), datetime(9999, 12, 30)), st.integers(-23, 23))
def test_a_moment_is_the_same_in_every_form(time: datetime, hours: int) -> None:
    known = time.replace(microsecond=0, tzinfo=UTC)
    local = known.astimezone(datetime.strptime(f"{hours:+03}00", "%z").tzinfo)
    assert moment(known.isoformat()) == moment(local.isoformat()) == known
    assert moment(known.replace(tzinfo=None).isoformat()) == moment(f"{known:%Y-%m-%dT%H:%M:%S}Z") == known
    stamp = int(known.timestamp())
    if stamp <= 100_000_000_000:
        assert moment(stamp) == moment(str(stamp)) == moment(float(stamp)) == known
    if stamp * 1000 > 100_000_000_000:
        assert moment(stamp * 1000) == moment(f"{stamp * 1000}") == known


# ---- what is kept


@settings(max_examples=50)
@given(st.dictionaries(NAMES | st.text(max_size=9), ANYTHING, max_size=6))
def test_an_answer_of_a_sane_size_is_kept_as_it_is_once_the_job_is_over(data: dict[str, Any]) -> None:
    assert kept(Status.SUCCEEDED, data) is data
    assert kept(Status.FAILED, data) is data
    assert kept(Status.IN_PROGRESS, data) == {}


@pytest.mark.parametrize(
    "large",
    [
        "x" * 1_000_000,
        ["https://e.com/a.mp4"] * 30_000,
        [[]] * 300_000,
        {str(number): number for number in range(50_000)},
        {"x" * 900_000: 1},
        [{"a": [{"b": "y" * 70_000}]}],
    ],
    ids=["text", "urls", "lists", "members", "name", "deep"],
)
def test_of_an_answer_of_any_size_the_sane_parts_are_kept_and_the_others_named(large: Any) -> None:
    data = {"task_id": "n75", "response": large, "status": "SUCCESS", "request": {"prompt": "x"}}
    found = kept(Status.SUCCEEDED, data)
    assert found == {**data, "response": TOO_LARGE}
    assert data["response"] is large


def test_an_answer_of_very_many_parts_is_kept_as_far_as_it_goes() -> None:
    data = {str(number): "x" for number in range(100_000)}
    found = kept(Status.SUCCEEDED, data)
    assert 100 < len(found) < MAX_KEPT / 64
    assert found.items() <= data.items()


def test_a_name_that_is_too_large_is_not_kept() -> None:
    assert kept(Status.FAILED, {"x" * 100_000: 1, "status": "FAILED"}) == {"status": "FAILED"}
