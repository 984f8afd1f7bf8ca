"""Which model of a study is meant, by `workbench deploy` and `workbench package`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workbench.cli import complete
from workbench.cli.options import NUMBER, POSITIVE
from workbench.cli.printing import messages, reading
from workbench.cli.shared_options import states_option
from workbench.cli.studies import ledger_url, no_such_run, open_ledger, shared_states, study_path, view_of
from workbench.errors import EnvironmentFault, Refused, UsageError
from workbench.front.points import Points
from workbench.ledger import Ledger
from workbench.quantities import many, number
from workbench.report import answers
from workbench.report.records import asked_for, find_run
from workbench.result.outdated import changes, kinds
from workbench.serving import evidence
from workbench.serving.evidence import Evidence
from workbench.study import load
from workbench.sweep import recipe_of
from workbench.training import shared_parents

if TYPE_CHECKING:
    from workbench.front.serving import Form
    from workbench.result import Result
    from workbench.study import Recipe, Study

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class MemberOptions:
    """The options that say which model is meant.

    Attributes:
        study: The study, by its file or name.
        trial: A trial, or the number of a checkpoint; None: what the answer names.
        budget_usd: What it may cost; None: anything.
        target: The score that it must reach; None: the best.
        platform: The offer that prices compute; None: the study's.
        label_usd: Price of a label in US$; None: the study's.
        storage: The ledger's database; None: the file in this folder.
        states: Where machines share weights; None: nowhere.
    """

    study: str
    trial: str | None
    budget_usd: float | None
    target: float | None
    platform: str | None
    label_usd: float | None
    storage: str | None
    states: str | None


@dataclass(frozen=True)
class Member:
    """The model that is meant.

    Attributes:
        study: Its study.
        ledger: The study's ledger.
        result: The point, as the sweep measured it.
        recipe: The recipe that made it.
        weights: Its tuned weights; None of a model that is only asked.
        known: What is known of it.
    """

    study: Study
    ledger: Ledger
    result: Result
    recipe: Recipe
    weights: Path | None
    known: Evidence


def member_options(command: F) -> F:
    """Declare `--trial`, `--budget-usd`, `--target` and `--states`."""
    for option in (
        states_option,
        click.option("--target", type=NUMBER, metavar="SCORE", help="The cheapest that reaches this score."),
        click.option("--budget-usd", type=POSITIVE, metavar="USD", help="The best that costs at most this."),
        click.option(
            "--trial", metavar="TRIAL", shell_complete=complete.runs, help="This trial's best checkpoint, or this number."
        ),
    ):
        command = option(command)
    return command


def member_of(asked: MemberOptions) -> Member:
    """Find the model that is meant.

    Raises:
        UsageError: More than one way to choose was given, or there is no such model.
        Refused: Its weights are not here, or its data are not what they were.
    """
    ways = {"--trial": asked.trial, "--budget-usd": asked.budget_usd, "--target": asked.target}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} each choose a model. Give one of them.")
    with reading():
        ledger = open_ledger(asked.study, asked.storage)
        path = study_path(ledger)
        if path is None:
            raise UsageError(f"{ledger.name} was imported: there are no models of it here. Name a study that was swept here.")
        study = load(path)
        results = ledger.results()
        points = Points.of(results, view_of(ledger.description, asked.platform, asked.label_usd))
    result = _chosen(asked, ledger, results, points)
    if points.by_chance(result):
        text = f"It does no better than the commonest answer given to everything ({points.view.maximize} "
        messages.print(f"{text}{points.view.grading['constant_score']:.1f}).", style="yellow", markup=False)
    recipe = recipe_of(study, result)
    if result.devices > 1:
        text = f"{result.devices} GPUs held it together when it was trained: here the memory of one device has to hold all of it."
        messages.print(text, style="yellow", markup=False)
    weights = _weights(asked, study, recipe, result, points.found)
    if (shared := shared_states(asked.states, study.name)) is not None:  # what it starts from may be there alone, too
        click.get_current_context().with_resource(shared_parents.sharing(shared, None, messages.print))
    return Member(study, ledger, result, recipe, weights, evidence.of(result, recipe, points, ledger.name))


def note_form(asked: MemberOptions, member: Member, form: Form) -> None:
    """Have the ledger remember a form that a model was given; where it cannot be written that is told, and nothing is lost."""
    try:
        Ledger.find(member.ledger.name, ledger_url(asked.storage)).note_form(member.result.recipe_id, asdict(form))
    except EnvironmentFault as error:
        messages.print(f"What was measured of it is not kept: {error}", style="yellow", markup=False)


def warn_if_unconfirmed(member: Member, study: str) -> None:
    """Say that nobody has graded a model on the test split yet."""
    if not member.known.confirmed:
        text = f"It is not confirmed: its {member.known.metric} was part of the search, which keeps lucky scores. "
        messages.print(f"{text}`workbench confirm {study}` grades it on the held-out test split.", style="yellow", markup=False)


def _chosen(asked: MemberOptions, ledger: Ledger, results: Sequence[Result], points: Points) -> Result:
    """The point that the options mean, as it was measured."""
    if asked.trial is not None:
        return _of_trial(asked.trial, ledger, results, points)
    if asked.budget_usd is not None:
        found = answers.within_usd(points, asked.budget_usd)
    else:
        found = next((pick.point for pick in answers.picks(points, target=asked.target)), None)
    if found is None:
        said = answers.answer(points, budget_usd=asked.budget_usd, target=asked.target)
        if not (points.found or points.unknown):
            raise UsageError(f"{said} Run `workbench sweep {study_path(ledger)}` first.")
        raise UsageError(f"there is no such model. {said}")
    return next(r for r in points.found if r.recipe_id == found.recipe_id)


def _of_trial(wanted: str, ledger: Ledger, results: Sequence[Result], points: Points) -> Result:
    meant = asked_for(find_run(results, wanted), wanted)
    if not meant:
        raise no_such_run(ledger.name, results, wanted)
    known = {r.recipe_id for r in points.found}
    finished = [r for r in meant if r.recipe_id in known]
    if not finished and (changed := kinds(r for r in meant if r.status == "complete")):
        raise UsageError(
            f"trial {wanted} of {ledger.name} is of other inputs: {changes(changed)} since. "
            f"Run `workbench sweep {study_path(ledger)}` first."
        )
    if not finished:
        raise UsageError(f"trial {wanted} of {ledger.name} has no finished checkpoint. `workbench runs` lists those that have.")
    kept = [r for r in finished if weights_file(ledger.name, r).is_file()]
    return max(kept or finished, key=lambda r: r.scores[points.view.maximize])


def weights_file(study: str, result: Result, states: str | None = None) -> Path:
    """Where the weights of a point are: of one that an edited study has taken over, in the folder of the study as it was.

    Args:
        study: The full name of the study.
        result: The point.
        states: Where machines share weights: what is only there is fetched. None: nowhere.
    """
    root, name = Path.cwd() / ".workbench", f"{result.recipe_id}.safetensors"
    own = root / study / "weights" / name
    if own.is_file():
        return own
    if (shared := shared_states(states, study)) is not None:
        try:
            if shared.fetch(f"weights/{result.recipe_id}", own):
                return own
        except OSError as error:
            raise EnvironmentFault(f"{shared.shown} cannot be read: {error}. Leave --states out to use what is here.") from error
    return next(iter(sorted(root.glob(f"*/weights/{name}"))), own)


def _weights(asked: MemberOptions, study: Study, recipe: Recipe, result: Result, found: Sequence[Result]) -> Path | None:
    """The file of a model's weights. Raises Refused where it is not here."""
    path = weights_file(study.name, result, asked.states)
    if path.is_file():
        return path
    if not recipe.method.labelled:
        return None
    kept = [r for r in found if weights_file(study.name, r).is_file()]
    there = ", ".join(f"{r.trial} at {number(r.epochs)}" for r in kept[:8])
    raise Refused(
        f"the weights of trial {result.trial} at {many(result.epochs, 'epoch')} are not here ({path}): only those of the front's "
        f"members are kept, in the folder of the sweep. Kept here: {there or 'none'}."
    )
