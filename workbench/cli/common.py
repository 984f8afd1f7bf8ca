"""What several commands share: the stores' options, finding a study, printing."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable

from workbench import prices, process
from workbench.cli import complete, terminal
from workbench.cli.options import Whole, check_address, check_bounds, placed, setting
from workbench.errors import EnvironmentFault, UsageError, did_you_mean
from workbench.front import objectives
from workbench.front.objectives import View
from workbench.ledger import Ledger, default_url
from workbench.meter import host
from workbench.result.outdated import changes, outdated_text
from workbench.study import load
from workbench.training import SharedFiles

if TYPE_CHECKING:
    from workbench.prices import Offer
    from workbench.result import Result
    from workbench.study import Study

F = TypeVar("F", bound=Callable[..., Any])

PIPED_WIDTH = 100_000
"""Columns where nobody looks: a table that is piped or logged is not folded to some terminal's width."""


class _Console(Console):
    """A console that knows whether something may move on it: a person looks, and did not say `--no-progress`."""

    still = False

    @property
    def moves(self) -> bool:
        return self.is_terminal and not self.still and not self.quiet

    def on_broken_pipe(self) -> None:
        """End quietly where nobody reads on, as in `workbench runs | head`; Python must not fail when it flushes at exit either."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)


class _Finite(click.FloatRange):
    """A range of numbers that holds neither `nan` nor `inf`, which no comparison excludes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            float(value)
        except ValueError:
            self.fail(f"{value!r} is no number. Give one without a unit, as 0.5 or 2e-4.", param, ctx)
        check_bounds(self, float(value), param, ctx)
        # Click's own range lets `nan` through, as every comparison with it is false.
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        # Of a number without bounds click's help would say "x<=None", and leaves nothing out but an empty text.
        return super()._describe_range() if self.min is not None or self.max is not None else ""


POSITIVE, AMOUNT, NUMBER = _Finite(min=0, min_open=True), _Finite(min=0), _Finite()
"""Types of options: a finite number above 0, one of at least 0, and any."""

SHARE = _Finite(min=0, max=1, min_open=True, max_open=True)
"""A share between 0 and 1, neither of them."""

SHARE_OR_ALL = _Finite(min=0, max=1, min_open=True)
"""A share above 0, at most 1."""


COUNT = Whole(1, 10**9)
"""A number of runs or labels: more than a billion of them is a slip of the finger."""

PORT = Whole(1, 65535)
"""A port of TCP's."""

_BLANKS_AT_END = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")
"""Blanks at the end of a line, with the escape sequences after them that end a style."""


class Table(RichTable):
    """A table without lines. Its cells are shown as they are: nothing in a name or a reason is markup, and nothing is cut.

    Args:
        title: The title above it.
        narrow: Whether columns are one space apart, not two.
        fold: Whether cells are folded into the width of the terminal, as prose is. Otherwise rows stay whole, however long,
            since names are to be typed again and numbers to be read.
    """

    def __init__(self, *, title: str | None = None, narrow: bool = False, fold: bool = False) -> None:
        padding = (0, 1, 0, 0) if narrow else (0, 1)
        super().__init__(
            box=None, padding=padding, pad_edge=False, header_style="bold", title=title, title_justify="left", title_style="bold"
        )
        self.fold = fold

    def add_column(self, header: RenderableType = "", *args: Any, **options: Any) -> None:
        """Add a column."""
        # Rich cuts what is too long with an ellipsis, and a name that is cut cannot be typed again.
        known: dict[str, Any] = {"overflow": "fold", "no_wrap": not self.fold}
        super().add_column(header, *args, **(known | options))

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row of texts."""
        # Square brackets in a name or a reason would be read as markup, and vanish.
        super().add_row(*(escape(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def print_table(table: Table) -> None:
    """Print a table on standard output in its natural width. The terminal breaks lines that it has no room for."""
    natural = _natural_width(table)
    wide = console if table.fold or natural <= console.width else _Console(highlight=False, emoji=False, width=natural)
    # Rich pads every line to the width of the table. Such
    # blanks make a terminal fold lines that would fit.
    with wide.capture() as drawn:
        wide.print(table)
    console.out("\n".join(_BLANKS_AT_END.sub(r"\1", line) for line in drawn.get().splitlines()), highlight=False)


def fits(table: Table) -> bool:
    """Return whether the lines of a table are no longer than those of standard output."""
    return _natural_width(table) <= console.width


def _natural_width(table: Table) -> int:
    return table.__rich_measure__(console, console.options.update(max_width=PIPED_WIDTH)).maximum


def _console(*, stderr: bool) -> _Console:
    plain = _Console(stderr=stderr, highlight=False, emoji=False)  # an offer's name can have a `:x:` in it
    return plain if plain.is_terminal else _Console(stderr=stderr, highlight=False, emoji=False, width=PIPED_WIDTH)


console = _console(stderr=False)
"""Standard output: data."""

messages = _console(stderr=True)
"""Standard error: everything else."""


@contextlib.contextmanager
def waiting(text: str) -> Iterator[Callable[[str], None]]:
    """Say what is waited for: beside something that moves on a terminal, once elsewhere.

    Yields:
        A function that says how far it is.
    """
    if messages.moves:
        with messages.status(text) as status:
            yield status.update
    else:
        messages.print(text)
        yield lambda text: None


@contextlib.contextmanager
def reading(text: str = "Reading the ledger …") -> Iterator[None]:
    """Say what is waited for if it takes a second only: beside something that moves on a terminal, not at all elsewhere."""
    with messages.status(text) if messages.moves else contextlib.nullcontext():
        yield


def say_next(text: str, *, as_json: bool = False) -> None:
    """Say on standard error which command comes next. Nothing is said where a program reads."""
    if not as_json:
        messages.print(f"Next: {text}", style="dim", markup=False, soft_wrap=True)  # a command that is copied is one line


_BUSY_SHARE = 0.25
"""The share of the CPUs in use from which a machine is busy. With one CPU of two in use by others,
a run on both can take many times as long.
"""


def warn_if_busy() -> bool:
    """Return whether others use this machine's processors now, and say then that times may come out too long.

    The load average covers the last minute, in which another sweep may have ended. Where it is high, the processors are
    looked at for half a second.
    """
    cpus = process.cpus()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    # The load alone still counts a sweep that has just
    # ended: the machine was then called busy for a minute.
    if load > _BUSY_SHARE * cpus and _cpus_in_use() > _BUSY_SHARE * cpus:
        text = f"This machine is busy (load {load:.1f} on {cpus} CPUs): times can come out many times too long."
        messages.print(text, style="yellow", markup=False)
        return True
    return False


def _cpus_in_use() -> float:
    """Return how many CPUs of this machine are busy during the next half second."""
    began, busy = time.perf_counter(), host.cpu_time().busy_s
    time.sleep(0.5)
    return (host.cpu_time().busy_s - busy) / (time.perf_counter() - began)


def storage_option(command: F) -> F:
    """Declare `--storage URL`: where the ledger is."""
    text = "The ledger's database. [default: sqlite:///optuna.db here]"
    return setting("--storage", metavar="URL", callback=check_address, help=text)(command)


def tracking_option(command: F) -> F:
    """Declare `--tracking-uri URI`: where MLflow keeps its runs."""
    return setting("--tracking-uri", metavar="URI", help="MLflow's store. [default: sqlite:///mlflow.db here]")(command)


def states_option(command: F) -> F:
    """Declare `--states ADDRESS`: where machines find each other's states, weights and models to start from."""
    text = (
        "Where machines share states, weights and models that others start from: s3://bucket/folder, file:///shared/folder, … "
        "[default: each keeps its own]"
    )
    return setting("--states", metavar="ADDRESS", help=text)(command)


def shared_states(address: str | None, study: str) -> SharedFiles | None:
    """What machines share of a study, by its full name, below an address; None: nothing. Raises as `SharedFiles`."""
    if not address:
        return None
    with placed("states"):
        return SharedFiles(f"{address.rstrip('/')}/{study}")


def price_options(command: F) -> F:
    """Declare `--platform` and `--label-usd`: the prices of a view."""
    label = setting("--label-usd", type=AMOUNT, metavar="USD", help="Price of one labelled example. [default: the study's]")
    text = "Offer that prices compute: platform, platform:instance, or paid: each as it was. [default: the study's]"
    return setting("--platform", metavar="NAME", shell_complete=complete.platforms, help=text)(label(command))


LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""


def listening_options(port: int) -> Callable[[F], F]:
    """Declare `--port` and `--host`: where a page is served. `port` is the default port."""

    def decorate(command: F) -> F:
        command = click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help="Address to listen on; others than this machine's own show your runs to the network.",
        )(command)
        return click.option("--port", type=PORT, default=port, show_default=True, help="Port to listen on.")(command)

    return decorate


def json_option(command: F) -> F:
    """Declare `--json`: data for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def ledger_url(storage: str | None) -> str:
    """Return the ledger's URL: the option's, else that of the file in this folder."""
    return storage or default_url(Path.cwd())


def open_ledger(study: str | None, storage: str | None, *, read_only: bool = True) -> Ledger:
    """Return the ledger of a study by its file, its name or the stem of its file; that of the newest study when none is named."""
    if study and (study.endswith(".py") or Path(study).is_file()):
        loaded = load(study)
        return Ledger.find(loaded.name, ledger_url(storage), path=study, read_only=read_only, study=loaded)
    ledger = Ledger.find(study, ledger_url(storage), read_only=read_only)
    others = () if study == ledger.name else ledger.others
    others = [name for name in others if study is None or name.rsplit("-", 1)[0] == study]
    if others:
        which = "study" if study is None else "form of it"
        messages.print(f"{ledger.name}, the newest {which} here; there are also {', '.join(others)}.", style="dim", markup=False)
    return ledger


def tell_inputs(ledger: Ledger, results: Sequence[Result]) -> None:
    """Say which Results have changed inputs, and which inputs have changed since the last sweep."""
    if text := outdated_text(results):
        messages.print(text, style="yellow", markup=False)
    tell_changes(ledger)


def tell_changes(ledger: Ledger) -> None:
    """Say which inputs of the study have changed since its last sweep, or that this cannot be seen."""
    if since := ledger.changed_since:
        messages.print(f"Since the last sweep {changes(since)}.", style="yellow", markup=False)
    if ledger.unseen:
        text = f"Whether the study's inputs are what they were at its last sweep cannot be seen: {ledger.unseen}"
        messages.print(text, style="yellow", markup=False)


def no_such_run(study: str, results: Sequence[Result], wanted: str) -> UsageError:
    """Return the error that a study has no such run, with the run that may have been meant."""
    trials = [r.trial for r in results if r.trial is not None]
    known = {r.run_id for r in results}
    if not trials:
        advice = " It has none yet."
    elif wanted.isdigit():
        known_trials = f"trials go from {min(trials)} to {max(trials)}" if len(set(trials)) > 1 else f"only trial is {trials[0]}"
        advice = f" Its {known_trials}; `workbench runs` lists them."
    else:
        near = did_you_mean(wanted, (run_id[: max(4, len(wanted))] for run_id in known))
        advice = near if " Did you" in near else " Give a trial number, or the beginning of an id; `workbench runs` lists them."
    return UsageError(f"{study} has no run {wanted!r}.{advice}")


def offer_of(platform: str | None, study: Study | Mapping[str, Any]) -> Offer:
    """Return the offer that prices compute, as `prices.offer_of` finds it. An error says where the wrong name stands."""
    with placed("platform"):
        return prices.offer_of(platform, study)


def view_of(description: Mapping[str, Any], platform: str | None = None, label_usd: float | None = None) -> View:
    """Return the view of a study's Results at the prices asked for, by what its ledger says of it."""
    with placed("platform"):
        return objectives.view_of(description, platform, label_usd)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the system, while a file that was asked for is written, into EnvironmentFault."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be written: {error.strerror}. Name another file.") from error


def print_json(record: Any) -> None:
    """Print one JSON document on standard output."""
    print_text(json.dumps(record, indent=2, ensure_ascii=not terminal.is_unicode()))


def print_text(text: str) -> None:
    """Print text on standard output as it is: nothing in it is markup, and no line is folded."""
    console.print(text, markup=False, soft_wrap=True)


def limit_flags(limits: Mapping[str, Any]) -> str:
    """Write the limits of the last sweep as flags: ` --trials 3 --max-usd 0.5`. With them a sweep goes on within them."""
    # Fifteen digits: `%g` made 1.23457e+06 of --max-labels 1234567 in a command to be copied.
    return "".join(f" --{name.replace('_', '-')} {most:.15g}" for name, most in limits.items() if most is not None)


def retry_command(path: str, released: Sequence[Result], limits: Mapping[str, Any]) -> str:
    """Write the command that takes up runs which were released to be tried again, given the last Result of each."""
    # A sweep does not make replicates: only a confirmation takes those up.
    verb = "confirm" if all(r.replicate_of is not None for r in released) else "sweep"
    return f"`workbench {verb} {path}{limit_flags(limits) if verb == 'sweep' else ''}`"


def typed_name(ledger: Ledger, study: str | None) -> str:
    """Return the name by which a study is given to the next command: as it was, or, of the newest, the stem of its file."""
    return study or ledger.name.rsplit("-", 1)[0]


def study_path(ledger: Ledger) -> str | None:
    """Return the file of a study, relative to this folder where it lies below it; None of a study that was imported."""
    path = ledger.description.get("path")
    if path is None or not Path(path).is_relative_to(Path.cwd()):
        return path
    return str(Path(path).relative_to(Path.cwd()))


def load_study(path: str) -> Study:
    """Return the study of a file."""
    return load(path)
