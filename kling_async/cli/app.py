"""The commands of `kling`: their flags and help. What they do is imported when they run."""

import contextlib
import sys
from typing import Any

import click

from kling_async._version import __version__
from kling_async.cli import journal_app
from kling_async.cli.group import KlingGroup
from kling_async.cli.options import (
    Slots,
    account_options,
    gateway_option,
    input_options,
    limit_options,
    look_options,
    output_again_options,
    output_options,
    pace_options,
    sandbox_options,
    screen_options,
    sidecar_option,
    store_option,
    yes_option,
)

WIDE = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def run(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        kling.main(arguments, prog_name="kling")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except OSError as error:
        from kling_async.cli.group import told_of_stdout

        if not told_of_stdout(error):
            raise
        return 1
    return 0


@click.group(cls=KlingGroup, context_settings=WIDE)
@click.version_option(__version__, prog_name="kling")
def kling() -> None:
    """Make AI videos through Kling gateways: from a file of prompts to files on disk, each paid for once.

    Try it without a key:  kling demo
    """


@kling.command("run")
@click.argument("file", metavar="FILE|-")
@input_options
@click.option("--skip-invalid", is_flag=True, help="Go on with the good rows where some are not valid.")
@click.option("--fresh", is_flag=True, help="Begin anew instead of going on with an earlier run of this file.")
@output_options
@sidecar_option
@limit_options
@store_option
@account_options
@pace_options
@sandbox_options
@screen_options
@yes_option
def run_command(**given: Any) -> None:
    """Make every row of a CSV or JSONL file, and download the videos; the same file again goes on where it stopped.

    Every job is on record before it is sent, so that nothing is lost and nothing paid twice, whatever ends the run.
    Without a terminal to ask on, a run that costs money needs --yes and --budget.

    The whole file is read and checked first; nothing is sent while a row is not valid. Rows that are valid and that
    the chosen gateway does not make are counted first, too; they fail before they are sent, and the others go on.
    """
    from kling_async.cli.commands import run_file

    sys.exit(run_file(given))


@kling.command("resume")
@click.argument("run", metavar="[RUN]", required=False)
@output_again_options
@sidecar_option
@limit_options
@store_option
@account_options
@pace_options
@screen_options
@yes_option
def resume_command(**given: Any) -> None:
    """Go on with a run: follow what the gateway has, send what is planned, download what is made.

    RUN is a run's name, the beginning of one, or a journal; left out, the latest. Flags of the first run hold.
    """
    from kling_async.cli.resume import resume_run

    sys.exit(resume_run(given))


@kling.command("retry")
@click.argument("run", metavar="[RUN]", required=False)
@click.option("--only", multiple=True, metavar="KIND,…", help="Only these: an error's name or code, rejected, failed.")
@click.option("--in-doubt", is_flag=True, help="Also jobs in doubt. They may then be paid for twice.")
@output_again_options
@sidecar_option
@limit_options
@store_option
@account_options
@pace_options
@screen_options
@yes_option
def retry_command(**given: Any) -> None:
    """Make a new attempt for jobs that failed, and go on with the run."""
    from kling_async.cli.resume import retry_run

    sys.exit(retry_run(given))


@kling.command("reconcile")
@click.argument("run", metavar="[RUN]", required=False)
@store_option
@account_options
@pace_options
@screen_options
def reconcile_command(**given: Any) -> None:
    """Find out what became of jobs in doubt, where the gateway can tell."""
    from kling_async.cli.resume import reconcile_run

    sys.exit(reconcile_run(given))


@kling.command("plan")
@click.argument("file", metavar="FILE|-")
@input_options
@click.option("-o", "--output", default="videos", show_default=True, metavar="DIR", help="Where the videos would go.")
@click.option("-j", "--concurrency", type=Slots(), default="auto", show_default=True, metavar="N|auto|none")
@store_option
@gateway_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def plan_command(**given: Any) -> None:
    """Check and price a file without sending anything. Needs no key."""
    from kling_async.cli.plan import plan_file

    sys.exit(plan_file(given))


@kling.command("make")
@click.argument("prompt")
@click.option("--image", metavar="URL|FILE", help="First frame; a file is uploaded where the gateway takes uploads.")
@click.option("--end-image", metavar="URL|FILE", help="Last frame.")
@click.option("--video", metavar="URL", help="A video to edit, or with --reference to be guided by.")
@click.option("--reference", multiple=True, metavar="URL|FILE", help="A reference picture. Repeatable.")
@click.option("--duration", type=int, metavar="SECONDS", help="Length of the clip (default 5).")
@click.option("--aspect-ratio", metavar="RATIO", help="16:9 (default), 9:16 or 1:1.")
@click.option("--quality", metavar="QUALITY", help="std (default), pro or 4k.")
@click.option("--model", metavar="MODEL", help="Default: what the kind of request implies.")
@click.option("--sound", is_flag=True, help="With sound.")
@click.option("-o", "--output", metavar="FILE|DIR", help="Default: named after the prompt, in this directory.")
@account_options
@pace_options
@sandbox_options
@screen_options
@yes_option
def make_command(**given: Any) -> None:
    """Make one clip:  kling make "a red fox" --image https://example.com/fox.png -o fox.mp4"""
    from kling_async.cli.make import make_clip

    sys.exit(make_clip(given))


@kling.command("fetch")
@click.argument("task_ids", metavar="TASK_ID...", nargs=-1, required=True)
@output_options
@account_options
@look_options
@screen_options
def fetch_command(**given: Any) -> None:
    """Wait for jobs that were submitted earlier, and download their videos. Nothing is sent or paid again."""
    from kling_async.cli.fetch import fetch_tasks

    sys.exit(fetch_tasks(given))


@kling.command("gateways")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def gateways_command(as_json: bool) -> None:
    """List the gateways, what they make, and whether a key is found for them."""
    from kling_async.cli.gateways import list_gateways

    sys.exit(list_gateways(as_json=as_json))


@kling.command("sandbox")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
@click.option("--speed", type=click.FloatRange(0.01, 100_000), default=1.0, show_default=True, help="How much faster.")
@click.option("--seed", type=int, help="Everything random follows from it, task ids too (default: another each time).")
@click.option("--balance", type=click.FloatRange(min=0), help="Credits in the account (default: endless).")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Calls a second (default: no limit).")
@click.option("--max-running", type=click.IntRange(min=1), help="Jobs that may run at once (default: no limit).")
@click.option("--daily-quota", type=click.IntRange(min=1), help="klinggenerator: submits a day (default: no limit).")
def sandbox_command(**given: Any) -> None:
    """Serve a simulated gateway on this machine until Ctrl-C."""
    from kling_async.cli.sandboxing import serve_sandbox

    sys.exit(serve_sandbox(given))


@kling.command("demo")
@click.argument("directory", required=False)
@click.option("--gateway", metavar="NAME", help="For which gateway the sandbox stands in.")
@click.option(
    "--sandbox-speed",
    type=click.FloatRange(0.01, 100_000),
    default=30.0,
    show_default="30",
    metavar="X",
    help="How much faster than a real gateway.",
)
@click.option("--sandbox-seed", type=int, default=0, show_default=True, help="Everything random follows from it.")
@screen_options
def demo_command(**given: Any) -> None:
    """Make a dozen simulated clips: no key, no money, real files."""
    from kling_async.cli.demo import run_demo

    sys.exit(run_demo(given))


journal_app.add_to(kling)
