"""Journals and jobs for them, made without a session."""

from kling_async import TextToVideo
from kling_async.batch.journal import Journal
from kling_async.batch.keys import Names, named


def planned(count, start=0):
    """Return jobs as a journal takes them."""
    numbers = range(start, start + count)
    return list(named([(f"job {number}", TextToVideo(f"clip {number}", duration=5)) for number in numbers], Names()))


def opened(path):
    return Journal(path, gateway="kling3api", unit="credits", base_url="http://127.0.0.1:9")


def filled(path, jobs=50):
    """Make a journal with some jobs in it, close it and return its path."""
    made = opened(path)
    made.add(planned(jobs), [10] * jobs)
    made.close()
    return path
