"""`kling fetch`: jobs that were submitted earlier are waited for, and their videos downloaded."""

from collections.abc import Mapping
from typing import Any

import click

from kling_async.cli.commands import directory_of, look_of, made_directory, ready
from kling_async.cli.drive import Order, drive
from kling_async.cli.reading import Named
from kling_async.cli.setup import Setup
from kling_async.cli.words import count, one_line
from kling_async.wire import is_task_id


def fetch_tasks(given: Mapping[str, Any]) -> int:
    """Follow every task to its end; an id that comes twice is one task."""
    output = directory_of(given)
    ids = tuple(dict.fromkeys(given["task_ids"]))
    for task_id in ids:
        if not is_task_id(task_id):
            raise click.BadParameter(f"{one_line(repr(task_id), 80)} cannot be a task id.", param_hint="'TASK_ID...'")
    names = ("gateway", "api_key_file", "base_url", "rate", "poll_min", "poll_max", "poll_first", "timeout")
    # They run at the gateway already, so none of them waits for a place.
    facts: dict[str, Any] = {name: given[name] for name in (*names, "allow_private_host")}
    setup = Setup(**facts, concurrency=None)
    session = ready(setup)
    directory = None if given["no_download"] else made_directory(output)
    where = f" to {output}" if directory is not None else ""
    title = one_line(f"{setup.name}   {count(len(ids), 'task')}{where}")
    jobs = [Named(number, task_id) for number, task_id in enumerate(ids, 1)]
    look = look_of(given)
    return drive(Order(jobs=jobs, setup=setup, look=look, title=title, directory=directory, session=session))
