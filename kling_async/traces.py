"""The traces of a secret: what it looks like where somebody echoes it, plain or in disguise, and how it is masked."""

import re
from base64 import b64encode
from functools import lru_cache
from html.entities import html5
from itertools import accumulate

MASK = "***"
BEGINNING = 8
"""So many first characters of a secret are a trace of it, wherever they stand."""
CUT_OFF = 6
"""And so many at the end of a text, which may have been cut off inside the secret. A shorter secret is none."""

_GAP = r"(?:\s|\\[nrt]){0,4}"
_ESCAPE = r"\\\\{0,7}"
_UNIT = re.compile(r"\\+|.")
_LINE_END = r"(?:\r?\n|(?:\\r)?\\n)?"
_BASE64 = {"+": r"(?:[+\-]|%2[bB])", "/": r"(?:\\?/|_|%2[fF])"}
_MORE_BASE64 = rf"(?:{_LINE_END}(?:[A-Za-z0-9+/_=\-]|%2[bfBF]|%3[dD]|\\/))*"
_MORE = ("[0-9a-fA-F]*", *[_MORE_BASE64] * 3)


class Traces:
    """Finds and masks the traces of one secret in texts.

    It is found in its own letters or in those of the other case, escaped for JSON, HTML or a URL, with line breaks and
    blanks in between, as hexadecimal digits, and in Base64, also as a part of something longer. Where only its
    beginning is echoed, that is masked as far as it goes. A secret of fewer than 8 characters is found whole only,
    and one of fewer than 6 not at all: nobody has such a key, and it may be a part of any word.
    """

    __slots__ = ("_hint", "_others", "_rest", "_start", "_whole")

    def __init__(self, secret: str) -> None:
        units = _UNIT.findall(secret)
        begun, cut = _within(units, BEGINNING), _within(units, CUT_OFF)
        first = _GAP.join(map(_spelled, units[:cut]))
        others = []
        if len(secret) >= BEGINNING:
            ways = _disguises(secret[:BEGINNING].encode())
            others.append("|".join(way + more for way, more in zip(ways, _MORE, strict=True)))
        # Every trace begins with one of these; most texts hold none, and need no other look.
        self._hint = re.compile("|".join([first, *others]))
        if len(secret) > CUT_OFF:
            more = "".join(f"(?:{_GAP}{_spelled(unit)})?" for unit in units[cut:begun])
            others.append(rf"{first}{more}(?=…?\Z)")
        self._start = re.compile(_GAP.join(map(_spelled, units[:begun])))
        self._rest = tuple(units[begun:])
        self._others = tuple(map(re.compile, others))
        self._whole = re.compile("|".join([re.escape(secret), *_disguises(secret.encode())]), re.IGNORECASE)

    def found_in(self, text: str) -> bool:
        """Tell whether `masked` would change a text."""
        if self._hint.search(text) is None:
            return False
        return any(pattern.search(text) for pattern in (self._start, *self._others))

    def whole_in(self, text: str) -> bool:
        """Tell whether a text holds the whole secret: plain, in Base64 or as hexadecimal digits, on one line."""
        return self._whole.search(text) is not None

    def masked(self, text: str) -> str:
        """Return a text with every trace in it replaced by `***`."""
        if not self.found_in(text):
            return text
        pieces, done = [], 0
        while found := self._start.search(text, done):
            pieces += [text[done : found.start()], MASK]
            done = self._end_of(text, found.end())
        clean = "".join((*pieces, text[done:]))
        for pattern in self._others:
            clean = pattern.sub(MASK, clean)
        return clean

    def _end_of(self, text: str, end: int) -> int:
        """Return where a trace ends whose beginning ends at `end`."""
        ends = {end}  # "%25" may be "%" in disguise, or "%" before "25"
        for unit in self._rest:
            reached = {found.end() for at in ends for way in _next(unit) if (found := way.match(text, at))}
            if not reached:
                break
            ends = reached
        return max(ends)


_QUERY = re.compile(r"(https?:[^\s?\"'<>]{1,8192})\?[^\s\"'<>]*")


def unsigned(text: str) -> str:
    """Return a text with the query of every URL in it masked: whoever has that of a signed URL has the file."""
    return _QUERY.sub(rf"\1?{MASK}", text)


@lru_cache(maxsize=16)
def traces_of(secret: str) -> Traces:
    """Return the traces of a secret of at least one character."""
    return Traces(secret)


@lru_cache(maxsize=512)
def _next(unit: str) -> tuple[re.Pattern[str], ...]:
    """Return patterns of which one matches a unit as far as it goes, if any of its spellings stands there."""
    ways = [re.escape(unit), _spelled(unit, plain_last=True)]
    if unit == "%":
        ways += ["%" + "25" * times for times in range(1, 5)]
    return tuple(re.compile(_GAP + way) for way in ways)


def _within(units: list[str], length: int) -> int:
    """Return how many units lie within so many characters, at least one."""
    ends = list(accumulate(map(len, units)))
    return max(1, sum(end <= length for end in ends))


def _spelled(unit: str, *, plain_last: bool = False) -> str:
    """Return a pattern of all the ways to write one character, or several backslashes in a row.

    Each way begins with a plain character where it can: `re` then skips what begins otherwise quickly, as it does not
    where case is ignored. No repetition is without a bound, which a hostile text could make slow.
    """
    char, times = unit[0], len(unit)
    code = _either_case(f"{ord(char):02x}")
    ways = [rf"%(?:25){{0,4}}{code}", rf"{_ESCAPE}u00{code}", rf"{_ESCAPE}x{code}"]
    ways.append(rf"&(?:amp;){{0,2}}(?:#0{{0,8}}{ord(char)}|#[xX]0{{0,8}}{code}|{'|'.join(_named(char))});?")
    if char == "\\":
        return rf"(?:(?:{'|'.join(ways)}){{{times}}}|\\{{{times},{8 * times}}})"
    if not char.isalnum():
        ways.append(rf"{_ESCAPE}{re.escape(char)}")
    plain = [*dict.fromkeys(map(re.escape, (char, char.swapcase())))]
    return f"(?:{'|'.join([*ways, *plain] if plain_last else [*plain, *ways])})"


def _named(char: str) -> list[str]:
    """Return the names that HTML has for a character, without `&` and `;`."""
    return [name.removesuffix(";") for name, value in html5.items() if value == char and name.endswith(";")] or ["#-"]


def _either_case(digits: str) -> str:
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)


def _disguises(secret: bytes) -> list[str]:
    """Return patterns for these bytes as hexadecimal digits, and in Base64 wherever in a group of three they begin."""
    ways = [_either_case(secret.hex())]
    for before in range(3):
        text = b64encode(b"\0" * before + secret).decode()
        sure = text[(before * 8 + 5) // 6 : (before + len(secret)) * 8 // 6]
        ways.append(_LINE_END.join(_BASE64.get(char, char) for char in sure))
    return ways
