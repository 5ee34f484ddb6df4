"""The house's walls: imports go down only, aiohttp stays in its rooms, nothing pure reads a clock or draws lots."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import kling_async
import kling_async.gateways
import kling_async.testing

ROOT = Path(kling_async.__file__).parent
FLOORS = [
    ["traces", "errors", "_version", "failpoints"],
    ["secret", "requests", "results", "settings", "wire", "mp4"],
    ["rows", "addresses", "disk", "kept", "loading", "mishaps"],
    ["gateways", "flow"],
    ["contract", "network"],
    ["transport", "credentials", "task"],
    ["bell"],
    ["asked", "conversation", "endings", "download", "stream", "waiting", "claims"],
    ["engine", "submitting", "looking", "planning"],
    ["batch"],
    ["session"],
    ["cli", "__main__"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
APART = {"sandbox", "testing", "__init__"}
PURE = (
    "errors",
    "traces",
    "requests",
    "results",
    "settings",
    "wire",
    "rows",
    "addresses",
    "mp4",
    "secret",
    "gateways/",
    "flow/",
)


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        yield name, ast.parse(path.read_text())


def room_of(name):
    return name.split("/")[0]


def imports_of(tree, *, typing_too=False):
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            skipped |= {id(child) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped and not typing_too:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            folder = ROOT.parent / node.module.replace(".", "/")
            for alias in node.names:
                yield f"{node.module}.{alias.name}" if (folder / f"{alias.name}.py").exists() else node.module


def test_imports_go_down_only():
    wrong = []
    for name, tree in modules():
        here = room_of(name)
        if here in APART:
            continue
        for imported in imports_of(tree):
            if not imported.startswith("kling_async."):
                continue
            there = imported.split(".")[1]
            if there == here or there == "_version":
                continue
            if there == "sandbox" and here == "cli":
                continue
            if FLOOR[there] > FLOOR[here]:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_there_are_no_import_cycles():
    graph = {}
    for name, tree in modules():
        module = "kling_async." + name.replace("/", ".").removesuffix(".__init__")
        graph[module] = {found for found in imports_of(tree) if found.startswith("kling_async.")} - {module}
    assert list(TopologicalSorter(graph).static_order())


def test_only_the_transport_and_the_sandbox_know_aiohttp():
    users = {room_of(name) for name, tree in modules() if "aiohttp" in {m.split(".")[0] for m in imports_of(tree)}}
    assert users <= {"transport", "sandbox"}


def test_nothing_pure_reads_a_clock_or_draws_a_random_number():
    wrong = []
    for name, tree in modules():
        if not name.startswith(PURE):
            continue
        used = {module.split(".")[0] for module in imports_of(tree)}
        if used & {"time", "random", "secrets", "os", "asyncio", "socket", "uuid"}:
            wrong.append((name, used))
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        wrong += [(name, attribute) for attribute in attributes & {"now", "utcnow", "today"}]
    assert wrong == []


def test_the_environment_is_read_for_the_documented_fall_backs_only():
    readers = set()
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                readers.add(room_of(name))
    assert readers <= {"credentials", "cli", "sandbox", "failpoints"}


def test_every_file_says_what_it_is_for():
    assert [name for name, tree in modules() if not ast.get_docstring(tree)] == []


def test_the_public_names_are_these():
    assert sorted(kling_async.__all__) == kling_async.__all__ == PUBLIC
    assert [name for name in PUBLIC if not hasattr(kling_async, name)] == []
    for module in (kling_async.gateways, kling_async.testing):
        assert sorted(module.__all__) == list(module.__all__)
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Klingsession'"):
        _ = kling_async.Klingsession


def test_importing_the_package_loads_neither_aiohttp_nor_cattrs():
    code = "import sys, kling_async; sys.exit(bool({'aiohttp', 'cattrs', 'asyncio', 'attrs'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_session_loads_no_aiohttp():
    code = "import sys; from kling_async import KlingSession; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PUBLIC = [
    "AuthenticationError",
    "Balance",
    "BudgetExceededError",
    "CapacityError",
    "ConfigurationError",
    "ConnectionFailedError",
    "Cost",
    "DownloadError",
    "DownloadPolicy",
    "Failure",
    "Fault",
    "GatewayUnavailableError",
    "GenerationFailedError",
    "GenerationTimeoutError",
    "ImageToVideo",
    "InsufficientCreditsError",
    "InvalidRequestError",
    "JournalError",
    "KlingError",
    "KlingSession",
    "NotFoundError",
    "Outcome",
    "PermissionDeniedError",
    "PollPlan",
    "ProtocolError",
    "QuotaExhaustedError",
    "RateLimit",
    "RateLimitError",
    "ReferenceToVideo",
    "Request",
    "ResponseLostError",
    "RetryPolicy",
    "SessionClosedError",
    "Shot",
    "Snapshot",
    "Stats",
    "Status",
    "Subject",
    "SubmissionInDoubtError",
    "Success",
    "TaskCancelledError",
    "TaskFuture",
    "TextToVideo",
    "Timeouts",
    "Timing",
    "UnsupportedError",
    "Video",
    "VideoEdit",
    "__version__",
    "request_from",
    "request_to",
]
