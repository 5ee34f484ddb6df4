"""Make the videos that a CSV or JSONL file asks for, download them, and write down how each row ended.

    export KLING_GATEWAY=kling3api KLING_API_KEY=...
    python examples/bulk.py shots.csv videos/ --concurrency 50

The columns are named as the fields of the requests: `prompt`, `duration`, `aspect_ratio`, ...; `type` chooses the kind,
text-to-video where it is left out; `id` names the row. `videos/` gets the files and `outcomes.jsonl`, a line for each
job.

Without an account and without money, against the sandbox:

    python -m kling_async.sandbox --port 8080 --speed 20 &
    export KLING_GATEWAY=kling3api KLING_API_KEY=any KLING_BASE_URL=http://127.0.0.1:8080
"""

import argparse
import asyncio
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from kling_async import (
    DownloadError,
    InvalidRequestError,
    KlingSession,
    Outcome,
    PollPlan,
    Request,
    Success,
    request_from,
    request_to,
)

DOWNLOADS = 8
"""Files that are fetched at the same time."""


class Bulk:
    """One run over a file: what it makes, and how it ended.

    Args:
        session: makes the videos.
        folder: where they go.
        journal: gets a line for each job.
    """

    def __init__(self, session: KlingSession, folder: Path, journal: TextIO) -> None:
        self.ended: Counter[str] = Counter()
        self.credits = Decimal(0)
        self._session = session
        self._folder = folder
        self._journal = journal
        self._downloads = asyncio.Semaphore(DOWNLOADS)

    async def run(self, file: Path) -> None:
        """Make every video; files are fetched while others are still being made."""
        async with asyncio.TaskGroup() as saving:
            async for outcome in self._session.stream(self._requests(file)):
                saving.create_task(self._end(outcome))

    def _requests(self, file: Path) -> Iterator[tuple[str, Request]]:
        """Read the file row by row, as slots free up; a row that cannot be understood stops nobody."""
        for number, row in enumerate(rows_of(file), 1):
            try:
                name = row.get("id") or row.get("key") or f"row-{number}"
                yield str(name), request_from(row, text=file.suffix == ".csv")
            except InvalidRequestError as error:
                print(f"row {number}: {error}", file=sys.stderr)
                self.ended["unreadable"] += 1

    async def _end(self, outcome: Outcome) -> None:
        told: dict[str, Any] = outcome.to_dict()
        if isinstance(outcome, Success):
            self.credits += outcome.credits or 0
            told["file"] = await self._save(outcome)
            self.ended["saved" if told["file"] else "not downloaded"] += 1
        else:
            print(f"{outcome.key}: {outcome.error}", file=sys.stderr)
            self.ended[type(outcome.error).__name__] += 1
        told["request"] = request_to(outcome.request) if outcome.request else None
        self._journal.write(json.dumps(told) + "\n")
        self._journal.flush()

    async def _save(self, success: Success) -> str | None:
        async with self._downloads:
            try:
                return str(await self._session.download(success, self._folder, overwrite=True))
            except DownloadError as error:  # paid for all the same, and found again by its task id
                print(f"{success.task_id}: {error}", file=sys.stderr)
                return None

    def summary(self) -> str:
        """Return what became of the rows."""
        counts = ", ".join(f"{count} {ending}" for ending, count in sorted(self.ended.items()))
        return f"{self.ended.total()} rows: {counts or 'nothing to do'}; {self.credits} credits"


def rows_of(file: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a CSV file, or of a file with a JSON object on each line."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        if file.suffix == ".csv":
            yield from csv.DictReader(lines)
        else:
            yield from (json.loads(line) for line in lines if line.strip())


async def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description="make the videos that a CSV or JSONL file asks for")
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--concurrency", type=int, default=20, help="jobs at once (default 20)")
    parser.add_argument("--rate", default="10/s", help="requests per time (default 10/s)")
    parser.add_argument("--poll-max", type=float, default=30.0, help="seconds between looks at most (default 30)")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    plan = PollPlan(minimum=min(1.0, given.poll_max), maximum=given.poll_max)
    with (given.folder / "outcomes.jsonl").open("a", encoding="utf-8") as journal:
        async with KlingSession(concurrency=given.concurrency, rate=given.rate, poll=plan) as session:
            bulk = Bulk(session, given.folder, journal)
            await bulk.run(given.file)
    print(bulk.summary())


if __name__ == "__main__":
    asyncio.run(main())
