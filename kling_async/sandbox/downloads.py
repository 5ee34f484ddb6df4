"""Downloads of videos and thumbnails: no key is needed, and the ledger notes when one is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kling_async.sandbox.faults import Twist
from kling_async.sandbox.files import NO_VIDEO, File, cut_mp4, serve_file
from kling_async.sandbox.jobs import Refusal, Task
from kling_async.sandbox.mp4 import thumbnail, video
from kling_async.sandbox.spoil import answers, refused, spoil
from kling_async.sandbox.wire import Call, Reply, bearer

if TYPE_CHECKING:
    from kling_async.sandbox.core import Sandbox


def download(box: Sandbox, call: Call, page: str, name: str, now: float) -> Reply:
    """Answer a request for `videos/{task_id}.mp4` or `thumbs/{task_id}.jpg`."""
    suffix = ".mp4" if page == "videos" else ".jpg"
    task = box.tasks.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
    box.ledger.downloads += page == "videos"
    box.ledger.credentials_on_downloads += "authorization" in call.headers
    if page == "thumbs":
        return refused(None, Refusal(404, "No such file")) if task is None else _thumbnail(call, task)
    actions = box.scripted.pick("download", task.order.prompt if task else "", bearer(call))
    answer, delay = answers(actions)
    reply = None
    if answer is None or answer.accept:
        try:
            reply = _video(call, task, [action for action in actions if isinstance(action, Twist)], now)
        except Refusal as refusal:
            reply = refused(None, refusal)
    return spoil(reply, answer, delay, None)


def _thumbnail(call: Call, task: Task) -> Reply:
    return serve_file(call, File(thumbnail(task.id, task.order.ratio), "image/jpeg"))


def _video(call: Call, task: Task | None, twists: list[Twist], now: float) -> Reply:
    if task is None or now < task.ends_at or task.fails:
        raise Refusal(404, "No such file")
    file = File(video(task.id, task.order.ratio, task.order.seconds), "video/mp4")
    for twist in (*task.traits, *twists):
        if twist.name == "expired_link":
            _check_link(call, task, twist, twist in twists)
        elif twist.name == "truncated_mp4":
            file = File(cut_mp4(file.content), file.kind)
        elif twist.name == "not_a_video":
            file = File(NO_VIDEO, twist.kind)
    return serve_file(call, file)


def _check_link(call: Call, task: Task, twist: Twist, scripted: bool) -> None:
    """Refuse a dead link: the first ones of the task, or whatever a rule for downloads strikes."""
    number = call.query.get("link", "1")
    if scripted or (number.isdigit() and int(number) <= (twist.times or 1)):
        task.refused_link = task.refused_link or number == str(task.links)
        raise Refusal(twist.status, "The link has expired")
