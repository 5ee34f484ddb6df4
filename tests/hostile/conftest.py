"""What every row of the fault matrix is held to, whatever else it asserts; and the figures of all rows."""

import functools
import gc
import json
import os
import re
import socket
from pathlib import Path

import pytest
from memory import growth_since, peak_from_here
from stand_ins import Names, Routes
from trials import MOST_GROWTH, Figures, begin

ROW = re.compile(r"test_([nsapuchji]\d\d)_")
_KEPT = pytest.StashKey()
_CALLED = pytest.StashKey()


@pytest.fixture
def figures(request):
    """The figures of the running test; they are written to the file that KLING_FAULT_TABLE names."""
    found = Figures()
    request.node.stash[_KEPT] = found
    return found


@pytest.fixture(scope="module", autouse=True)
def quick_collections():
    """Collect what the tests leave behind, and not each time all that was here before them, which takes its while."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def bounded_memory(figures):
    """Every row stays within the memory it may take above idle."""
    before = peak_from_here()
    yield
    figures.growth = growth_since(before)
    assert figures.growth <= MOST_GROWTH


@pytest.fixture
def trial(figures):
    """Return an async context manager: `async with trial(seconds=2, **session_settings) as t`; see `trials.begin`."""
    return functools.partial(begin, figures)


@pytest.fixture
def names(monkeypatch):
    """A name server of our own; see `stand_ins.Names`. No name is really asked for."""
    found = Names(socket.getaddrinfo)
    monkeypatch.setattr(socket, "getaddrinfo", found)
    return found


@pytest.fixture
def routes(monkeypatch, only_loopback):
    """The routes that connects take; see `stand_ins.Routes`. None leads out of loopback."""
    found = Routes()
    monkeypatch.setattr(socket.socket, "connect", found.passing(socket.socket.connect))
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    where, row = os.environ.get("KLING_FAULT_TABLE"), ROW.match(item.name)
    if where and row and report.when == "call":
        item.stash[_CALLED] = report
    elif where and row and report.when == "teardown":  # by now its memory has been judged, too
        called, said = item.stash.get(_CALLED, report), item.stash.get(_KEPT, Figures())
        right = called.passed and report.passed and called is not report
        line = {"row": row[1].upper(), "test": item.name, "right": right, "seconds": called.duration}
        told = {"duplicates": said.duplicates, "leaks": said.leaks, "growth": said.growth, "late": said.late}
        with Path(where).open("a") as file:
            file.write(json.dumps({**line, **told}) + "\n")
    return report
