"""`workbench replay`: what a search would have found, and spent, on recorded runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from workbench import figures
from workbench.cgroups import whole_cpus
from workbench.cli.options import POSITIVE, Whole, gathered
from workbench.cli.printing import Table, messages, print_json, print_table, print_text, reading, say_next, writing
from workbench.cli.shared_options import json_option
from workbench.errors import UsageError
from workbench.process import command_line
from workbench.quantities import many
from workbench.replay import protocol as protocols
from workbench.replay import tables as files
from workbench.replay.methods import METHODS

_SHOWN = (0.01, 0.1, 0.5, 1.0)
"""Shares of the budget whose regret is printed; --json has more."""

_FEW = 6
"""Fewer pairs than this cannot differ by Wilcoxon's test at 5 %, however they come out."""


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """The options of `replay`, by the names that click gives them.

    Attributes:
        tables: Files of recorded runs.
        methods: What is compared, with commas; None: all.
        seeds: Replays of each method.
        budget: In mean full runs of the table.
        workers: Virtual workers, with commas.
        credit: Which points of a run the front has: `checkpoints` or `finished`.
        cost: How the hypervolume measures cost: `log` or `linear`.
        html: Where the any-time curves are drawn; None: nowhere.
        jobs: Processes; None: one a CPU.
        as_json: Whether data are printed for programs.
    """

    tables: tuple[Path, ...]
    methods: str | None
    seeds: int
    budget: float
    workers: str
    credit: str
    cost: str
    html: Path | None
    jobs: int | None
    as_json: bool


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE…", type=click.Path(path_type=Path))
@click.option("--methods", metavar="NAMES", help="What is compared, with commas. [default: all]")
@click.option("--seeds", type=Whole(min=1), default=30, show_default=True, help="Replays of each method.")
@click.option("--budget", type=POSITIVE, default=15.0, show_default=True, metavar="RUNS", help="In mean full runs of the table.")
@click.option("--workers", default="1,8,64", show_default=True, metavar="COUNTS", help="Virtual workers, with commas.")
@click.option(
    "--credit",
    type=click.Choice(["checkpoints", "finished"]),
    default="checkpoints",
    show_default=True,
    help="Points of the front: every checkpoint, or the last ones of finished runs.",
)
@click.option(
    "--cost", type=click.Choice(["log", "linear"]), default="log", show_default=True, help="How the hypervolume measures cost."
)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw the any-time curves into one HTML file."
)
@click.option("--jobs", type=Whole(min=1), metavar="N", help="Processes. [default: one a CPU]")
@json_option
@gathered(ReplayOptions)
def replay(asked: ReplayOptions) -> None:
    """Replay searches on recorded runs, in virtual time.

    A TABLE is a file of JSON lines, gzipped or not: first {"meta": {"space": …}}, then a run a line: {"config", "curve", "status"}.
    All methods meet the same pool, know what each configuration costs, and pay for all they train, launches and failures included.
    Reported is the regret of the hypervolume against the best that the table holds, and the cost to reach 95 % and 99 % of it.
    """
    protocol = protocols.Protocol(
        methods=_listed(asked.methods, "--methods") if asked.methods is not None else METHODS,
        seeds=asked.seeds,
        budget=asked.budget,
        workers=tuple(_count(word) for word in _listed(asked.workers, "--workers")),
        credit=asked.credit,
        cost=asked.cost,
    )
    with reading("Reading the tables …"):
        read = [files.read(path) for path in asked.tables]
    names = [table.name for table in read]
    # Rows of the record are found by the table's name.
    if len(set(names)) < len(names):
        raise UsageError(f"two tables are called alike: {', '.join(names)}. Give each once.")
    with _bar() as moved:
        record = protocols.replay(read, protocol, processes=asked.jobs or whole_cpus(), progress=moved)
    if asked.html:
        with writing(asked.html):
            figures.write_html(figures.regret(record), asked.html)
        messages.print(f"The curves are drawn in {asked.html}.", markup=False)
    if asked.as_json:
        print_json(record)
    else:
        _show(record)
        say_next(f"`{command_line()} --html FILE` draws the curves" if asked.html is None else f"open {asked.html} in a browser")


def _listed(text: str, option: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise UsageError(f"{option} names nothing: give one name or several with commas between.")
    return words


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise UsageError(f"--workers must be whole numbers above 0 with commas between; got {word!r}.")
    return int(word)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; elsewhere one line."""
    columns = (TextColumn("Replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages, transient=True, disable=not messages.moves) as progress:
        task = progress.add_task("replay", total=None)

        def moved(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            if not done and not messages.moves:
                messages.print(f"Replaying {total} searches …", markup=False)

        yield moved


def _show(record: dict[str, Any]) -> None:
    protocol = record["protocol"]
    for table in record["tables"]:
        for workers in protocol["workers"]:
            rows = [row for row in record["results"] if (row["table"], row["workers"]) == (table["table"], workers)]
            _show_cells(table, workers, rows, protocol)
    for across in record["across"]:
        _show_across(across, protocol)
    print_text(
        f"Mean over {protocol['seeds']} seeds; medians of costs. Area: mean regret over the logarithm of what was spent, from "
        f"{protocol['area_from']:.1%} of the budget. A ratio is a cost to reach 95 % of the best hypervolume over that of "
        f"{protocol['against']}, paired by seed: the median with its 95 % interval; ≥, ≤ or a range where "
        "the budget ended before in some seeds. "
        "The verdict is on the area: Wilcoxon's signed-rank test at 5 %, corrected by Holm."
        + (f" {protocol['seeds']} seeds tell little: 30 are usual." if protocol["seeds"] < _FEW else "")
        + (" Points are the ends of finished runs alone." if protocol["credit"] == "finished" else "")
        + (" The hypervolume is measured in cost, not in its logarithm." if protocol["cost"] == "linear" else "")
    )


def _show_cells(table: dict[str, Any], workers: int, rows: list[dict[str, Any]], protocol: dict[str, Any]) -> None:
    unit = f" {table['cost_unit']}" if table["cost_unit"] else ""
    title = f"{table['table']}: {table['runs']} runs, {many(workers, 'worker')}, budget {table['budget']:,.6g}{unit}"
    shown = Table(title=title)
    shown.add_column("method")
    for name in ("area", *(f"at {share:.0%}" for share in _SHOWN), "reached 95 %", "cost", "of budget", "time", "ratio"):
        shown.add_column(name, justify="right", spare={"time": 4, "of budget": 3, "cost": 1}.get(name, 0))
    for name in (f"than {protocol['against']}", "p"):
        shown.add_column(name, spare=2 if name == "p" else 0)
    for row in rows:
        regrets = [f"{row['regret'][protocol['shares'].index(share)]:.3f}" for share in _SHOWN]
        to_95, versus = row["cost_to_95"], row["versus"]
        cells = [f"{to_95['reached']}/{protocol['seeds']}", "not reached", "", ""]
        if to_95["median"] is not None:
            cells[1:] = [f"{to_95['median']:,.4g}", f"{to_95['share_of_budget']:.1%}", f"{to_95['time']:,.4g}"]
        verdict = (versus["verdict"], f"{versus['p_holm']:.2g}") if versus else ("", "")
        shown.add_row(row["method"], f"{row['area']['mean']:.3f}", *regrets, *cells, _ratio(to_95["ratio"]), *verdict)
    print_table(shown)
    print_text("")


def _ratio(ratio: dict[str, Any] | None) -> str:
    """`≥ 4.2 (3.1 to 5.6)`; what lies without bound above and below is unknown."""
    if ratio is None:
        return ""
    least, most = ratio["least"], ratio["most"]
    if least is None and most is None:
        return "unknown"
    # Where the budget ended in some seeds the median lies between two bounds.
    if least is not None and most is not None and least != most:
        return f"{least:.3g} to {most:.3g}"
    text = f"≥ {least:.3g}" if most is None else f"≤ {most:.3g}" if least is None else f"{least:.3g}"
    return f"{text} ({ratio['low']:.3g} to {ratio['high']:.3g})" if "low" in ratio else text


def _show_across(across: dict[str, Any], protocol: dict[str, Any]) -> None:
    shown = Table(title=f"All tables, {many(across['workers'], 'worker')}")
    shown.add_column("method")
    for name in ("mean rank", "ratio to 95 %", "ratio to 99 %"):
        shown.add_column(name, justify="right")
    for row in sorted(across["methods"], key=lambda row: row["mean_rank"]):
        ratios = [_ratio(row[key]) if row["method"] != protocol["against"] else "" for key in ("ratio_95", "ratio_99")]
        shown.add_row(row["method"], f"{row['mean_rank']:.2f}", *ratios)
    print_table(shown)
    if across["critical_difference"] is not None:
        p = "" if across["friedman_p"] is None else f" Friedman's p is {across['friedman_p']:.2g}."
        print_text(f"Mean ranks that are {across['critical_difference']:.2f} apart differ (Nemenyi's test at 5 %).{p}")
    print_text("")
