"""`kling gateways`: which gateways there are, what they make, and whether a key for them is found."""

from typing import Any

from kling_async.cli.codes import DONE
from kling_async.cli.commands import print_json, print_lines
from kling_async.cli.keys import found_key, key_problem
from kling_async.cli.words import columns, one_line
from kling_async.gateways.registry import gateway_factory, gateway_names
from kling_async.secret import Secret


def list_gateways(*, as_json: bool) -> int:
    """Print the table."""
    found = [_facts(name) for name in gateway_names()]
    if as_json:
        print_json({"v": 1, "gateways": found})
        return DONE
    cells = [("gateway", "makes", "prices of", "key")]
    cells += [
        (each["name"], ", ".join(each["kinds"]) or "-", each["prices_as_of"] or "-", _key_words(each)) for each in found
    ]
    print_lines(columns(cells))
    return DONE


def _facts(name: str) -> dict[str, Any]:
    variable, sound = _key(name)
    facts: dict[str, Any] = {"name": one_line(name, 60), "kinds": [], "prices_as_of": None}
    try:
        gateway = gateway_factory(name)(Secret("list"))
    except Exception as error:  # noqa: BLE001 - a plug-in of somebody else's
        return {**facts, "key": variable, "key_sound": sound, "problem": one_line(error)}
    prices = gateway.prices_as_of
    facts |= {"kinds": list(gateway.kinds), "prices_as_of": prices.isoformat() if prices else None}
    return {**facts, "base_url": gateway.base_url, "key": variable, "key_sound": sound}


def _key(name: str) -> tuple[str | None, bool]:
    """Return the environment variable that holds the gateway's key, if one does, and whether it can be a key."""
    found = found_key(name)
    return (found[0], not key_problem(found[1])) if found else (None, False)


def _key_words(facts: dict[str, Any]) -> str:
    if facts["key"] is None:
        return "none found"
    return f"in {facts['key']}" if facts["key_sound"] else f"in {facts['key']}, but it cannot be a key"
