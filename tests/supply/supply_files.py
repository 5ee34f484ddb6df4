"""The files that say which packages this one needs: floors, pins and known faults, read as plain data."""

import re
import tomllib
from pathlib import Path

from attrs import frozen
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@frozen
class Advisory:
    """A known fault of a package, and the first version without it."""

    package: str
    fixed: Version
    id: str


def advisories(text=None):
    """Read `.ci/advisories.txt`: three words a line, and nothing else but comments."""
    lines = ((ROOT / ".ci" / "advisories.txt").read_text() if text is None else text).splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return [Advisory(package, Version(fixed), name) for package, fixed, name in rows]


def pinned(text=None):
    """Return the pinned packages: their requirement and their hashes, by name, in the order of the file."""
    text = (ROOT / "constraints.txt").read_text() if text is None else text
    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        words, *hashes = re.split(r"\s+--hash=", line.strip())
        requirement = Requirement(words)
        assert requirement.name not in found, f"{requirement.name} is pinned twice"
        found[requirement.name] = (requirement, hashes)
    return found


def version_of(requirement):
    """Return the one version that a requirement allows."""
    (only,) = requirement.specifier
    assert only.operator == "==", requirement
    return Version(only.version)


def asked(*extras):
    """Return what `pyproject.toml` asks for: the library's own needs, and those of extras."""
    project = PROJECT["project"]
    lines = [*project["dependencies"], *(each for name in extras for each in project["optional-dependencies"][name])]
    found = [Requirement(line) for line in lines]
    return [each for each in found if canonicalize_name(each.name) != project["name"]]


def floor_of(requirement):
    """Return the lowest version that a requirement allows."""
    (lowest,) = (each for each in requirement.specifier if each.operator == ">=")
    return Version(lowest.version)
