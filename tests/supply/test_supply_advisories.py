"""No floor, no pin and no installed package is older than the version that mended its known faults. Offline."""

import re
from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version
from supply_files import PROJECT, advisories, asked, floor_of, pinned, version_of

KNOWN = advisories()
NEEDED = {canonicalize_name(each.name): each for each in asked(*PROJECT["project"]["optional-dependencies"])}


def faults(versions):
    """Return the faults that packages in these versions have."""
    return [(each.package, str(versions[each.package]), each.id) for each in KNOWN if has(versions, each)]


def has(versions, advisory):
    return advisory.package in versions and versions[advisory.package] < advisory.fixed


def installed():
    """Return the installed version of each package that has ever had a fault."""
    found = {}
    for name in {each.package for each in KNOWN}:
        try:
            found[name] = Version(version(name))
        except PackageNotFoundError:  # the library alone needs few of them
            continue
    return found


def test_the_list_is_plain_sorted_and_about_packages_that_are_used():
    assert len({(each.package, each.id) for each in KNOWN}) == len(KNOWN)
    assert [each.package for each in KNOWN] == sorted(each.package for each in KNOWN)
    assert {each.package for each in KNOWN} <= set(pinned())
    for each in KNOWN:
        assert re.fullmatch(r"(CVE|PYSEC)-\d{4}-\d{2,}|GHSA(-[0-9a-z]{4}){3}", each.id), each.id


def test_no_floor_lets_a_version_with_a_known_fault_in():
    assert faults({name: floor_of(requirement) for name, requirement in NEEDED.items()}) == []


def test_no_pin_has_a_known_fault():
    assert faults({name: version_of(requirement) for name, (requirement, _) in pinned().items()}) == []


def test_nothing_that_is_installed_has_a_known_fault():
    found = installed()
    assert {"aiohttp", "idna"} <= set(found)
    assert faults(found) == []


@pytest.mark.parametrize(
    ("package", "old", "id_"),
    [("aiohttp", "3.14.3", "PYSEC-2026-4371"), ("idna", "3.14", "CVE-2026-45409"), ("click", "8.3.2", "CVE-2026-7246")],
)
def test_a_version_before_the_one_that_mended_it_is_found(package, old, id_):
    assert (package, old, id_) in faults({package: Version(old)})


def test_a_line_that_is_no_advisory_is_noticed():
    for line in ("aiohttp 3.14.4", "aiohttp three CVE-1", "aiohttp 3.14.4 CVE-1 more"):
        with pytest.raises(ValueError):
            advisories(line)
