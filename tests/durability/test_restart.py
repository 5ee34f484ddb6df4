"""What later runs make of what earlier ones left: the same files for the same money, and nothing on a guess."""

from decimal import Decimal

from attrs import evolve
from durable import KILLED, Gateway, Place, check_end, check_histories, check_money, ended

from kling_async.batch import State

PRICE = 120


def test_videos_left_by_an_earlier_run_are_fetched_once_while_new_jobs_are_made(tmp_path, gateway):
    place = Place(tmp_path / "left", gateway, jobs=60, downloads=False)
    check_end(place, place.run())
    place = evolve(place, jobs=160, downloads=True)
    last = place.run()
    jobs = check_end(place, last)
    assert last.reported("succeeded") == set(jobs)
    assert max(len(gateway.downloads(job.entry.task_id)) for job in jobs.values()) == 1


def test_two_batches_may_fill_one_directory_with_videos_of_the_same_names(tmp_path, gateway):
    (tmp_path / "other").mkdir()
    one = Place(tmp_path / "same", gateway, jobs=40)
    other = Place(tmp_path / "other" / "same", gateway, jobs=40)
    runs = [one.start(), other.start(f"--videos={one.videos}")]
    assert [ended(run).code for run in runs] == [0, 0]
    entries = [job.entry for place in (one, other) for job in place.read().values()]
    assert {entry.state for entry in entries} == {State.DOWNLOADED}
    assert one.files() == {entry.file: entry.sha256 for entry in entries}
    assert len(one.files()) == 80


def kill_at_events(place, counts, *more):
    """Kill runs of a batch, each when it has printed so many lines; returns how many were killed."""
    killed = 0
    for count in counts:
        process = place.start(*more)
        for _ in range(count):
            process.stdout.readline()
        process.kill()
        killed += ended(process).code == KILLED
    return killed


def test_a_batch_killed_three_times_ends_with_the_files_and_the_spend_of_one_left_alone(tmp_path, gateway):
    alone = Place(tmp_path / "alone", gateway, jobs=60)
    undisturbed = alone.run()
    check_end(alone, undisturbed)
    place = Place(tmp_path / "thrice", gateway, jobs=60)
    assert kill_at_events(place, [3, 12, 20]) == 3
    last = place.run()
    jobs = check_end(place, last)
    doubtful = {key for key, job in jobs.items() if job.state is State.IN_DOUBT}
    expected = {name.replace("alone", "thrice") for name in alone.files()} - {f"{key}.mp4" for key in doubtful}
    assert set(place.files()) == expected
    assert Decimal(last.summary["spent"]) + PRICE * len(doubtful) == Decimal(undisturbed.summary["spent"])
    assert Decimal(last.summary["reserved"]) == PRICE * len(doubtful)


def test_a_budget_is_never_overshot_by_runs_that_are_killed(tmp_path, gateway):
    place = Place(tmp_path / "budget", gateway, jobs=60, concurrency=6)
    budget = 20 * PRICE + 50
    kill_at_events(place, [4, 8, 8, 8], f"--budget={budget}")
    last = place.run(f"--budget={budget}")
    assert (last.code, last.complaints) == (0, "")
    jobs, calls = place.read(), gateway.submits(place.prefix)
    check_histories(jobs)
    check_money(place, jobs, calls)
    doubtful = [job for job in jobs.values() if job.state is State.IN_DOUBT]
    paid = [job for job in jobs.values() if job.state is State.DOWNLOADED]
    assert len(doubtful) + len(paid) == 20
    assert sum(call["charged"] for call in calls) <= budget
    assert Decimal(last.summary["spent"]) == PRICE * len(paid)
    assert Decimal(last.summary["reserved"]) == PRICE * len(doubtful)
    assert last.summary["stopped"]["code"] == "budget"


def test_jobs_that_the_gateway_has_take_their_slots_before_any_other_is_sent(tmp_path):
    with Gateway.start() as gateway:
        place = Place(tmp_path / "slots", gateway, jobs=400, concurrency=300, suffix=" [sandbox: ends_after 4]")
        place.downloads = False
        assert place.run(failpoint="accepted.committed:300").code == KILLED
        flying = place.states()["submitting"]
        check_end(place, place.run())
        assert gateway.asked("/_sandbox/ledger")["totals"]["max_running"] <= 300 + flying


def test_an_input_without_keys_that_is_pulled_as_it_goes_is_made_once_however_often_it_is_killed(tmp_path, gateway):
    place = Place(tmp_path / "keyless", gateway, jobs=230, concurrency=40, downloads=False)
    kill_at_events(place, [20, 40], "--keyless")
    last = place.run("--keyless")
    assert (last.code, last.complaints) == (0, "")
    jobs, calls = place.read(), gateway.submits(place.prefix)
    check_histories(jobs)
    assert len(jobs) == 230
    doubtful = [job for job in jobs.values() if job.state is State.IN_DOUBT]
    known = {job.entry.task_id for job in jobs.values() if job.state is State.SUCCEEDED}
    accepted = {call["task_id"] for call in calls if call["accepted"]}
    assert len(known) + len(doubtful) == 230
    assert known <= accepted
    assert len(accepted - known) <= len(doubtful)


def test_only_a_user_who_asks_for_it_has_a_job_in_doubt_sent_again_and_both_are_counted(tmp_path, gateway):
    place = Place(tmp_path / "asked", gateway)
    assert place.run(failpoint="submit.answered").code == KILLED
    place.run()
    assert place.run("--retry", failpoint="submit.answered").code == KILLED
    place.run()
    last = place.run("--retry")
    (job,) = place.read().values()
    check_histories({job.entry.key: job})
    assert (job.state, job.entry.attempt) == (State.DOWNLOADED, 3)
    assert sum(call["charged"] for call in gateway.submits(place.prefix)) == 3 * PRICE
    assert Decimal(last.summary["spent"]) == PRICE
    assert Decimal(last.summary["reserved"]) == 2 * PRICE


def test_a_job_in_doubt_is_not_sent_again_under_another_account_which_knows_nothing_of_its_key(tmp_path, gateway):
    place = Place(tmp_path / "account", gateway, jobs=4, dialect="apimart")
    assert place.run(failpoint="submit.answered:2").code == KILLED
    doubtful = place.states()["submitting"]
    other = place.run("--api-key=sk-other")
    check_end(place, other)
    assert len(other.reported("in_doubt")) == doubtful
    jobs = check_end(place, place.run())
    assert {job.state for job in jobs.values()} == {State.DOWNLOADED}


def test_what_an_earlier_run_left_in_doubt_stays_so_and_is_not_sent(tmp_path, gateway):
    place = Place(tmp_path / "doubt", gateway, jobs=8, concurrency=4)
    assert place.run(failpoint="submit.answered:3").code == KILLED
    second = place.run()
    before = check_end(place, second)
    calls = gateway.submits(place.prefix)
    third = place.run()
    assert check_end(place, third).keys() == before.keys()
    assert third.outcomes == {}
    assert gateway.submits(place.prefix) == calls
    assert third.summary["in_doubt"] == len(second.reported("in_doubt")) > 0
