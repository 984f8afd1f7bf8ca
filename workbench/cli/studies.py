"""The study that a command is about: its ledger, prices, and what it shares; and how the next command names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import prices
from workbench.cli.options import placed
from workbench.cli.printing import messages
from workbench.errors import UsageError, did_you_mean
from workbench.front import objectives
from workbench.front.budgets import budget_uses
from workbench.front.objectives import View
from workbench.ledger import Ledger, default_url
from workbench.result.outdated import changes, outdated_text
from workbench.study import load
from workbench.training import SharedFiles

if TYPE_CHECKING:
    from workbench.forecast import CostForecast
    from workbench.prices import Offer
    from workbench.result import Result, Spending
    from workbench.study import Study

BUDGETS = ("max_hours", "max_usd", "max_energy_kwh")
"""The limits that bound a confirmation too."""


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


MOST_TRIALS = 20
"""Of no more runs than these an error lists all numbers."""


def no_such_run(study: str, results: Sequence[Result], wanted: str) -> UsageError:
    """Return the error that a study has no such run, with the run that may have been meant."""
    trials = [r.trial for r in results if r.trial is not None]
    if not trials:
        advice = " It has none yet."
    elif wanted.isdigit():
        known = sorted({*trials})
        told = f"runs are trials {', '.join(map(str, known))}" if len(known) > 1 else f"only run is trial {known[0]}"
        if len(known) > MOST_TRIALS:
            told = f"runs are {len(known):,} of the trials {known[0]} to {known[-1]}"
        advice = f" Its {told}; `workbench runs` lists them. A run has the number of its first trial, so there are gaps."
    else:
        beginnings = (r.run_id[: max(4, len(wanted))] for r in results)
        otherwise = " Give a trial number, or the beginning of an id; `workbench runs` lists them."
        advice = did_you_mean(wanted, beginnings, otherwise=otherwise)
    return UsageError(f"{study} has no run {wanted!r}.{advice}")


def offer_of(platform: str | None, study: Study | Mapping[str, Any]) -> Offer:
    """Return the offer that prices compute, as `prices.offer_of` finds it. An error says where the wrong name stands."""
    with placed("platform"):
        return prices.offer_of(platform, study)


def view_of(description: Mapping[str, Any], platform: str | None = None, label_usd: float | None = None) -> View:
    """Return the view of a study's Results at the prices asked for, by what its ledger says of it."""
    with placed("platform"):
        return objectives.view_of(description, platform, label_usd)


def shared_states(address: str | None, study: str) -> SharedFiles | None:
    """What machines share of a study, by its full name, below an address; None: nothing. Raises as `SharedFiles`."""
    if not address:
        return None
    with placed("states"):
        return SharedFiles(f"{address.rstrip('/')}/{study}")


def limit_flags(limits: Mapping[str, Any]) -> str:
    """Write the limits of the last sweep as flags: ` --trials 3 --max-usd 0.5`. With them a sweep goes on within them."""
    # Fifteen digits: `%g` made 1.23457e+06 of --max-labels 1234567 in a command to be copied.
    return "".join(f" --{name.replace('_', '-')} {most:.15g}" for name, most in limits.items() if most is not None)


def dropped_limits(had: Mapping[str, Any], limits: Mapping[str, Any]) -> str:
    """Say that earlier starts had limits (`limits_had` in `Ledger.description`) that this one has not; empty where it has all.

    `An earlier start had --max-usd 0.002: this one has none.`
    """
    gone = {name: had[name] for name, most in limits.items() if most is None and had.get(name) is not None}
    return f"An earlier start had{limit_flags(gone)}: this one has none." if gone else ""


def within_flags(limits: Mapping[str, Any], spent: Spending, more: CostForecast | None = None) -> str:
    """Write what follows a command that is to go on within the budgets of the last start, if what it will take still fits them:
    their flags; else that it needs higher ones. Empty where there are none.
    """
    budgets = {name: limits.get(name) for name in BUDGETS}
    flags, full = limit_flags(budgets), False
    for bound in budget_uses(spent, budgets):
        likely = more and more.cost(bound.name if bound.name != "usd" else "usd_compute")
        full |= bound.spent is None or bound.spent + (likely.value if likely else 0.0) >= bound.most
    return f"` with a higher limit than{flags}" if full else f"{flags}`"


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
