"""The apimart dialect of the hostile gateway: one job for each `Idempotency-Key`, however often it is asked for."""

SUBMITS_TO = "/v1/videos/generations"
LOOKS_AT = "/v1/tasks/"


def speak_apimart(gateway):
    """Let a hostile gateway speak apimart."""
    gateway.submits_to, gateway.looks_at = SUBMITS_TO, LOOKS_AT
    gateway.usually(submit=take, status=show)


async def take(visit):
    """Submit: a key that is known is answered as before, and nothing is made again."""
    key = visit.headers.get("idempotency-key")
    known = next((task for task in visit.gateway.ledger.tasks if task.key == key), None)
    task = known or visit.accept()
    replayed = ("Idempotency-Replayed: true",) if known else ()
    await visit.say({"code": 200, "data": [{"status": "submitted", "task_id": task.task_id}]}, headers=replayed)
    return True


async def show(visit):
    """Look: in progress first, then done."""
    gateway = visit.gateway
    task = gateway.task(visit.path.removeprefix(LOOKS_AT))
    if task is None:
        await visit.say({"error": {"message": "task not found", "type": "invalid_request_error"}}, "404 Not Found")
        return True
    task.polls += 1
    done = task.polls > gateway.running_looks
    data = {"id": task.task_id, "status": "completed" if done else "processing", "progress": 100 if done else 50}
    if done:
        data |= {"credits_cost": 5, "result": {"videos": [{"url": [f"{gateway.films}/{task.task_id}.mp4"]}]}}
    await visit.say({"code": 200, "data": data})
    return True
