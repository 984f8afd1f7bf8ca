"""`workbench plan`: what a study will try, and whether it can."""

from __future__ import annotations

import dataclasses
import sys

import click
from rich.table import Table

from workbench.cli.common import console, json_option, load_study, messages, print_json, waiting


@click.command()
@click.argument("study")
@json_option
def plan(study: str, as_json: bool) -> None:
    """Read the data of the file STUDY, and build every model with every method on the meta device, without weights.

    Shows how many numbers each would tune and whether it fits this machine. Costs seconds and no training.
    """
    loaded = load_study(study)
    with waiting("Reading the data, building models without weights …"):
        from workbench.forecast import plan as forecast
        from workbench.sweep import check_data

        check_data(loaded)
        pairs = list(forecast(loaded))
    if as_json:
        print_json([dataclasses.asdict(p) | {"fits": p.fits} for p in pairs])
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("model", "method", "settings", "parameters", "tuned", "share", "memory", "fits"):
            table.add_column(name, justify="right" if name in ("parameters", "tuned", "share", "memory") else "left")
        for p in pairs:
            settings = ", ".join(f"{k}={v}" for k, v in p.settings.items())
            if p.parameters is None or p.trainable_parameters is None or p.state_bytes is None:
                table.add_row(p.model, p.method, settings, "", "", "", "", f"no: {p.problem}")
                continue
            share = f"{p.trainable_parameters / p.parameters:.2%}"
            state = f"{p.state_bytes / 2**20:,.0f} MiB"
            table.add_row(
                p.model,
                p.method,
                settings,
                f"{p.parameters:,}",
                f"{p.trainable_parameters:,}",
                share,
                state,
                "yes" if p.fits else f"no: {p.problem}",
            )
        console.print(table)
        messages.print(
            "Memory: weights, gradients, AdamW's moments and averages. Activations come on top and are not in it.", style="dim"
        )
    if not all(p.fits for p in pairs):
        sys.exit(3)
