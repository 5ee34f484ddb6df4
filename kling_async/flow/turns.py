"""Whose turn it is when requests of several classes wait for one allowance: stride scheduling."""

from collections.abc import Collection

from attrs import define, field

WEIGHTS = {"control": 8, "submit": 4, "look": 1}
"""Shares of the allowance while all wait. An idle slot costs more than a late look, so that submits go first; looks
keep a fifth of what both share, so that results come in while thousands wait to be sent."""


@define
class Turns:
    """Gives each class its share, and nobody more for having been idle.

    Args:
        passes: how far each class has come; the one that is least far goes next, and moves on by one over its weight.
        reached: how far the last one that went had come.
    """

    passes: dict[str, float] = field(factory=lambda: dict.fromkeys(WEIGHTS, 0.0))
    reached: float = 0.0

    def next(self, ready: Collection[str]) -> str:
        """Return which of the classes that could go does, and count it.

        Args:
            ready: at least one of "control", "submit" and "look".
        """
        passes = self.passes
        for name in ready:
            passes[name] = max(passes[name], self.reached)
        chosen = min(ready, key=lambda name: (passes[name], -WEIGHTS[name])) if len(ready) > 1 else next(iter(ready))
        self.reached = passes[chosen]
        passes[chosen] += 1 / WEIGHTS[chosen]
        return chosen
