"""What is wrong with a job file: where, which field, and a sentence."""

from collections.abc import Iterable, Sequence

from attrs import frozen

from kling_async.cli.words import columns, count, one_line

MOST_SHOWN = 20


@frozen
class Problem:
    """One thing that is wrong.

    Args:
        place: "row 17" of a table, "line 500" of JSON lines, or "file".
        field: the column, or "" where none is concerned.
        message: a sentence.
        code: a code as in `InvalidRequestError`.
        row: the number of the row or line, or None where the whole file is concerned.
    """

    place: str
    field: str
    message: str
    code: str = "INVALID_PARAMETER"
    row: int | None = None


class InputError(Exception):
    """The file as a whole cannot be read; no row of it can be trusted."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.message for problem in self.problems))

    @classmethod
    def about(cls, place: str, message: str, field: str = "") -> "InputError":
        """Return the error for one problem."""
        return cls([Problem(place, field, message)])


def problem_lines(problems: Sequence[Problem], unlisted: int = 0) -> list[str]:
    """Return one aligned line for each of the first problems, and how many more there are, also unlisted ones."""
    if not problems:
        return []
    shown = problems[:MOST_SHOWN]
    cells = [(one_line(each.place, 40), one_line(each.field or "-", 40), one_line(each.message)) for each in shown]
    more = len(problems) - len(shown) + unlisted
    lines = [f"  {line}" for line in columns(cells)]
    return lines + ([f"  and {count(more, 'more', 'more')}"] if more else [])
