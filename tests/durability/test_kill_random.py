"""Runs are killed at random moments. `KLING_KILLS` says in how many batches (default 12; 200 is the full measure)."""

from collections import Counter

import pytest
from lives import BATCHES


@pytest.mark.timeout(60 + 10 * BATCHES)
def test_killed_at_any_moment_a_batch_loses_nothing_and_pays_nothing_twice(lives):
    figures = sum((life.result() for life in lives), Counter())
    print(dict(figures))
    assert figures["kills"] >= BATCHES / 2
