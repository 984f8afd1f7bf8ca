"""`workbench forget`: which results used an example, and what is kept of it here."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from workbench import tracking
from workbench.cli import complete
from workbench.cli.options import gathered
from workbench.cli.printing import Table, console, messages, print_json, print_table, reading
from workbench.cli.shared_options import json_option, states_option, storage_option, tracking_option
from workbench.cli.studies import ledger_url, shared_states
from workbench.data import answers
from workbench.errors import Refused, UsageError
from workbench.ledger import Ledger, forgetting
from workbench.quantities import many
from workbench.report.text import describe
from workbench.serving.registry import Registry
from workbench.study import Study, load
from workbench.study.tasks import largest_tasks
from workbench.sweep import Unwritten
from workbench.sweep.forgetting import (
    Use,
    Wanted,
    files_with,
    held,
    parents_of,
    shared_parents_of,
    shared_weights_of,
    texts_of,
    unknown,
    uses,
    weights_of,
)
from workbench.tracking import default_uri
from workbench.watching import history

BEYOND = (
    "Your own files were not touched. Take it out of them yourself: the results are then of other data, and left off the front.",
    "What was copied elsewhere cannot be reached: packaged models, exports, back-ups, a data set's copy by the hub, a server's log "
    "in another place (--log), and the memory of a dashboard, worker or server that is running.",
)
"""What a user must know of where this command does not reach."""


@dataclass(frozen=True, kw_only=True)
class ForgetOptions:
    """The arguments and options of `workbench forget`."""

    study: str
    example: str | None
    text: str | None
    weights: bool
    storage: str | None
    tracking_uri: str | None
    states: str | None
    as_json: bool


@click.command()
@click.argument("study", shell_complete=complete.study_files)
@click.option("--example", metavar="ID", help="The id of an example, as samples and `workbench data` have it.")
@click.option("--text", metavar="TEXT", help="All examples that hold this text; case and blanks do not count.")
@click.option("--weights", is_flag=True, help="Delete the weights here that were trained on it.")
@storage_option
@tracking_option
@states_option
@json_option
@gathered(ForgetOptions)
def forget(asked: ForgetOptions) -> None:
    """Say which results of the file STUDY used an example, and drop its text from what is kept here.

    Samples that hold it (--log-samples) go from the ledger and from MLflow's artifacts on this machine; a SQLite ledger is written
    anew. Scores and bills stay. Weights that were trained on it are listed, those of models that others start from or are taught by
    included, and deleted with --weights. Your own data file is never touched: it, files of labels, logs of servers (serve
    --log-inputs) and deployed versions that hold it still are named. Run it before you take the example out of the file: afterwards
    it cannot be known who used it. Again does no harm.
    """
    wanted = Wanted(asked.example, asked.text)
    study, url = load(asked.study), ledger_url(asked.storage)
    with reading():
        swept = Ledger.holds(study.name, url)
        ledger = Ledger.find(study.name, url, path=asked.study, study=study) if swept else None
        if ledger is not None and ledger.leases():
            raise Refused("a sweep of this study is at work, and keeps what it reads. Stop it first (Ctrl-C), then forget.")
        found = held(study, wanted)
        results = ledger.results() if ledger else []
        used, lost = uses(study, results, wanted), unknown(study, results)
    if not found and not results:
        raise UsageError(f"no example of {asked.study} is meant by that, and it has no results. Look at `workbench data`.")
    folder, shared = Path.cwd() / ".workbench" / study.name, shared_states(asked.states, study.name)
    there = [*shared_weights_of(shared, used), *shared_parents_of(shared, study, results, wanted)] if shared else []
    with reading():
        parents, needed = parents_of(study, results, wanted)
        holders = [*map(str, needed), *map(str, files_with(texts_of(study, wanted), _files(asked.study, study)))]
    learned = {use.result.recipe_id for use in used if use.learned}
    if learned and ledger is not None and ledger.mlflow_runs:
        holders += Registry(asked.tracking_uri or default_uri(Path.cwd())).of_recipes(learned)
    record: dict[str, Any] = {
        "study": study.name,
        "examples": found,
        "results": [_row(use) for use in used],
        "unknown": [result.trial for result in lost],
        **_dropped(url, asked.tracking_uri or default_uri(Path.cwd()), wanted),
        "weights": [str(path) for path in (*weights_of(folder, used), *parents)]
        + [f"{shared.shown}/{name}" for name in there if shared],
        "held_by": holders,
        "weights_deleted": asked.weights,
        "beyond": [],
    }
    if asked.weights:
        for path in weights_of(folder, used):
            path.unlink(missing_ok=True)
        for path in parents:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for name in there:
            if shared is not None:
                shared.drop(name)
    record["beyond"] = _beyond(folder, record.pop("unreached"))
    if asked.as_json:
        print_json(record)
    else:
        _show(record, used, lost)


def _files(file: str, study: Study) -> Iterator[Path]:
    """Yield files of texts to label and of labels that belong to a study, and the logs of what is served from here."""
    yield Path(f"{Path(file).stem}.label.csv")
    for task in largest_tasks(study):
        with contextlib.suppress(UsageError):  # built-in data have none
            yield answers.beside(str(getattr(task, "data", "")))
    yield from sorted(history.FOLDER.glob("*.jsonl*"))  # `serve --log-inputs`, and parts that were put aside


def _row(use: Use) -> dict[str, Any]:
    result = use.result
    return {
        "trial": result.trial,
        "number": result.number,
        "recipe_id": result.recipe_id,
        "epochs": result.epochs,
        "how": list(use.how),
    }


def _dropped(url: str, uri: str, wanted: Wanted) -> dict[str, Any]:
    """Drop the samples of every study in the database, and say how many went."""
    names = _names(url)
    runs = [run for name in names for run in Ledger.find(name, url, read_only=True).mlflow_runs.values()]
    gone = forgetting.drop_samples(url, wanted.is_sample) if names else 0
    from_artifacts, unreached = tracking.forgetting.drop_samples(uri, dict.fromkeys(runs), wanted.is_sample) if runs else (0, [])
    return {"samples_dropped": {"ledger": gone, "mlflow": from_artifacts}, "unreached": unreached}


def _names(url: str) -> list[str]:
    """Return the names of all studies in the database; none where there is no database."""
    try:
        return Ledger.names(url)
    except UsageError:
        return []


def _beyond(folder: Path, unreached: Sequence[str]) -> list[str]:
    more = [f"Artifacts that are not files here were not reached: {place}." for place in unreached]
    if Unwritten(folder):
        more.append(f"Results wait in {folder / 'unwritten'} for a ledger that was away; sweep again, then forget again.")
    return [*BEYOND, *more]


def _show(record: dict[str, Any], used: Sequence[Use], lost: Sequence[Any]) -> None:
    named = ", ".join(f"{name} ({side})" for name, side in record["examples"].items())
    console.print(f"Examples meant: {named or 'none that the data hold now'}.", markup=False)
    if used:
        table = Table(title=f"{many(len(used), 'result')} used it")
        for name in ("trial", "point", "how"):
            table.add_column(name, justify="right" if name == "trial" else "left")
        for use in used:
            table.add_row(str(use.result.trial), describe(use.result), ", ".join(use.how))
        print_table(table)
    if lost:
        text = f"Of {many(len(lost), 'result')} it cannot be known: the data, or the study, are not what they were then."
        messages.print(text, style="yellow", markup=False)
    gone = record["samples_dropped"]
    console.print(f"Samples dropped: {gone['ledger']:,} from the ledger, {gone['mlflow']:,} from MLflow's artifacts.")
    files, deleted = record["weights"], record["weights_deleted"]
    if files:
        console.print(f"Weights that learned from it, {'deleted' if deleted else 'kept (--weights deletes them)'}:")
    for path in files:
        console.print(f"  {path}", markup=False)
    if not files:
        console.print("No weights here learned from it.")
    for holder in record["held_by"]:
        messages.print(f"{holder} holds it still, and is yours to mend or to delete.", style="yellow", markup=False)
    for line in record["beyond"]:
        messages.print(line, style="dim", markup=False)
