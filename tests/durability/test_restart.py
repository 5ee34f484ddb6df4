"""What a later run makes of what earlier ones left, when nothing is killed on purpose or much is."""

from attrs import evolve
from durable import Place, check_end


def test_videos_left_by_an_earlier_run_are_fetched_once_while_new_jobs_are_made(tmp_path, gateway):
    place = Place(tmp_path / "left", gateway, jobs=60, downloads=False)
    check_end(place, place.run())
    place = evolve(place, jobs=160, downloads=True)
    last = place.run()
    jobs = check_end(place, last)
    assert last.reported("succeeded") == set(jobs)
    assert max(len(gateway.downloads(job.entry.task_id)) for job in jobs.values()) == 1
