"""What the shell completes on Tab: study files, studies, runs and offers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from workbench import prices, settings
from workbench.errors import WorkbenchError
from workbench.ledger import completion, default_url

SHOWN = 50
"""At most so many runs are offered, the newest first."""

_FILES = 200
"""At most so many Python files are looked into, and `_BYTES` bytes of each."""
_BYTES = 20_000


def study_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the files that hold a Study, in the folder that is being typed; of this folder also those one folder below."""
    folder = Path(incomplete if incomplete.endswith("/") else Path(incomplete).parent)
    found = sorted(folder.glob("*.py"))
    found += sorted(p for p in folder.glob("*/*.py") if not p.parent.name.startswith(".")) if folder == Path() else []
    near = [p for p in found if p.as_posix().startswith(incomplete.removeprefix("./"))]
    return _items(p.as_posix() for p in near[:_FILES] if _holds_a_study(p))


def studies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return study files, and the names of studies in the ledger."""
    names = completion.names(_ledger(ctx))
    # Forms of one study differ in what stands behind the last
    # dash. One entry is enough until the user begins to type.
    stems = dict.fromkeys(name.rsplit("-", 1)[0] for name in reversed(names))
    words = [*stems, *(names if incomplete else ())]
    return study_files(ctx, param, incomplete) + _items(w for w in words if w.startswith(incomplete))


def runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the runs of the study that was named, or of the newest, by trial, each with its model, method and status."""
    # The store's file is asked directly: importing what opens a ledger would make each Tab wait.
    known = completion.runs(_ledger(ctx), _name(ctx.params.get("study")), incomplete, SHOWN)
    taken = set(ctx.params.get("runs") or ())
    return [CompletionItem(str(trial), help=text) for trial, text in known.items() if str(trial) not in taken]


def platforms(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the platforms of the price book; once one is named, its offers."""
    with contextlib.suppress(WorkbenchError):
        book = prices.load()
        words = {o.name if ":" in incomplete else o.platform for o in book}
        return _items(sorted(word for word in words if word.startswith(incomplete)))
    return []


def gpus(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the GPUs of the price book."""
    with contextlib.suppress(WorkbenchError):
        return _items(sorted({o.gpu for o in prices.load() if o.gpu and o.gpu.casefold().startswith(incomplete.casefold())}))
    return []


def samplers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the search, and the samplers of Optuna that are used most."""
    known = ("front", "optuna:TPESampler", "optuna:GPSampler", "optuna:NSGAIISampler", "optuna:RandomSampler")
    return _items(word for word in known if word.startswith(incomplete))


def _items(words: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words]


def _holds_a_study(path: Path) -> bool:
    try:
        # Looked at as text: importing a file in order to complete its name would run it.
        with path.open("rb") as file:
            text = file.read(_BYTES)
    except OSError:
        return False
    return re.search(rb"^\w+(: Study)? = Study\(", text, re.MULTILINE) is not None


def _ledger(ctx: click.Context) -> str:
    """Return the ledger's URL. A wrong setting completes nothing; the command itself tells it."""
    given: str | None = ctx.params.get("storage")
    with contextlib.suppress(WorkbenchError):
        # Click looks for no default while a command is being typed.
        return given or str(settings.load().options.get("storage") or "") or default_url(Path.cwd())
    return ""


def _name(study: str | None) -> str | None:
    """Return the name in the store: that of a study file begins with its stem."""
    return Path(study).stem if study and study.endswith(".py") else study
