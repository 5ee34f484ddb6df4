"""What is asked for, and what is installed where the tests run: floors without ceilings, and pins by hash alone."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from supply_files import PROJECT, ROOT, asked, floor_of, pinned, version_of


def check_pin(requirement, hashes):
    assert requirement.name == canonicalize_name(requirement.name)
    assert version_of(requirement)
    assert requirement.url is None
    assert not requirement.extras
    assert hashes, f"{requirement.name} has no hash"
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement.name
    assert len(set(hashes)) == len(hashes), requirement.name


def test_every_pin_is_one_version_with_hashes_and_names_no_place():
    pins = pinned()
    assert len(pins) > 30
    for requirement, hashes in pins.values():
        check_pin(requirement, hashes)
    assert list(pins) == sorted(pins)


def test_the_pins_hold_no_option_no_host_and_no_directory():
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    for line in text.splitlines():
        assert re.fullmatch(r"#.*|[a-z0-9.-]+==\S+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), line


@pytest.mark.parametrize(
    "line",
    [
        "aiohttp==3.14.5",
        "aiohttp>=3.14.5 --hash=sha256:" + "0" * 64,
        "aiohttp @ https://example.com/aiohttp.whl --hash=sha256:" + "0" * 64,
        "aiohttp==3.14.5 --hash=md5:" + "0" * 32,
    ],
)
def test_a_pin_that_is_none_is_noticed(line):
    (each,) = pinned(line).values()
    with pytest.raises((AssertionError, ValueError)):
        check_pin(*each)


@pytest.mark.parametrize("line", ["-e .", "--index-url https://example.com/simple", "./here", "git+https://x/y"])
def test_a_line_that_is_no_pin_is_noticed(line):
    with pytest.raises(ValueError):
        pinned(line)


def test_everything_that_is_asked_for_is_pinned_within_what_is_asked():
    pins = pinned()
    needed = asked("cli", "dev")
    build = PROJECT["build-system"]["requires"]
    for requirement in (*needed, *map(Requirement, build)):
        pin, _ = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version_of(pin)), requirement


def test_everything_that_is_asked_for_has_a_floor_and_no_ceiling():
    for requirement in asked(*PROJECT["project"]["optional-dependencies"]):
        assert [each.operator for each in requirement.specifier] == [">="], requirement
        assert requirement.url is None


def test_the_floor_of_aiohttp_leaves_out_every_version_with_a_known_fault():
    (aiohttp,) = (each for each in asked() if each.name == "aiohttp")
    assert floor_of(aiohttp) >= Version("3.14.3")


def test_the_environment_of_the_tests_is_made_of_the_pins_and_of_this_checkout_alone():
    setup = (ROOT / ".ci" / "setup").read_text().replace("\\\n", " ")
    installs = [line for line in setup.splitlines() if " install " in line]
    assert len(installs) == 2
    assert re.search(r"--require-hashes\s+--requirement constraints\.txt", installs[0])
    assert re.search(r"--no-deps --no-build-isolation --editable \.$", installs[1])
    assert "http" not in setup
    assert not re.search(r"index-url|find-links|trusted-host", setup)
