"""What is counted as lost, doubled and wrong; and the tables."""

from typing import Any

import pytest
from attrs import asdict

from benchmarks.peers.clients import Ending, failed
from benchmarks.peers.measures import Measures, measures
from benchmarks.peers.scenarios import scenarios
from benchmarks.peers.tables import figures, told, verdict


def counted(endings: list[Ending], jobs: list[tuple[str, str, float]], **counts: int) -> Measures:
    ledger = {
        "counts": counts,
        "jobs": [{"id": job_id, "prompt": prompt, "ends": ends} for job_id, prompt, ends in jobs],
        "cpu": 0.1,
    }
    found = {"cpu": 0.2, "started": 0.0, "endings": [asdict(ending) for ending in endings]}
    return measures(found, ledger, ideal=5.0)


def test_figures_of_a_run() -> None:
    endings = [Ending("p", 6.0, "https://v/a.mp4"), Ending("q", 10.0, "https://v/b.mp4")]
    found = counted(
        endings, [("a", "p", 5.0), ("b", "q", 7.0)], submits=2, looks=5, fetches=1, refused_rate=2, refused_slots=1
    )
    assert (found.videos, found.lost, found.twice, found.wrong) == (2, 0, 0, 0)
    assert (found.delay, found.delay95, found.makespan) == (2.0, 3.0, 2.0)
    assert (found.requests, found.looks, found.refused) == (4.0, 2.5, 1.5)
    assert (found.cpu, found.cpu_request, found.server) == (100.0, 25.0, 0.01)


@pytest.mark.parametrize(
    ("ending", "kinds"),
    [
        (Ending("p", 1.0, error="no", says="no"), {"lost": 1, "wrong": 1}),
        (Ending("p", 1.0, error="no", says="job a1 failed"), {"kept": 1, "wrong": 1}),
        (Ending("p", 1.0, error="no", url="http://x/jobs/a1"), {"lost": 1, "dug": 1, "wrong": 1}),
        (Ending("p", 1.0, error="who knows", in_doubt=True), {"in_doubt": 1}),
    ],
)
def test_a_job_that_was_made_is_lost_unless_its_id_or_its_doubt_is_told(ending: Ending, kinds: dict[str, int]) -> None:
    found = counted([ending], [("a1", "p", 9.0)]).to_dict()
    names = ("videos", "in_doubt", "not_made", "wrong", "kept", "lost", "dug")
    assert {name: found[name] for name in names if found[name]} == kinds


def test_a_failure_of_what_was_never_made_is_right() -> None:
    found = counted([Ending("p", 1.0, error="no")], [])
    assert (found.not_made, found.wrong, found.lost) == (1, 0, 0)


def test_every_job_beyond_one_is_paid_twice() -> None:
    found = counted([Ending("p", 9.0, "a2.mp4")], [("a1", "p", 5.0), ("a2", "p", 6.0), ("a3", "p", 7.0)])
    assert (found.videos, found.twice, found.delay) == (1, 2, 3.0)


@pytest.mark.parametrize("ending", [Ending("p", 9.0, "another.mp4"), Ending("p", 1.0, "a1.mp4")])
def test_a_video_that_cannot_be_is_an_error(ending: Ending) -> None:
    with pytest.raises(RuntimeError, match="is not the video"):
        counted([ending], [("a1", "p", 5.0)])


class Request:
    url = "http://x/jobs/a1"


class RequestFailedError(Exception):
    request = Request()

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.code = 500


def test_what_an_error_says_and_where_one_may_dig() -> None:
    found = failed("p", RequestFailedError("server error"), ["a2"])
    assert (found.error, found.url) == ("RequestFailedError: server error", "http://x/jobs/a1")
    assert "a2" in found.says
    assert "500" in found.says
    assert "a1" not in found.says
    assert failed("p", ValueError("x"), []).url == ""


def run_of(cpu: float) -> Measures:
    return counted([Ending("p", 6.0, "a")], [("a", "p", 5.0)], submits=1).__class__(
        **{**counted([Ending("p", 6.0, "a")], [("a", "p", 5.0)]).to_dict(), "cpu": cpu}
    )


def test_ratios_are_taken_round_by_round() -> None:
    runs = {"kling_async": [run_of(1.0), run_of(2.0)], "slow": [run_of(4.0), run_of(8.0)], "fast": [run_of(0.5)] * 2}
    found: dict[str, Any] = figures(runs)
    assert found["slow"]["ratio"] == {"median": 4.0, "minimum": 4.0, "maximum": 4.0}
    assert verdict(runs) == "CPU per job of kling_async: 3.00 of the best other (fast)"
    assert verdict({"kling_async": runs["kling_async"]}) == ""
    assert verdict({"slow": runs["slow"]}) == ""
    text = told(scenarios(4.0, 64)["plain"], 1, 2, runs)
    assert "4.00 (4.00 to 4.00)" in text
    for name in ("limited", "faulty"):
        assert "slow" in told(scenarios(4.0, 64)[name], 1, 2, {"slow": runs["slow"]})
