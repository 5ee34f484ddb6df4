"""`kling demo`: a dozen simulated clips, so that everything can be seen before a key exists."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kling_async.batch.keys import slug
from kling_async.cli.commands import look_of, made_directory
from kling_async.cli.drive import Order, drive
from kling_async.cli.output import talk
from kling_async.cli.reading import Job
from kling_async.cli.setup import Setup
from kling_async.requests import TextToVideo

PROMPTS = (
    "A paper boat in the rain",
    "A lighthouse in a winter storm",
    "Steam over a cup of green tea",
    "A night train on a high viaduct",
    "A paper crane that folds itself",
    "Jellyfish in a shaft of light",
    "A robot that waters seedlings",
    "A kayak along a blue glacier",
    "Sparks above a campfire",
    "A snowy owl turns its head",
    "Hot-air balloons at dawn",
    "A tiny storm in a glass jar",
)


def run_demo(given: Mapping[str, Any]) -> int:
    """Make the clips in the sandbox."""
    name = given["directory"]
    if name is not None and not name.strip():
        raise click.BadParameter("names no directory.", param_hint="'DIRECTORY'")
    directory = made_directory(name) if name else Path(tempfile.mkdtemp(prefix="kling-demo-"))
    setup = Setup(
        gateway=given["gateway"], sandbox=True, speed=given["sandbox_speed"], seed=given["sandbox_seed"], concurrency=6
    )
    jobs = [Job(row, f"{row:03}-{slug(prompt)}", TextToVideo(prompt)) for row, prompt in enumerate(PROMPTS, 1)]
    title = f"{setup.name} (sandbox)   {len(jobs)} simulated clips"
    look = look_of(given)
    code = drive(Order(jobs=jobs, setup=setup, look=look, title=title, directory=directory))
    if not look.quiet:
        talk(f"The clips are in {directory}; nothing was paid. With a key:  kling run FILE --gateway {setup.name}")
    return code
