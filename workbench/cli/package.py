"""`workbench package`: a model of a study as a folder that other software loads."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from workbench.cli import complete
from workbench.cli.member import MemberOptions, member_of, member_options, note_form, warn_if_unconfirmed
from workbench.cli.options import AMOUNT, gathered
from workbench.cli.printing import messages, print_json, print_text, say_next, waiting
from workbench.cli.shared_options import json_option, price_options, storage_option
from workbench.report.text import describe
from workbench.serving import packaging
from workbench.serving.card import changed_text


@dataclass(frozen=True, kw_only=True)
class PackageOptions(MemberOptions):
    """The arguments and options of `workbench package`, in addition to those that choose the model."""

    to: Path
    form: str
    tolerance: float | None
    as_json: bool


@click.command()
@click.argument("study", shell_complete=complete.studies)
@member_options
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="Where to: a folder that is new or empty."
)
@click.option(
    "--as", "form", type=click.Choice(packaging.FORMS), default=packaging.MERGED, show_default=True, help="What it holds."
)
@click.option(
    "--tolerance",
    type=AMOUNT,
    metavar="POINTS",
    help="How far the score may move. [default: one example of the dev set; of int8 1 point at least]",
)
@price_options
@storage_option
@json_option
@gathered(PackageOptions)
def package(asked: PackageOptions) -> None:
    """Write a model of STUDY as a folder that other software loads: the one that the answer names, unless told otherwise.

    adapter is PEFT's own format, with the name of the model that it is for. merged is one whole model as Hugging Face has it, in
    float32. onnx is the whole model for ONNX Runtime, and int8 the same with weights of eight bits: of encoders of texts and
    images. What was written is loaded again and graded on the dev set, and refused if its score has moved. The model card has
    its costs, its energy and emissions, its data and its evidence.
    """
    with waiting("Finding the model …"):
        member = member_of(asked)
    warn_if_unconfirmed(member, asked.study)
    known = member.known
    if asked.form in (packaging.ONNX, packaging.INT8) and member.result.device:
        # Forms are measured on CPUs: what one costs beside a model that was measured on a GPU is unknown.
        known = replace(known, usd_per_1000=None)
    with waiting("Writing it, and grading what was written …"):
        made = packaging.package(member.recipe, member.weights, known, asked.to, asked.form, asked.tolerance)
    if made.served is not None:
        note_form(asked, member, made.served)
        usd = None if known.usd_per_1000 is None else known.usd_per_1000 / made.served.speedup
        known = replace(known, form=made.form, score=made.score, usd_per_1000=usd, answers_changed=made.served.answers_changed)
    if asked.as_json:
        print_json({**asdict(made), "folder": str(made.folder), "evidence": known.to_json()})
        return
    speed = f"{made.predictions_per_second:,.0f} predictions/s, {made.latency_seconds * 1000:.1f} ms for one"
    print_text(f"{made.folder} holds {describe(member.result)}, {made.form}: {made.bytes / 2**20:,.1f} MiB.")
    print_text(
        f"Loaded from there it has {known.metric} {made.score:.1f} on the dev set ({member.known.score:.1f} before), {speed}."
    )
    if made.served is not None:
        changed = changed_text(made.served.answers_changed)
        text = f"{made.served.speedup:.2f} times as fast as in torch; {changed}. "
        text += f"`workbench front {asked.study} --load 1` prices it beside."
        messages.print(text, style="dim", markup=False)
    messages.print(f"Licence of {known.model}: {known.licence_model}. See that you may give it away.", style="dim", markup=False)
    say_next(f"read {made.folder / 'README.md'}, the model card")
