"""What users install: the package and nothing else, the same bytes each time it is built. Built offline."""

import base64
import csv
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from supply_files import ROOT

EPOCH = "1767225600"
DATA = {"kling_async/py.typed", "kling_async/sandbox/data/clips.bin"}
PARTS = ("kling_async", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", ".gitignore")


def built(source, place, epoch=EPOCH, umask=0o022):
    """Build the wheel from a directory."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hatchling", "build", "--target", "wheel", "--directory", str(place)],
        cwd=source,
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch},
        umask=umask,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = place.glob("*.whl")
    return wheel


def copied(source, place):
    """Copy what a wheel is built from, and what must not get into it."""
    place.mkdir()
    for name in PARTS:
        part = source / name
        if part.is_dir():
            shutil.copytree(part, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(part, place / name)
    return place


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The repository as it is now, with things in it that are nobody's to install."""
    place = copied(ROOT, tmp_path_factory.mktemp("source") / "here")
    (place / "kling_async" / "__pycache__").mkdir()
    (place / "kling_async" / "__pycache__" / "wire.cpython-311.pyc").write_bytes(b"x")
    (place / "kling_async" / ".hypothesis").mkdir(exist_ok=True)
    (place / "kling_async" / ".hypothesis" / "example").write_bytes(b"x")
    (place / "evil.pth").write_text("import os")
    return place


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return built(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def archive(wheel):
    with zipfile.ZipFile(wheel) as opened:
        yield opened


def metadata(archive, name):
    (path,) = (each for each in archive.namelist() if each.endswith(f".dist-info/{name}"))
    return archive.read(path).decode()


def test_the_wheel_holds_the_package_and_its_description_alone(archive):
    names = archive.namelist()
    described = {name for name in names if ".dist-info/" in name}
    assert {Path(name).name for name in described} == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "LICENSE"}
    code = set(names) - described
    assert code >= DATA
    assert all(re.fullmatch(r"kling_async/([a-z_0-9]+/)*[a-z_0-9]+\.py", name) for name in code - DATA)
    assert not [name for name in names if ".." in name or name.startswith("/") or "test_" in name]
    assert not [name for name in names if name.endswith((".pth", ".so", ".pyc", ".egg-link"))]


def test_the_wheel_holds_every_module_of_the_package(archive, source):
    there = {path.relative_to(source).as_posix() for path in (source / "kling_async").rglob("*.py")}
    assert there <= set(archive.namelist())
    assert len(there) > 100


def test_no_file_of_the_wheel_is_a_link_a_program_or_other_than_recorded(archive):
    rows = {name: (digest, size) for name, digest, size in csv.reader(io.StringIO(metadata(archive, "RECORD")))}
    assert set(rows) == set(archive.namelist())
    for info in archive.infolist():
        assert info.external_attr >> 16 & 0o170000 in (0, 0o100000), info.filename
        assert not info.external_attr >> 16 & 0o111, info.filename
        digest, size = rows[info.filename]
        if not info.filename.endswith("/RECORD"):
            data = archive.read(info)
            found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={found}", len(data))


def test_the_description_says_what_is_needed_and_names_no_place_to_get_it_from(archive):
    told = message_from_string(metadata(archive, "METADATA"))
    assert told["Name"] == "kling-async"
    needs = [each for each in told.get_all("Requires-Dist") if "extra ==" not in each]
    assert {each.split(">=")[0] for each in needs} == {"aiohttp", "anyio", "attrs", "cattrs"}
    for line in str(told).splitlines():
        assert "index-url" not in line
    assert not [each for each in told.get_all("Requires-Dist") if "@" in each or "://" in each]
    assert told.get_all("Dependency-Link") is None


def test_the_wheel_starts_nothing_but_the_command_the_plugin_and_the_gateways(archive):
    groups = [line for line in metadata(archive, "entry_points.txt").splitlines() if line.startswith("[")]
    assert sorted(groups) == ["[console_scripts]", "[kling_async.gateways]", "[pytest11]"]
    entries = [line for line in metadata(archive, "entry_points.txt").splitlines() if "=" in line]
    assert all(line.partition("=")[2].strip().startswith("kling_async.") for line in entries)


def test_the_wheel_is_the_same_whenever_wherever_and_by_whom_it_is_built(source, wheel, tmp_path):
    copy = copied(source, tmp_path / "elsewhere")
    for path in copy.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    again = built(copy, tmp_path / "again", umask=0o077)
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()
    other = built(copy, tmp_path / "other", epoch="1800000000")
    assert other.read_bytes() != wheel.read_bytes()
