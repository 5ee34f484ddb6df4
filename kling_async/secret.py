"""A secret that can be sent and cannot be shown."""

import hmac
import re
from collections.abc import Callable
from typing import Any, NoReturn

from kling_async.errors import ConfigurationError

_SOUND = re.compile(r"[\x21-\x7e]{1,4096}")


class Secret:
    """An API key. Its repr, str and format are `Secret(***)`; it does not pickle; `reveal()` returns the text.

    Raises:
        ConfigurationError: for an empty key, or one with blanks, line breaks, control or non-ASCII characters,
            which could not be sent in a header. The message does not hold the key.
    """

    __slots__ = ("_told",)  # a function: what walks over attributes, like `rich.inspect`, meets no text

    def __init__(self, text: "str | Secret") -> None:
        plain = text.reveal() if isinstance(text, Secret) else text
        if not isinstance(plain, str) or not _SOUND.fullmatch(plain):
            text = plain = ""  # so that no traceback with locals shows it
            raise ConfigurationError(
                "the API key is empty, or holds a blank, a line break or a character that is not ASCII",
                field="api_key",
                stage="validate",
            )
        self._told: Callable[[], str] = lambda: plain

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._told()

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash((Secret, self.reveal()))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: Any) -> "Secret":
        return self
