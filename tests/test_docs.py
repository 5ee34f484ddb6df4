"""The documentation is true: its Python runs against the sandbox, its commands exist, its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kling_async.requests import TextToVideo
from kling_async.testing import check_gateway
from kling_async.wire import HttpResponse

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEST_COMMAND = "sh .ci/setup && .venv/bin/python -m pytest -n auto --dist worksteal"


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


PROGRAMS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    if page.name != "README.md"
    for number, block in enumerate(blocks(page, "python"), 1)
    if "def test_" not in block
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_in_the_documentation_runs(program, kling_sandbox, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    kling_sandbox.assert_paid_once()


def test_the_example_of_the_readme_makes_a_file_and_six_videos(kling_sandbox, tmp_path):
    (program,) = blocks(ROOT / "README.md", "python")
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True
    )
    assert ran.stdout.count("made ") == 5
    assert (tmp_path / "boat.mp4").read_bytes()[4:8] == b"ftyp"
    assert kling_sandbox.charges == 6


def test_the_tests_in_the_documentation_pass(tmp_path):
    (tests, *_) = [block for block in blocks(ROOT / "docs" / "testing.md", "python") if "def test_" in block]
    (tmp_path / "test_documented.py").write_text(tests)
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "2 passed" in ran.stdout, ran.stdout


def test_the_fifth_gateway_of_the_documentation_keeps_the_contract():
    (program, *_) = blocks(ROOT / "docs" / "gateways.md", "python")
    names = {}
    exec(program, names)
    check_gateway(
        names["Fifth"]("k-fifth-secret"),
        api_key="k-fifth-secret",
        requests=[TextToVideo("a fox")],
        accepted=HttpResponse(200, {}, b'{"id": "job-1"}'),
    )


def test_ci_runs_the_very_test_command_of_the_readme():
    assert TEST_COMMAND in (ROOT / "README.md").read_text()
    assert TEST_COMMAND in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_pinned_packages_name_no_host():
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    pinned = re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)
    assert {"aiohttp", "anyio", "attrs", "cattrs", "hatchling", "pytest"} <= set(pinned)
    assert text.count("--hash=sha256:") > len(pinned)


def test_the_library_depends_on_four_packages_and_no_more():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[><=\[]", each)[0] for each in project["dependencies"]} == {
        "aiohttp",
        "anyio",
        "attrs",
        "cattrs",
    }


def test_the_changelog_keeps_its_form():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    assert "## [Unreleased]" in text
