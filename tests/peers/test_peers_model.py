"""The gateway behind the dialects: durations, limits, faults and the ledger, and how long a run takes at best."""

from collections import Counter

import pytest

from benchmarks.peers.model import Broken, Gateway, Made, Refused, Seen, Unknown
from benchmarks.peers.scenarios import scenarios
from benchmarks.peers.terms import WARM_UP, Bucket, Terms, ideal

PROMPTS = [f"prompt {number}" for number in range(400)]
FAULTY = Terms(refusals=0.03, errors=0.05, resets=0.02)


def test_a_job_runs_its_time_and_is_then_done() -> None:
    gateway = Gateway(Terms())
    made = gateway.submit("a boat", 10.0)
    assert isinstance(made, Made)
    job = made.job
    assert job.ends == 10.0 + Terms().duration("a boat")
    assert gateway.look(job.id, job.ends - 0.01) == Seen(job, False)
    assert gateway.look(job.id, job.ends) == Seen(job, True)
    assert gateway.fetch(job.id, job.ends) == Seen(job, True)
    assert gateway.look("nobody", 0.0) == Unknown()
    assert gateway.counts == {"submits": 1, "looks": 2, "fetches": 1}


def test_durations_depend_on_the_prompt_alone_and_have_the_median() -> None:
    found = sorted(Terms(median=4.0).duration(prompt) for prompt in PROMPTS)
    assert found == sorted(Terms(median=4.0).duration(prompt) for prompt in reversed(PROMPTS))
    assert found[200] == pytest.approx(4.0, rel=0.1)


def test_slots_are_held_until_the_true_end() -> None:
    gateway = Gateway(Terms(slots=1))
    first = gateway.submit("one", 0.0)
    assert isinstance(first, Made)
    assert gateway.submit("two", first.job.ends - 0.1) == Refused("slots")
    assert isinstance(gateway.submit("two", first.job.ends), Made)
    assert gateway.counts["refused_slots"] == 1


def test_the_rate_refuses_what_is_beyond_the_burst() -> None:
    gateway = Gateway(Terms(rate=2.0, burst=3.0))
    found = [gateway.submit(prompt, 0.0) for prompt in PROMPTS[:5]]
    assert [isinstance(answer, Made) for answer in found] == [True, True, True, False, False]
    assert isinstance(gateway.submit("later", 0.5), Made)
    assert gateway.submit("too soon", 0.6) == Refused("rate")


def kinds(gateway: Gateway) -> Counter[str]:
    found: Counter[str] = Counter()
    for prompt in PROMPTS:
        for _ in range(10):
            answer = gateway.submit(prompt, 0.0)
            found[f"{type(answer).__name__} {getattr(answer, 'reset', '')}".strip()] += 1
    return found


def test_faults_come_in_their_shares_and_are_the_same_for_everybody() -> None:
    gateway = Gateway(FAULTY)
    found = kinds(gateway)
    assert found == kinds(Gateway(FAULTY))
    assert found["Refused"] == pytest.approx(120, rel=0.3)
    assert found["Broken False"] == pytest.approx(200, rel=0.3)
    assert found["Broken True"] == pytest.approx(80, rel=0.3)
    behind = len(gateway.ledger()["jobs"]) - found["Made"]
    assert behind == pytest.approx(140, rel=0.3)  # half of the broken ones


def test_a_refusal_makes_nothing() -> None:
    gateway = Gateway(Terms(refusals=1.0))
    assert gateway.submit("a boat", 0.0) == Refused("fault")
    assert gateway.ledger() == {"counts": {"submits": 1, "refused_fault": 1}, "jobs": []}


def test_a_broken_look_changes_nothing() -> None:
    gateway = Gateway(Terms())
    made = gateway.submit("a boat", 0.0)
    assert isinstance(made, Made)
    broken = Gateway(Terms(errors=1.0), jobs={made.job.id: made.job})
    assert broken.look(made.job.id, 0.0) == Broken(reset=False)
    assert not broken.counts["refused_fault"]


def test_the_warm_up_is_neither_counted_nor_troubled() -> None:
    gateway = Gateway(Terms(refusals=1.0, slots=0))
    made = gateway.submit(f"{WARM_UP} 1", 0.0)
    assert isinstance(made, Made)
    assert gateway.look(made.job.id, 0.02) == Seen(made.job, True)
    assert gateway.fetch(made.job.id, 0.02) == Seen(made.job, True)
    assert gateway.ledger() == {"counts": {}, "jobs": []}


def test_a_bucket_refills_while_it_waits() -> None:
    bucket = Bucket(rate=10.0, burst=2.0)
    taken = []
    now = 0.0
    for _ in range(4):
        now = bucket.free_at(now)
        bucket.take(now)
        taken.append(now)
    assert taken == pytest.approx([0.0, 0.0, 0.1, 0.2])


def test_the_ideal_fills_every_slot_at_once() -> None:
    assert ideal([4.0, 2.0, 2.0, 2.0], 2, None, 1.0) == 6.0
    assert ideal([1.0] * 3, 9, 1.0, 1.0) == 3.0
    assert ideal([1.0] * 3, 9, 1.0, 3.0) == 1.0


def test_the_limited_gateway_runs_less_than_the_clients_are_told() -> None:
    limited = scenarios(4.0, 64)["limited"]
    assert (limited.terms.slots, limited.concurrency, limited.rate) == (40, 64, 20.0)
    assert scenarios(4.0, 64)["plain"].rate is None
    assert limited.ideal(PROMPTS[:100]) == limited.ideal(PROMPTS[:100], bounded=False)
    plain = scenarios(4.0, 64)["plain"]
    assert plain.ideal(PROMPTS[:100], bounded=False) == max(map(plain.terms.duration, PROMPTS[:100]))
    assert limited.ideal(PROMPTS[:100]) > scenarios(4.0, 64)["plain"].ideal(PROMPTS[:100])
