"""How jobs end: outcomes from what is known of a job. Values in, values out."""

from kling_async.errors import GenerationFailedError, KlingError, ProtocolError
from kling_async.results import Failure, Snapshot, Status, Success, video_of
from kling_async.task import TaskFuture


def succeeded(job: TaskFuture, snapshot: Snapshot, now: float) -> Success:
    """Return the success that a snapshot with a URL describes."""
    spent = snapshot.credits if snapshot.credits is not None else job.credits
    return Success(job.key, job.request, snapshot.task_id or "", video_of(snapshot), spent, job.timing(now))


def failed(job: TaskFuture, error: KlingError, now: float, status: Status = Status.FAILED) -> Failure:
    """Return the failure that an error stands for, naming the job."""
    named = error.evolve(key=job.key, task_id=error.task_id or job.task_id, attempts=error.attempts or job.attempts)
    return Failure(job.key, job.request, named.task_id, named, named.charged, job.timing(now), status)


def generation_failed(gateway: str, snapshot: Snapshot) -> GenerationFailedError:
    """Return the error for a job that the gateway accepted and then failed; its last word says who pays."""
    spent = snapshot.credits
    return GenerationFailedError(
        snapshot.message or f"the gateway ended the job as {snapshot.raw_status or 'failed'}",
        gateway=gateway,
        code=snapshot.code,
        task_id=snapshot.task_id,
        stage="poll",
        charged="unknown" if spent is None else ("yes" if spent > 0 else "no"),
    )


def no_video(gateway: str, snapshot: Snapshot, charged: str) -> ProtocolError:
    """Return the error for a success without a usable URL."""
    return ProtocolError(
        "the gateway says the job succeeded and names no video",
        gateway=gateway,
        code="no_video",
        task_id=snapshot.task_id,
        stage="poll",
        charged="no" if charged == "no" else "yes" if charged == "yes" else "unknown",
        raw=str(dict(snapshot.raw))[:512] or None,
    )
