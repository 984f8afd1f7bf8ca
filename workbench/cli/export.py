"""`workbench export`: all that is known of a study, in one file."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench import figures
from workbench.cli import complete
from workbench.cli.printing import messages, reading, say_next, writing
from workbench.cli.shared_options import price_options, storage_option
from workbench.cli.studies import open_ledger, view_of
from workbench.errors import UsageError
from workbench.front.objectives import View
from workbench.front.points import Points
from workbench.report.rows import result_rows, rows_csv

if TYPE_CHECKING:
    import pandas as pd

    from workbench.ledger import Ledger

FORMATS = ("csv", "parquet", "json", "html")


@click.command()
@click.argument("study", shell_complete=complete.studies)
@click.argument("kind", type=click.Choice(FORMATS))
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Where to. [default: standard output]"
)
@price_options
@storage_option
def export(study: str, kind: str, output: Path | None, platform: str | None, label_usd: float | None, storage: str | None) -> None:
    """Write all that is known of STUDY (a study file, or its name).

    csv, parquet, json: one row for each checkpoint of each run, and for each that failed or was broken off, with its settings,
    scores, cost from cold and what was spent, at the prices asked for; the unit is in the column's name, and unknown is empty.
    html: the front as one page that needs no network.
    """
    # Binary data can leave a terminal unusable, and a page is megabytes of script.
    if kind in ("parquet", "html") and output is None and sys.stdout.isatty():
        raise UsageError(f"{kind} is not for a terminal. Name a file: --output FILE.")
    with reading():
        ledger = open_ledger(study, storage)
        data = _written(ledger, view_of(ledger.description, platform, label_usd), kind)
    if output is None:
        _to_standard_output(data)
        return
    with writing(output):
        output.write_bytes(data)
    messages.print(f"Wrote {output} ({len(data):,} bytes).", markup=False)
    say_next("open it in a browser." if kind == "html" else f"`workbench front {study}`, or `workbench export {study} html`")


def _written(ledger: Ledger, view: View, kind: str) -> bytes:
    results = ledger.results(running=True)
    if kind == "html":
        return figures.html(figures.front(Points.of(results, view), title=ledger.description["question"])).encode()
    rows = result_rows(results, view, ledger.mlflow_runs)
    if kind == "json":
        return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()
    if kind == "csv":
        return rows_csv(rows).encode()
    file = io.BytesIO()
    _table(rows).to_parquet(file, index=False)
    return file.getvalue()


def _table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the rows with columns of one type each: whole numbers stay whole where some are missing, mixtures become text."""
    import pandas as pd

    table = pd.DataFrame.from_records(list(rows)).convert_dtypes()
    for name in table.select_dtypes("object").columns:
        # Parquet has one type for a column: a setting that is
        # a number in one method and a word in another is text.
        table[name] = table[name].map(str, na_action="ignore").astype("string")
    return table


def _to_standard_output(data: bytes) -> None:
    """Write bytes as they are, whatever the encoding of the terminal. A reader that leaves early is no error."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    messages.on_broken_pipe()
