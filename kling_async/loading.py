"""Code that is loaded when it is first needed: where that fails, it is told as an error of ours."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from kling_async.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")


def loads(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function that does nothing but load `what`, which then raises `ConfigurationError` if it cannot.

    There may be no file left to open, and a plug-in may be broken.
    """

    def decorate(load: Callable[P, T]) -> Callable[P, T]:
        @wraps(load)
        def loaded(*given: P.args, **named: P.kwargs) -> T:
            try:
                return load(*given, **named)
            except Exception as error:  # noqa: BLE001 - of a plug-in, whatever it is
                failure = ConfigurationError(f"{what} cannot be loaded: {type(error).__name__}: {error}", code="import")
            raise failure

        return loaded

    return decorate
