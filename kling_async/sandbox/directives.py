"""Faults written into a prompt: `[sandbox: fail]` and its like, for demo files and for any dialect."""

import re
from collections.abc import Callable
from functools import lru_cache

from kling_async.sandbox import faults
from kling_async.sandbox.faults import Action, Answer

_DIRECTIVE = re.compile(r"\[sandbox:\s*([^\]]*)\]", re.IGNORECASE)
_PLAIN: dict[str, Callable[[], Action]] = {
    "fail": faults.fail,
    "no_url": faults.no_url,
    "html": faults.html,
    "empty": faults.empty,
    "expired_link": faults.expired_link,
    "reject": lambda: faults.http(400, code="INVALID_PROMPT"),
    "drop_before_accept": faults.drop_before_accept,
    "drop_after_accept": faults.drop_after_accept,
    "reset_after_accept": faults.reset_after_accept,
    "half_body": faults.half_body,
    "hang_after_accept": faults.hang_after_accept,
    "garbage": faults.garbage,
    "stuck": faults.stuck,
    "truncated_mp4": faults.truncated_mp4,
    "not_a_video": faults.not_a_video,
}
_WITH_NUMBER: dict[str, Callable[[int], Action]] = {
    "html": faults.html,
    "empty": faults.empty,
    "accepted_then": faults.accepted_then,
    "expired_link": faults.expired_link,
    "no_url": faults.no_url,
}
_WITH_TEXT: dict[str, Callable[[str], Action]] = {
    "fail": faults.fail,
    "reject": lambda code: faults.http(400, code=code),
}
_WITH_SECONDS: dict[str, Callable[[float], Action]] = {"slow": faults.slow, "ends_after": faults.ends_after}
ALWAYS = ("reject", "slow")
"""Of the directives that spoil the answer to a submit, those that apply each time; the others once for each prompt."""


@lru_cache(maxsize=4096)
def directives(prompt: str) -> tuple[tuple[str, Action], ...]:
    """The actions that a prompt asks for, by name. Raises `ValueError` for one that does not exist."""
    found = []
    for text in _DIRECTIVE.findall(prompt):
        words = text.strip().split(maxsplit=1)
        name = words[0].lower().replace("-", "_") if words else ""
        try:
            action = _action(name, words[1].strip() if len(words) > 1 else "")
        except (TypeError, ValueError):
            action = None
        if action is None:
            raise ValueError(f"[sandbox: {text}] is no directive of the sandbox")
        found.append((name, action))
    return tuple(found)


def once(name: str, action: Action) -> bool:
    """Whether a directive applies to the first submit of its prompt only, so that the job can go on afterwards."""
    return isinstance(action, Answer) and name not in ALWAYS


def _action(name: str, argument: str) -> Action | None:
    if len(name) == 3 and name.isdigit() and 400 <= int(name) <= 599:
        return faults.http(int(name), retry_after=argument or None)
    if not argument:
        return _PLAIN[name]() if name in _PLAIN else None
    if name in _WITH_TEXT:
        return _WITH_TEXT[name](argument)
    if name in _WITH_SECONDS:
        return _WITH_SECONDS[name](float(argument))
    return _WITH_NUMBER[name](int(argument)) if name in _WITH_NUMBER else None
