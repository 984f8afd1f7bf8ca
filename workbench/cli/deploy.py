"""`workbench deploy`: a model of a study into MLflow's registry."""

from __future__ import annotations

import re
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli import complete
from workbench.cli.member import MemberOptions, member_of, member_options, note_form, warn_if_unconfirmed
from workbench.cli.options import AMOUNT, gathered
from workbench.cli.printing import messages, print_json, print_text, say_next, waiting
from workbench.cli.shared_options import json_option, price_options, storage_option, tracking_option
from workbench.cli.studies import view_of
from workbench.errors import UsageError
from workbench.front.serving import serving
from workbench.quantities import dollars
from workbench.report.text import describe
from workbench.serving import packaging, registry
from workbench.serving.card import changed_text, scores_text
from workbench.serving.evidence import TORCH
from workbench.serving.regrading import regrade
from workbench.tracking import default_uri

if TYPE_CHECKING:
    from workbench.cli.member import Member
    from workbench.watching.reference import Reference


FORMS = (TORCH, packaging.ONNX, packaging.INT8)
"""What may compute a deployed model."""


@dataclass(frozen=True, kw_only=True)
class DeployOptions(MemberOptions):
    """The arguments and options of `workbench deploy`, in addition to those that choose the model."""

    name: str | None
    rollback: bool
    check: bool
    form: str
    tolerance: float | None
    tracking_uri: str | None
    as_json: bool


@click.command()
@click.argument("study", shell_complete=complete.studies)
@member_options
@click.option("--name", metavar="NAME", help="Name in the registry. [default: that of the study's file]")
@click.option("--rollback", is_flag=True, help="Make the version before the champion again; STUDY is the model's name then.")
@click.option("--check/--no-check", default=True, show_default=True, help="Grade what will be loaded on the dev set once more.")
@click.option(
    "--as",
    "form",
    type=click.Choice(FORMS),
    default=TORCH,
    show_default=True,
    help="What computes it: of encoders also ONNX Runtime.",
)
@click.option(
    "--tolerance",
    type=AMOUNT,
    metavar="POINTS",
    help="How far the score may move. [default: one example of the dev set; of int8 1 point at least]",
)
@price_options
@storage_option
@tracking_option
@json_option
@gathered(DeployOptions)
def deploy(asked: DeployOptions) -> None:
    """Put a model of STUDY into MLflow's registry: the one that the answer names, unless told otherwise.

    It is logged beside its run, with its score, its costs and the hash of its data, and registered: the alias champion is this
    version, and previous the one before. What is loaded from there answers exactly as it was graded: by default that is seen
    first, on the dev set. `workbench serve` answers requests with it.
    """
    uri = asked.tracking_uri or default_uri(Path.cwd())
    if asked.rollback:
        _rollback(asked, uri)
        return
    with waiting("Finding the model …"):
        member = member_of(asked)
    name = asked.name or _named(asked.study, member)
    warn_if_unconfirmed(member, asked.study)
    run = member.ledger.mlflow_runs.get(member.result.run_id, "")
    with tempfile.TemporaryDirectory(prefix="workbench-deploy-") as scratch:
        if asked.form != TORCH:
            with waiting(f"Exporting it as {asked.form}, and grading that …"):
                member = exported(member, asked, Path(scratch))
        known = member.known
        meant = registry.Member(member.recipe, member.weights, member.study.path, known, run, member.result.step)
        most = packaging.most_of(asked.form, member.recipe.task, known.metric) if asked.tolerance is None else asked.tolerance

        def check(folder: Path) -> Reference:
            return regrade(folder, member.recipe.task, known.metric, known.score, most)

        with waiting("Loading it as it will be served …" if asked.check else "Writing it into the registry …"):
            made, new, mended = registry.Registry(uri).deploy(name, meant, check if asked.check else None)
    if asked.as_json:
        print_json({**asdict(made), "new": new, "mended": mended or None, "champion": True, "evidence": known.to_json()})
        return
    form = "" if known.form == TORCH else f", {known.form}"
    what = f"{describe(member.result)}{form}: {scores_text(known)} for {dollars(known.usd)}"
    served = "unknown" if known.usd_per_1000 is None else dollars(known.usd_per_1000)
    print_text(
        f"Version {made.number} of {name} is the champion{'' if new else ' already'}: {what}, {served} for 1,000 predictions."
    )
    if mended:
        messages.print(f"It takes the place of a version of the same model, of which it was found: {mended}.", markup=False)
    if new and asked.check:
        messages.print(
            f"Loaded from there it has {known.metric} {known.score:.1f} on the dev set again.", style="dim", markup=False
        )
    if known.answers_changed is not None:
        messages.print(f"{changed_text(known.answers_changed)}.", style="dim", markup=False)
    if "unknown" in (known.licence_model, known.licence_data):
        text = f"Licence of {known.model}: {known.licence_model}; of the data: {known.licence_data}. See that both allow it."
        messages.print(text, style="dim", markup=False)
    say_next(f"`workbench serve {name}`")


def exported(member: Member, asked: DeployOptions, folder: Path) -> Member:
    """A member in the form that was asked for, with what is known of that; the ledger notes it."""
    form = packaging.export(member.recipe, member.weights, member.known, folder / packaging.ONNX_FILE, asked.form, asked.tolerance)
    note_form(asked, member, form)
    view = view_of(member.ledger.description, asked.platform, asked.label_usd)
    served = serving(member.result, view, form=form)
    usd = None if served is None else served.usd_per_1000.value
    known = replace(member.known, form=form.name, score=form.score, usd_per_1000=usd, answers_changed=form.answers_changed)
    return replace(member, weights=folder / packaging.ONNX_FILE, known=known)


def _rollback(asked: DeployOptions, uri: str) -> None:
    if asked.trial or asked.budget_usd or asked.target is not None:
        raise UsageError("--rollback takes the version before: leave --trial, --budget-usd and --target out.")
    name = asked.name or Path(asked.study).stem
    now, before = registry.Registry(uri).rollback(name)
    if asked.as_json:
        print_json({**asdict(now), "new": False, "champion": True, "previous": asdict(before)})
        return
    print_text(f"Version {now.number} of {name} is the champion again; version {before.number} is the one before.")
    say_next(f"`workbench serve {name}`: a server that runs goes on with what it has loaded")


def _named(study: str, member: Member) -> str:
    """The registered model's name: the stem of the study's file."""
    path = member.study.path
    return re.sub(r"[^\w.-]", "_", Path(study).stem if path is None else path.stem)
