"""The twelve decisions can be taken back by the command that tries them: none of its changes has gone stale."""

from benchmarks.decisions import DECISIONS, ROOT, misfits


def test_there_are_twelve_and_every_change_fits_the_code_exactly_once():
    assert list(DECISIONS) == list(range(1, 13))
    assert misfits() == []


def test_every_test_that_must_notice_exists():
    for decision in DECISIONS.values():
        assert all((ROOT / test).exists() for test in decision.tests)
