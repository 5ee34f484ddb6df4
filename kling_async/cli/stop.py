"""`kling stop`: ask the process that drives a run to end it."""

from kling_async.batch.journal import ask_to_stop
from kling_async.cli.codes import DONE
from kling_async.cli.on_record import command, known
from kling_async.cli.output import talk
from kling_async.cli.store import Store
from kling_async.cli.words import one_line

_NEXT = {
    "drain": "It sends nothing new, and waits up to 10 minutes for what the gateway is making.",
    "now": "It ends at once: what the gateway is making stays on record, and what is being sent may be in doubt.",
}


def stop_run(run: str | None, store: str | None, *, now: bool) -> int:
    """Ask, and say what happens next."""
    path = Store(store).find(run)
    name, how = one_line(path.stem, 80), "now" if now else "drain"
    with known(path) as seen:
        driver = seen.driver
    if driver is None:
        talk(f"no process drives {name}; there is nothing to stop")
        return DONE
    ask_to_stop(path, how)
    talk(f"Asked process {driver} to stop {name}. {_NEXT[how]}")
    talk(f"  look     {command('watch', path, store)}")
    talk(f"  go on    {command('resume', path, store)}")
    return DONE
