"""Journals on real files, a sandbox at full speed, and children whose disks fail."""

import pytest
from journal_disk import Children, build

from kling_async.batch.journal import Journal
from kling_async.sandbox import Sandbox, ThreadedServer


@pytest.fixture
def open_journal():
    """Return a function that opens a journal; each is closed at the end of the test."""
    opened = []

    def open_(path):
        journal = Journal(path, gateway="kling3api", unit="credits", base_url="http://127.0.0.1:9")
        opened.append(journal)
        return journal

    yield open_
    for journal in opened:
        if not journal._writer._closed:
            journal.close()


@pytest.fixture
def gateway():
    """A sandbox on loopback whose jobs last some 10 ms."""
    with ThreadedServer(Sandbox(median=0.01, sigma=0.2)) as server:
        yield server


@pytest.fixture(scope="session")
def faulty_disk(tmp_path_factory):
    """The library that makes a disk fail."""
    library, reason = build(tmp_path_factory.mktemp("library"))
    if library is None:
        pytest.skip(f"no disk can be made to fail: {reason}")
    return library


@pytest.fixture(scope="module")
def children(faulty_disk, tmp_path_factory):
    """Children on disks that fail on purpose."""
    with Children(tmp_path_factory.mktemp("children"), faulty_disk) as made:
        yield made


@pytest.fixture(scope="module")
def plain_children(tmp_path_factory):
    """Children on the disk as it is."""
    with Children(tmp_path_factory.mktemp("children"), None) as made:
        yield made
