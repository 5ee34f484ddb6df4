"""What one run comes to: the client's word beside the gateway's ledger."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from attrs import asdict, frozen

from benchmarks.peers.clients import Ending


@frozen
class Measures:
    """The figures of one run. Times are in seconds where nothing else is said.

    Every job that the gateway makes is paid for, and succeeds.

    Args:
        jobs: prompts.
        videos: prompts whose own video the client has.
        cpu: milliseconds of the client's process per prompt.
        cpu_request: milliseconds of the client's process per request.
        requests, looks: per prompt, as the gateway counts them.
        refused: answers with 429, per prompt.
        delay, delay95: how long after its true end a job's video was there; the mean, and 95 of 100.
        makespan: from the start to the last word, as a multiple of the ideal.
        in_doubt: prompts of which the client says that their fate cannot be known.
        not_made: prompts that the client says failed, and for which no job was made.
        wrong: prompts that the client says failed, although a job was made: `kept` and `lost` together.
        kept: those of them whose job's id the error or the caller's own variables say.
        lost: the others: paid for, and nobody knows what for.
        dug: those of the lost whose id stands in the address of the failed request, if somebody digs for it there.
        twice: jobs made beyond one for a prompt.
        server: share of one processor that the gateway took, to tell whether it held the client up.
    """

    jobs: int
    videos: int
    cpu: float
    cpu_request: float
    requests: float
    looks: float
    refused: float
    delay: float
    delay95: float
    makespan: float
    in_doubt: int
    not_made: int
    wrong: int
    kept: int
    lost: int
    dug: int
    twice: int
    server: float

    def to_dict(self) -> dict[str, float]:
        """Return them as JSON can hold them."""
        return asdict(self)


def measures(found: Mapping[str, Any], ledger: Mapping[str, Any], ideal: float) -> Measures:
    """Return the figures of one run.

    Args:
        found: what the client's process printed.
        ledger: what the gateway's process printed.
        ideal: seconds that the run takes at best.
    """
    endings = [Ending(**ending) for ending in found["endings"]]
    made: dict[str, dict[str, float]] = defaultdict(dict)
    for job in ledger["jobs"]:
        made[job["prompt"]][job["id"]] = job["ends"]
    jobs, counts = len(endings), ledger["counts"]
    looks = counts.get("looks", 0)
    requests = counts.get("submits", 0) + looks + counts.get("fetches", 0)
    wall = max(ending.ended for ending in endings) - found["started"]
    delays = sorted(delays_of(endings, made))
    kinds = [kind_of(ending, made[ending.prompt]) for ending in endings]
    return Measures(
        jobs=jobs,
        videos=len(delays),
        cpu=1000 * found["cpu"] / jobs,
        cpu_request=1000 * found["cpu"] / max(requests, 1),
        requests=requests / jobs,
        looks=looks / jobs,
        refused=sum(count for name, count in counts.items() if name.startswith("refused")) / jobs,
        delay=mean(delays) if delays else 0.0,
        delay95=delays[int(0.95 * len(delays))] if delays else 0.0,
        makespan=wall / ideal,
        in_doubt=kinds.count("in doubt"),
        not_made=kinds.count("not made"),
        wrong=kinds.count("kept") + kinds.count("lost") + kinds.count("dug"),
        kept=kinds.count("kept"),
        lost=kinds.count("lost") + kinds.count("dug"),
        dug=kinds.count("dug"),
        twice=sum(max(0, len(ids) - 1) for ids in made.values()),
        server=ledger["cpu"] / wall,
    )


def delays_of(endings: Sequence[Ending], made: Mapping[str, Mapping[str, float]]) -> list[float]:
    """Return how long after its true end each video was there.

    A video that is not of one of the prompt's own jobs, or is there before its job has ended, is an error.
    """
    found = []
    for ending in endings:
        if ending.video is None:
            continue
        ends = [end for job_id, end in made[ending.prompt].items() if job_id in ending.video]
        if not ends or ending.ended < ends[0]:
            raise RuntimeError(f"{ending.video} is not the video of {ending.prompt!r}")
        found.append(ending.ended - ends[0])
    return found


def kind_of(ending: Ending, made: Mapping[str, float]) -> str:
    """Return which figure an ending counts for."""
    if ending.video is not None:
        return "video"
    if ending.in_doubt:
        return "in doubt"
    if not made:
        return "not made"
    if any(job_id in ending.says for job_id in made):
        return "kept"
    return "dug" if any(job_id in ending.url for job_id in made) else "lost"
