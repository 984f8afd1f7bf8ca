"""`workbench doctor`: what this machine has, and what to mend."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click

from workbench.cli.printing import console, print_json, say_next, waiting
from workbench.cli.shared_options import json_option, storage_option, tracking_option
from workbench.cli.studies import ledger_url
from workbench.health import examine
from workbench.tracking import default_uri

_MARKS = {"ok": "[green]ok  [/green]", "note": "[yellow]note[/yellow]", "fail": "[red]fail[/red]"}


@click.command()
@storage_option
@tracking_option
@json_option
def doctor(storage: str | None, tracking_uri: str | None, as_json: bool) -> None:
    """Show what this machine has (GPU, meters, stores, versions), and what to mend."""
    with waiting("Looking around …"):
        findings = examine(ledger_url(storage), tracking_uri or default_uri(Path.cwd()), Path.cwd())
    if as_json:
        print_json([dataclasses.asdict(f) for f in findings])
    else:
        for f in findings:
            console.print(f"{_MARKS[f.state]}  {f.subject:<14} {f.text}")
            if f.advice:
                console.print(f"{'':22}[bold]→[/bold] {f.advice}")
    if any(f.state == "fail" for f in findings):
        sys.exit(4)
    say_next("`workbench init` writes a study; `workbench plan STUDY` says what it takes", as_json=as_json)
