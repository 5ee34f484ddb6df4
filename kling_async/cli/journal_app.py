"""The commands of `kling` that read journals: their flags and help. What they do is imported when they run."""

import sys
from typing import Any

import click

from kling_async.cli.options import store_option

_run = click.argument("run", metavar="[RUN]", required=False)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@click.command("runs")
@store_option
@_json
def runs_command(**given: Any) -> None:
    """List the runs on record, the one that changed last first."""
    from kling_async.cli.runs import list_runs

    sys.exit(list_runs(**given))


@click.command("status")
@_run
@store_option
@_json
def status_command(**given: Any) -> None:
    """Say where a run stands, what went wrong, and which command goes on.

    RUN is a name, the unique beginning of one, or a journal's path; the latest if left out.
    """
    from kling_async.cli.status import show_status

    sys.exit(show_status(**given))


@click.command("watch")
@_run
@store_option
@click.option("--json", "as_json", is_flag=True, help="One JSON event a line on stdout.")
def watch_command(**given: Any) -> None:
    """Follow a run that another process drives, until none does. Ctrl-C leaves the run alone."""
    from kling_async.cli.watch import watch_run

    sys.exit(watch_run(**given))


@click.command("stop")
@_run
@store_option
@click.option("--now", is_flag=True, help="Do not wait for what the gateway is making.")
def stop_command(**given: Any) -> None:
    """Ask the process that drives a run to stop. Nothing is lost; `kling resume` goes on."""
    from kling_async.cli.stop import stop_run

    sys.exit(stop_run(**given))


@click.command("export")
@_run
@store_option
@click.option("-o", "--output", metavar="FILE", help="Write a file, whole or not at all; else stdout.")
@click.option("--format", "kind", type=click.Choice(["jsonl", "csv"]), help="Default: jsonl, or csv for FILE.csv.")
@click.option("--force", is_flag=True, help="Replace FILE.")
def export_command(**given: Any) -> None:
    """Write every job of a run, in order, as JSON lines or CSV.

    The columns: key, status, task_id, url, file, credits, charged, error, code, message, row. The URLs are signed
    ones: who has them has the videos.
    """
    from kling_async.cli.export import export_run

    sys.exit(export_run(**given))


@click.command("spend")
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option(
    "--by", type=click.Choice(["day", "model", "gateway", "run"]), default="day", show_default=True, help="The groups."
)
@store_option
@click.option("--sandbox", is_flag=True, help="Count runs of the sandbox, too.")
@_json
def spend_command(**given: Any) -> None:
    """Say what runs cost: all of the store, or those named.

    Days are those on which jobs ended, in UTC.
    """
    from kling_async.cli.spend import show_spend

    sys.exit(show_spend(**given))


def add_to(group: click.Group) -> None:
    """Add the commands to the root."""
    for command in (runs_command, status_command, watch_command, stop_command, export_command, spend_command):
        group.add_command(command)
