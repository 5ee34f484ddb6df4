"""The flags that commands share, and the values they take. Nothing but click is imported."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A time span: "90", "90s", "15m", "1h"; "none" where that is allowed."""

    name = "time"

    def __init__(self, *, optional: bool = False) -> None:
        self.optional = optional

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Return seconds, or None for "none"."""
        if not isinstance(value, str):
            return float(value)
        if self.optional and value.lower() == "none":
            return None
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|min|h|)", value.strip().lower(), re.ASCII)
        if not match:
            self.fail(f"{value[:60]!r} is not a time like 90, 15m or 1h", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


class Slots(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A whole number above 0, "auto" or "none"."""

    name = "n|auto|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str | None:
        """Return what `KlingSession` takes as `concurrency`."""
        text = str(value).lower()
        if text in ("auto", "none"):
            return None if text == "none" else "auto"
        if not re.fullmatch(r"[1-9]\d{0,5}", text, re.ASCII):
            self.fail(f"{str(value)[:60]!r} is not a whole number from 1, 'auto' or 'none'", param, ctx)
        return int(text)


class Rates(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A rate like 10/s, several with commas between, "auto" or "none"."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what `KlingSession` takes as `rate`; it is checked there."""
        text = str(value).strip()
        if text.lower() == "none":
            return None
        return text if "," not in text else [part.strip() for part in text.split(",")]


class Amount(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """An amount of credits, kept as text; "none" where that is allowed."""

    name = "amount"

    def __init__(self, *, optional: bool = False) -> None:
        self.optional = optional

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the amount as text."""
        text = str(value).strip().replace(",", "").replace("_", "")
        if self.optional and text.lower() == "none":
            return "none"
        if not re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text, re.ASCII):
            self.fail(f"{str(value)[:60]!r} is not an amount of credits like 1600 or 0.5", param, ctx)
        return text


class Share(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A share like 98%."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share as a number from 0 to 1."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)%", str(value).strip(), re.ASCII)
        if not match or float(match[1]) > 100:
            self.fail(f"{str(value)[:60]!r} is not a share like 98%", param, ctx)
        return float(match[1]) / 100


class Deadline(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A time span like 8h, or a time of day like 07:00; kept as seconds from now."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds from now."""
        match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", str(value).strip(), re.ASCII)
        if not match:
            span = Seconds().convert(value, param, ctx)
            if not span:
                self.fail(f"{str(value)[:60]!r} is no time from now", param, ctx)
            return span
        from datetime import datetime, timedelta

        now = datetime.now().astimezone()
        then = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
        return ((then if then > now else then + timedelta(days=1)) - now).total_seconds()


def failures_text(_: Any, __: Any, value: str | None) -> str | None:
    """Check what `--max-failures` says. Raises `click.BadParameter`."""
    text = (value or "").strip()
    if value is None or re.fullmatch(r"[1-9]\d{0,8}|(100|\d{1,2})(\.\d{1,6})?%", text, re.ASCII):
        return value
    raise click.BadParameter(f"{value[:60]!r} is not a number like 20 or a share like 5%.")


def _stacked(*options: Callable[[F], F]) -> Callable[[F], F]:
    def applied(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return applied


gateway_option = click.option("--gateway", metavar="NAME", help="Which gateway; else KLING_GATEWAY.")

account_options = _stacked(
    gateway_option,
    click.option("--api-key-file", metavar="FILE", help="Read the key from a file; else from the environment."),
    click.option("--base-url", metavar="URL", help="Another address of the API; else KLING_BASE_URL."),
    click.option(
        "--allow-private-host",
        multiple=True,
        metavar="HOST[:PORT]",
        help="A host that downloads may use though its address is not public. Repeatable.",
    ),
)

look_options = _stacked(
    click.option(
        "--rate",
        type=Rates(),
        default="unset",
        show_default=False,
        metavar="RATE|auto|none",
        help="Most requests per time: 10/s, 30/min, several with commas (default auto: as learned; sandbox 50/s).",
    ),
    click.option("--poll-min", type=Seconds(), help="Never two looks at one job closer (default 1)."),
    click.option("--poll-max", type=Seconds(), help="Never two looks further apart (default 30)."),
    click.option("--poll-first", type=Seconds(), help="First look so long after acceptance (default: judged)."),
    click.option(
        "--timeout",
        type=Seconds(optional=True),
        default="1h",
        show_default=True,
        metavar="TIME|none",
        help="Stop looking at a job after this time: 90, 90s, 15m, 1h.",
    ),
)

pace_options = _stacked(
    click.option(
        "-j",
        "--concurrency",
        type=Slots(),
        default="auto",
        show_default=True,
        metavar="N|auto|none",
        help="Most jobs in flight; auto: as many as the gateway turns out to run.",
    ),
    look_options,
    click.option(
        "--submit-timeout", type=Seconds(), default="90", show_default=True, help="Deadline of the paid request."
    ),
)

sandbox_options = _stacked(
    click.option("--sandbox", is_flag=True, help="Talk to a simulated gateway in this process: no key, no money."),
    click.option(
        "--sandbox-speed",
        type=click.FloatRange(0.01, 100_000),
        default=30,
        show_default=True,
        metavar="X",
        help="How much faster.",
    ),
    click.option("--sandbox-seed", type=int, default=0, show_default=True, help="Everything random follows from it."),
)

screen_options = _stacked(
    click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout instead of paths."),
    click.option(
        "--progress",
        type=click.Choice(["auto", "rich", "plain", "none"]),
        default="auto",
        show_default=True,
        help="What stderr shows; auto: rich on a terminal.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but what failed."),
    click.option("-v", "--verbose", count=True, help="Tell each job's steps; -vv each look at it too."),
    click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True),
)

_no_download = click.option("--no-download", is_flag=True, help="Do not download; stdout then gets the URLs.")

output_options = _stacked(
    click.option("-o", "--output", default="videos", show_default=True, metavar="DIR", help="Where the videos go."),
    _no_download,
)

output_again_options = _stacked(
    click.option("-o", "--output", metavar="DIR", help="Where the videos go (default: where the run put them)."),
    _no_download,
)

store_option = click.option(
    "--store", metavar="PATH", help="The journal, or a directory of journals; else KLING_STORE or the user's own."
)

limit_options = _stacked(
    click.option(
        "--budget", type=Amount(optional=True), metavar="N|none", help="The most that all jobs of the run may cost."
    ),
    click.option("--max-cost-per-job", type=Amount(), metavar="N", help="Leave jobs that cost more."),
    click.option("--deadline", type=Deadline(), metavar="TIME", help="Send nothing new after 8h, or at 07:00."),
    click.option(
        "--max-failures", callback=failures_text, metavar="N|P%", help="Send nothing new after so many failures."
    ),
    click.option("--fail-under", type=Share(), metavar="P%", help="Exit 0 in spite of failures from this share on."),
)

sidecar_option = click.option("--sidecar", is_flag=True, help="Write a JSON file beside each video.")

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask before spending money.")

input_options = _stacked(
    click.option("--format", "kind", type=click.Choice(["csv", "jsonl"]), help="Else by the file's name or content."),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows."),
)
