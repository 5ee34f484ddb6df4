"""Every use of a session, a batch and what they hand out, to be tried where none of them may be used."""

import asyncio

from attrs import define
from lifetime_place import clip, clips


@define
class Opened:
    """A session and a batch at work."""

    session: object
    made: object
    run: object
    future: object
    stream: object
    video: object
    place: object
    first: object

    @classmethod
    async def at(cls, gateway, place, directive="slow 0.2"):
        """Open a session and a batch, and return in the middle of their POSTs."""
        session = gateway.session(concurrency=20)
        await session.__aenter__()
        made = session.batch(place / "night.db", download_to=place / "videos")
        await made.__aenter__()
        video = await session.generate(clip())
        made.add(clips(6, directive))
        run = made.run()
        first = asyncio.ensure_future(anext(run))
        future = session.submit(clip(directive))
        stream = session.stream(clips(5))
        await anext(stream)
        await asyncio.sleep(0.1)
        return cls(session, made, run, future, stream, video, place, first)

    async def finish(self):
        """Read everything to its end and return the outcomes."""
        outcomes = [await self.first, *[outcome async for outcome in self.run], await self.future.outcome()]
        return outcomes + [outcome async for outcome in self.stream]

    async def close(self):
        await self.made.aclose()
        await self.session.aclose()

    def of_session(self):
        """Return the uses of the session by name; some return an awaitable."""
        session, place = self.session, self.place
        return {
            "submit": lambda: session.submit(clip()),
            "generate": lambda: session.generate(clip()),
            "gather": lambda: session.gather(clips(2)),
            "stream": lambda: session.stream(clips(2)),
            "attach": lambda: session.attach("n75child"),
            "stats": lambda: session.stats,
            "balance": session.balance,
            "upload": lambda: session.upload(__file__),
            "download": lambda: session.download(self.video, place / "child.mp4"),
            "enter": session.__aenter__,
            "batch": lambda: session.batch(place / "other.db").__aenter__(),
        }

    def of_handles(self):
        """Return the uses of what the session has handed out."""
        return {
            "await": lambda: self.future,
            "outcome": self.future.outcome,
            "accepted": lambda: _not_yet_accepted(self.future),
            "updates": lambda: _all_of(self.future.updates()),
            "cancel": self.future.cancel,
            "next of the stream": lambda: anext(self.stream),
            "close of the stream": self.stream.aclose,
        }

    def of_batch(self):
        """Return the uses of the batch and of its run."""
        return {
            "add": lambda: self.made.add(clips(1)),
            "plan": self.made.plan,
            "run": self.made.run,
            "next of the run": lambda: anext(self.run),
            "stop": self.made.stop,
            "summary": self.made.summary,
            "outcomes": lambda: list(self.made.outcomes()),
            "retry": self.made.retry,
            "find": lambda: self.made.find("boat"),
            "reconcile": self.made.reconcile,
        }

    def uses(self):
        """Return all of them."""
        return self.of_session() | self.of_handles() | self.of_batch()


async def _not_yet_accepted(future):
    known, future.task_id = future.task_id, None  # nobody sees that: what is refused is refused before it waits
    try:
        return await future.accepted()
    finally:
        future.task_id = known


async def _all_of(updates):
    return [each async for each in updates]


async def tried(uses):
    """Try each use and return what it met by name: an exception, or None."""
    found = {}
    for name, use in uses.items():
        try:
            what = use()
            if hasattr(what, "__await__"):
                async with asyncio.timeout(5):
                    await what
            found[name] = None
        except Exception as error:
            found[name] = error
    return found


def tried_by_hand(uses):
    """Do the same without any event loop: what is refused is refused before it waits."""
    found = {}
    for name, use in uses.items():
        try:
            what = use()
            if hasattr(what, "__await__"):
                what.__await__().send(None)
                found[name] = AssertionError("it waits")
            else:
                found[name] = None
        except StopIteration:
            found[name] = None
        except Exception as error:
            found[name] = error
    return found
