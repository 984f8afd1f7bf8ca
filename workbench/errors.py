"""The errors a user can meet, each saying what was wrong, what we got and what to do.

    WorkbenchError            exit code
    ├── UsageError            2   a study, recipe, flag or data file that cannot be used as it is
    │   ├── StudyError            … in the study file, with its line
    │   └── DataError             … in a data file, with its place
    ├── Refused               3   what was asked is understood and will not be done
    └── EnvironmentFault      4   a store, disk, device, package or network that is not as it must be

    Infeasible                -   not a mistake: a run that cannot be, recorded as a result

The command line prints a `WorkbenchError` without a traceback and exits with its code.
Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable


class WorkbenchError(Exception):
    """Root of every error that a user can mend. `exit_code` is the command's exit status."""

    exit_code = 2


class UsageError(WorkbenchError):
    """A value, flag, name or file that cannot be used as it is."""


class StudyError(UsageError):
    """A study file that cannot be loaded, or a task of a user's own that cannot be used.

    The message names the file and the line, or the task's class.
    """


class DataError(UsageError):
    """A data file whose content is wrong; the message names the file and the place."""


class Refused(WorkbenchError):
    """A request that was understood and will not be carried out."""

    exit_code = 3


class EnvironmentFault(WorkbenchError):
    """A store, disk, device, package or network that is not as it must be."""

    exit_code = 4


class Infeasible(Exception):
    """A recipe that cannot be trained here. The sweep records it as a result and learns from it.

    `reason` is `"out_of_memory"`, `"diverged"`, or `"fault"`: the model cannot be loaded, wrapped or run as the recipe says.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, in Python, on a GPU or in torch on a CPU."""
    # By the name of the class, so that this floor imports no torch. Its CPU allocator raises a
    # plain RuntimeError, which only its words tell from others.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str | None = None) -> str:
    """Return a hint to append to a message: `" Did you mean 'epochs'?"`; empty where no word is known.

    Args:
        word: What was given.
        known: What could have been.
        otherwise: The hint where none of these is near; None names them all.
    """
    known = sorted(set(known))
    if not known:
        return ""
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(word.casefold(), folded)
    near.sort(key=lambda other: sorted(other) != sorted(word.casefold()))  # "lroa" is as near to "road" as to "lora"
    near = [folded[other] for other in near]
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Known: {', '.join(known)}." if otherwise is None else otherwise


def said(error: BaseException) -> str:
    """An error's class and text. The class alone where `str(error)` itself raises, as a user's own
    class may.
    """
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def line_in(file: str, error: BaseException) -> int | None:
    """The innermost line of a file that an error passed through; None for none."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines else None
