"""What a loss of power may leave of files, played from a record of every write, sync and packet of a program.

A file holds what it held at its last sync, and any of what was written since, whole or torn; a name that was made or
removed may be undone until its directory was synced. `faults.c` makes the record. Where it cannot be built, the files
of a journal are looked at around each commit, and SQLite's word is taken that a commit with FULL is one sync.
"""

import shutil
import sqlite3
import struct
import sys
from itertools import pairwise
from pathlib import Path

from attrs import define, field, frozen

sys.path.append(str(Path(__file__).parents[1] / "journal"))

from journal_made import opened

from kling_async.batch import State
from kling_async.errors import JournalError
from kling_async.sandbox.mp4 import video

LINE = struct.Struct("<c7xqqiIII")
SECTOR = 512


@frozen
class Line:
    """One thing that was done.

    Args:
        what: o for a new file, l for a second name, u for a name removed, w for a write, c for a cut, s for a sync, d
            for that of a directory, n for bytes that leave by the network, m for a mark.
        file: its number; no two files of a record have the same.
        at: where in it, or its new size.
        socket: the file descriptor that bytes left by.
        path, data: the name, and the bytes or words.
    """

    what: str
    file: int
    at: int
    socket: int
    path: str
    data: bytes = field(repr=False)


def read_record(path):
    """Return the lines of a record."""
    content, start, lines, numbers = Path(path).read_bytes(), 0, [], {}
    while start < len(content):
        what, inode, at, socket, name, size, _ = LINE.unpack_from(content, start)
        start += LINE.size
        text = content[start : start + name].decode()
        data = content[start + name : start + name + size]
        start += name + size
        if what == b"o":  # the system gives the number of a file that is gone to another one
            numbers[inode] = len(lines)
        lines.append(Line(what.decode(), numbers.get(inode, -1), at, socket, text, data))
    return lines


def changed(content, line):
    """Return the content of a file after a write or a cut."""
    if line.what == "c":
        return content[: line.at].ljust(line.at, b"\0")
    return content[: line.at].ljust(line.at, b"\0") + line.data + content[line.at + len(line.data) :]


def torn(line, random):
    """Return a write of which only some sectors came to be."""
    if line.what == "c" or len(line.data) <= 1:
        return [line]
    cuts = sorted({0, len(line.data), *range(SECTOR - line.at % SECTOR, len(line.data), SECTOR)})
    kept = [piece for piece in pairwise(cuts) if random.random() < 0.5]
    return [Line("w", line.file, line.at + start, -1, "", line.data[start:end]) for start, end in kept]


@define
class Disk:
    """A disk with a cache that a loss of power takes away.

    Args:
        durable: what each file held at its last sync, by its number.
        cached: what was done to each since.
        names: the names that are surely on disk, and whose file each is.
        renamed: names that were made or removed since their directory was synced.
    """

    durable: dict[int, bytes] = field(factory=dict)
    cached: dict[int, list[Line]] = field(factory=dict)
    names: dict[str, int] = field(factory=dict)
    renamed: list[Line] = field(factory=list)

    def do(self, line):
        """Take one more line of the record in."""
        if line.what in "olu":
            self.renamed.append(line)
        elif line.what in "wc":
            self.cached.setdefault(line.file, []).append(line)
        elif line.what == "s":
            content = self.durable.get(line.file, b"")
            for write in self.cached.pop(line.file, []):
                content = changed(content, write)
            self.durable[line.file] = content
        elif line.what == "d":
            here = [each for each in self.renamed if str(Path(each.path).parent) == line.path]
            self.names = _renamed(self.names, here)
            self.renamed = [each for each in self.renamed if each not in here]

    def left(self, how, random):
        """Return what is left after a loss of power now, by name.

        Args:
            how: "nothing" of what was cached came to be, "everything" did, or "something".
            random: decides what.
        """
        chance = {"nothing": 0.0, "something": 0.5, "everything": 1.0}[how]
        # Names come and go in the order in which a file system's own journal has them.
        count = random.randint(0, len(self.renamed)) if how == "something" else len(self.renamed) * (how != "nothing")
        found = {}
        for name, file in _renamed(self.names, self.renamed[:count]).items():
            content = self.durable.get(file, b"")
            for line in self.cached.get(file, []):
                if how == "something" and random.random() < 0.3:
                    for piece in torn(line, random):
                        content = changed(content, piece)
                elif random.random() < chance:
                    content = changed(content, line)
            found[name] = content
        return found


def _renamed(names, lines):
    names = dict(names)
    for line in lines:
        if line.what in "ol":
            names[line.path] = line.file
        else:
            names.pop(line.path, None)
    return names


@frozen
class Seen:
    """Something that others have seen of a program: a job that is "planned", "sent", "accepted" or "downloaded".

    Args:
        at: the number of the line of the record.
        what: which of these.
        key: the job.
        more: what was told with it: its task id, the name of its file.
    """

    at: int
    what: str
    key: str
    more: tuple[str, ...] = ()


def seen_of(lines, keys):
    """Return what others have seen, in its order. A job is sent when the first byte of its POST leaves.

    Args:
        lines: the record.
        keys: the name of each job by its prompt.
    """
    found, posts, sent = [], {}, set()
    for number, line in enumerate(lines):
        if line.what == "m":
            what, *words = line.data.decode().split(" ")
            found += [Seen(number, what, words[0], tuple(words[1:]))] if words else []
        elif line.what == "n":
            if line.data.startswith((b"POST ", b"GET ")):
                posts[line.socket] = (number, b"")
            begun, said = posts.get(line.socket, (number, b""))
            posts[line.socket] = (begun, said + line.data)
            if not said.startswith(b"GET "):
                there = {key for prompt, key in keys.items() if f'"{prompt}"'.encode() in said + line.data} - sent
                found += [Seen(begun, "sent", key) for key in there]
                sent |= there
    return sorted(found, key=lambda each: each.at)


def wrong_after(left, seen, root, scratch):
    """Return what is wrong with the files that a loss of power left, held against what others had seen.

    Args:
        left: what the files hold, by name.
        seen: what others had seen by then.
        root: the directory of the journal `night.db` and of its videos.
        scratch: a directory for the files, which is emptied first.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "videos").mkdir(parents=True)
    for name, content in left.items():
        (scratch / Path(name).relative_to(root)).write_bytes(content)
    try:
        journal = opened(scratch / "night.db")
    except JournalError as error:
        return [f"the journal cannot be opened: {error}"]
    try:
        if journal._rows("PRAGMA integrity_check") != [("ok",)]:
            return ["the journal is damaged"]
        jobs = {entry.key: entry for entry in journal.each(State)}
    finally:
        journal.close()
    return [wrong for each in seen for wrong in _wrong_with(each, jobs.get(each.key), scratch / "videos")]


def _wrong_with(each, job, videos):
    match each.what:
        case _ if job is None:
            yield f"{each.key} was acknowledged, and is gone"
        case "sent" if job.state is State.PLANNED:
            yield f"{each.key} was sent, and is planned"
        case "accepted" if job.task_id != each.more[0]:
            yield f"{each.key} was accepted as {each.more[0]}, and has the id {job.task_id}"
        case "downloaded":
            file = videos / each.more[1]
            if job.state is not State.DOWNLOADED:
                yield f"{each.key} was downloaded, and is {job.state}"
            elif not file.exists() or file.read_bytes() != video(each.more[0], "16:9", 5):
                yield f"{each.key} was downloaded, and its file is not whole"


# Without a record.


@frozen
class Commit:
    """The files of a journal right before a commit and right behind it, by ending, and how it was to be synced."""

    before: dict[str, bytes] = field(repr=False)
    after: dict[str, bytes] = field(repr=False)
    synchronous: int
    mode: str


def watch_commits(monkeypatch, path, pragma=None):
    """Return a list to which every commit of a journal is added."""
    commits, connect = [], sqlite3.connect

    def files():
        names = {ending: Path(f"{path}{ending}") for ending in ("", "-wal", "-journal")}
        return {ending: name.read_bytes() for ending, name in names.items() if name.exists()}

    class Watched(sqlite3.Connection):
        def execute(self, sql, values=()):
            if sql == "PRAGMA journal_mode = WAL" and pragma is not None:
                super().execute(f"PRAGMA {pragma}")
            if sql != "COMMIT":
                return super().execute(sql, values)
            (synchronous,), (mode,) = (super(Watched, self).execute(f"PRAGMA {name}").fetchone() for name in PROMISED)
            before = files()
            done = super().execute(sql)
            commits.append(Commit(before, files(), synchronous, mode))
            return done

    monkeypatch.setattr(sqlite3, "connect", lambda *about, **more: connect(*about, factory=Watched, **more))
    return commits


PROMISED = ("synchronous", "journal_mode")


def mixed(before, after, random):
    """Return the content of a file of which some sectors are as before and some as after, or it was cut off."""
    if random.random() < 0.5:
        at = random.randint(0, len(after))
        return after[:at] + before[at:]
    length = random.choice((len(before), len(after)))
    whole = before.ljust(length, b"\0")[:length], after.ljust(length, b"\0")[:length]
    return b"".join(random.choice(whole)[at : at + SECTOR] for at in range(0, length, SECTOR))
