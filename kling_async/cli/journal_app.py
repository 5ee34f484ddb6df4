"""The commands of `kling` that read journals: their flags and help. What they do is imported when they run."""

import click


def add_to(group: click.Group) -> None:
    """Add the commands to the root."""
