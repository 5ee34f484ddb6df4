"""Arithmetic of flow: limits, backoff, when to look, what a failed submit means. `now` is always an argument."""
