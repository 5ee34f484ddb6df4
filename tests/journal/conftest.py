"""Journals on real files."""

import pytest
from journal_made import opened


@pytest.fixture
def open_journal():
    """Return a function that opens a journal; each is closed at the end of the test."""
    found = []

    def open_(path):
        found.append(opened(path))
        return found[-1]

    yield open_
    for each in found:
        if not each._writer._closed:
            each.close()
