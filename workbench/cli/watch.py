"""`workbench watch`: how a served model does."""

from __future__ import annotations

from pathlib import Path

import click

from workbench.cli import complete
from workbench.cli.options import setting
from workbench.cli.printing import Table, print_json, print_table, print_text, reading
from workbench.cli.shared_options import json_option
from workbench.quantities import count, dollars, duration
from workbench.report import in_use
from workbench.watching import feedback, history
from workbench.watching.drift import RECENT
from workbench.watching.overview import Overview, offer_of, overview

_SPARE = {"tokens": 7, "US$": 6, "J for 1,000": 5, "p99": 4, "p50": 3, "refused": 2, "failed": 1}
"""Columns that go where the terminal is narrow, those of higher numbers first: the sentences below tell the money again."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("name", required=False)
@click.option("--log", type=FILE, metavar="FILE", help="Another log than that of NAME.")
@setting("--platform", metavar="NAME", shell_complete=complete.platforms, help="Offer that prices it. [default: the study's]")
@click.option(
    "--check", is_flag=True, help=f"Exit with code 1 where an alarm was raised, or something drifted, in the last {RECENT} rows."
)
@json_option
def watch(name: str | None, log: Path | None, platform: str | None, check: bool, as_json: bool) -> int:
    """Show how the model NAME does, by the log that `workbench serve` writes: the latest one, where no NAME is given.

    What runs, its requests and latency, what it costs with its idle time, whether rows are still like those of the dev set, when
    a class became more frequent or rarer, and its score in use, where right answers are known.
    """
    with reading("Reading the log …"):
        file = log or history.find(name)
        read = history.read(file)
        found = overview(read, feedback.load(file).quality, offer_of(read, platform))
    latest = found.models[-1]
    code = int(check and latest.disturbed)
    if as_json:
        print_json({"log": str(file), **found.to_json()})
        return code
    _table(found)
    for sentence in in_use.sentences(latest, found):
        print_text(sentence)
    for shadow in found.shadows:
        print_text(in_use.shadow_text(shadow))
    return code


def _table(found: Overview) -> None:
    table = Table(title=f"Served on {found.offer.name}")
    rows = in_use.use_rows(found)
    for column in rows[0]:
        table.add_column(column, justify="left" if column in ("model", "state") else "right", spare=_SPARE.get(column, 0))
    for row in rows:
        table.add_row(*(_cell(column, value) for column, value in row.items()))
    print_table(table)


def _cell(column: str, value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return count(value)
    assert isinstance(value, float)
    if column in ("p50", "p95", "p99"):
        return f"{1000 * value:,.0f} ms"
    if column == "up":
        return duration(value)
    # Three digits that tell, and no exponent: 0.734 rows a second, 2,050 joules.
    return dollars(value) if column.startswith("US$") else f"{float(f'{value:.3g}'):,.10g}"
