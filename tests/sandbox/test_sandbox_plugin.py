"""The pytest plugin: a fixture for any test, and no cost where it is not used."""

import os
import subprocess
import sys

import pytest

TESTS = """
import asyncio, json, os, urllib.error, urllib.request
import pytest
from kling_async.testing import http, fail

def post(prompt="p"):
    request = urllib.request.Request(
        os.environ["KLING_BASE_URL"] + "/api/generate",
        json.dumps({"type": "pro-text-to-video", "prompt": prompt}).encode(),
        {"Authorization": "Bearer " + os.environ["KLING_API_KEY"]},
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)

def check(kling_sandbox):
    assert os.environ["KLING_GATEWAY"] == "kling3api"
    assert kling_sandbox.url == os.environ["KLING_BASE_URL"]
    kling_sandbox.next(http(503))
    with pytest.raises(urllib.error.HTTPError):
        post()
    kling_sandbox.script(fail(), prompt="q")
    post(), post("q")
    assert (kling_sandbox.submissions, kling_sandbox.charges, kling_sandbox.max_in_flight) == (3, 2, 2)
    assert kling_sandbox.polls_per_task == {}
    assert kling_sandbox.ledger.charged == 800
    kling_sandbox.assert_paid_once(["p", "q"])
    post()
    with pytest.raises(AssertionError, match="'p' 2 times"):
        kling_sandbox.assert_paid_once()
    with pytest.raises(AssertionError, match="'never' 0 times"):
        kling_sandbox.assert_paid_once(["never"])

def test_sync(kling_sandbox):
    check(kling_sandbox)

@pytest.mark.anyio
async def test_anyio(kling_sandbox, anyio_backend):
    await asyncio.to_thread(check, kling_sandbox)

@pytest.mark.asyncio
async def test_pytest_asyncio(kling_sandbox):
    await asyncio.to_thread(check, kling_sandbox)

def test_the_environment_is_restored():
    assert "KLING_BASE_URL" not in os.environ

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def run(*arguments, **more):
    env = {name: value for name, value in os.environ.items() if not name.startswith("KLING_")}
    env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False, **more)


def test_the_fixture_works_in_synchronous_anyio_and_pytest_asyncio_tests(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    plugins = ["-p", "kling_async.testing", "-p", "anyio.pytest_plugin", "-p", "pytest_asyncio.plugin"]
    strict = ["-q", "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function", "-p", "no:cacheprovider"]
    done = run("-m", "pytest", *plugins, *strict, "test_it.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_the_fixture_is_listed_with_its_first_line(tmp_path):
    done = run("-m", "pytest", "-p", "kling_async.testing", "--fixtures", cwd=tmp_path)
    assert "kling_sandbox" in done.stdout
    assert "A fresh Kling sandbox on a loopback port" in done.stdout


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("kling_async.testing", ["pytest", "aiohttp", "attrs", "kling_async.sandbox"]),
        ("kling_async.sandbox.fixtures", ["aiohttp"]),
        ("kling_async.sandbox", ["aiohttp"]),
    ],
)
def test_importing_loads_nothing_that_is_not_used(imported, absent):
    done = run("-c", f"import sys, {imported}; print([n for n in {absent} if n in sys.modules])")
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_every_name_of_the_testing_module_can_be_imported():
    import kling_async.sandbox
    import kling_async.testing

    for module in (kling_async.testing, kling_async.sandbox):
        for name in module.__all__:
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError):
            _ = module.nothing
