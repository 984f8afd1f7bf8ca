"""`workbench import`: results that others published, as a study of the ledger."""

from __future__ import annotations

from pathlib import Path

import click

from workbench.cli.printing import messages, say_next, waiting
from workbench.cli.shared_options import storage_option
from workbench.cli.studies import ledger_url
from workbench.imports import peft_comparison
from workbench.ledger import ImportedLedger


@click.command("import")
@click.argument("source", type=click.Choice(["peft-comparison"]))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", default="peft-comparison", show_default=True, help="The study's name in the ledger.")
@click.option("--platform", metavar="NAME", help="Offer that prices the runs. [default: one of the GPU that they ran on]")
@storage_option
def import_(source: str, folder: Path, name: str, platform: str | None, storage: str | None) -> None:
    """Read the results that SOURCE published, from its files in FOLDER, into a study of the ledger.

    peft-comparison: PEFT's method comparison; FOLDER is method_comparison/MetaMathQA of its checkout, or the results in it.
    Nothing is downloaded. Importing again adds what is new or changed. `workbench front`, `runs` and `run` show the study.
    """
    with waiting(f"Reading {folder} …"):
        found = peft_comparison.read(folder, name=name, platform=platform)
        ledger = ImportedLedger.open_imported(found.name, found.description, ledger_url(storage))
        new = ledger.add(found.results)
    complete = sum(r.status == "complete" for r in found.results)
    messages.print(
        f"{len(found.results)} runs read, {complete} of them complete; {len(new)} new in the study {ledger.name}.",
        markup=False,
    )
    say_next(f"`workbench front {name}`, with `--platform` at another price")
