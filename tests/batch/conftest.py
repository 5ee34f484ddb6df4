"""Tests of batches run in virtual time, on a wall clock that keeps step with it and a disk that can be full."""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kling_async.batch import writer

sys.path.append(str(Path(__file__).parents[1] / "session"))

from batch_virtual import WALL, Disk, DurableLoop, LoopWriter, set_clocks


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": DurableLoop}


@pytest.fixture(autouse=True)
def wall(monkeypatch):
    """The wall clock in every room of a batch."""
    set_clocks(monkeypatch)
    return WALL


@pytest.fixture(autouse=True)
def disk(monkeypatch):
    """The disk under every journal; while it works, virtual time stands still."""
    found, send = Disk(writer._transaction), writer.Writer.send

    def owed(self, work):
        future = send(self, work)
        loop = asyncio.get_running_loop()
        return loop.owed(future) if isinstance(loop, DurableLoop) else future

    monkeypatch.setattr(writer.Writer, "send", owed)
    monkeypatch.setattr(writer, "_transaction", found.transaction)
    return found


@pytest.fixture
def path():
    """A journal in memory, where there is such a place: these tests are about what is written, not how fast."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory) / "night.db"


@pytest.fixture
def no_threads(monkeypatch):
    """Commits that take virtual time, so that a program can be killed in the middle of one."""
    monkeypatch.setattr("kling_async.batch.journal.Writer", LoopWriter)
