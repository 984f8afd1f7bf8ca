"""`workbench config`: the value of each setting, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from workbench import settings
from workbench.cli import complete
from workbench.cli.printing import Table, print_json, print_table, say_next
from workbench.cli.shared_options import json_option
from workbench.cli.sweep import sweep
from workbench.ledger import shown  # of a server without its password
from workbench.settings import OPTIONS
from workbench.study import load

_DEFAULTS = {"storage": "sqlite:///optuna.db", "tracking_uri": "sqlite:///mlflow.db"}
"""What an option that was left out comes to, where click does not know it."""


class Set(NamedTuple):
    """A setting: its value, None for no bound, and where that comes from, in words."""

    name: str
    value: Any
    origin: str


@click.command()
@click.argument("study", required=False, shell_complete=complete.study_files)
@click.option("--origin", is_flag=True, help="Show where each value comes from.")
@json_option
def config(study: str | None, origin: bool, as_json: bool) -> None:
    """Show what `workbench sweep STUDY` would go by: the value of each setting, without flags.

    A flag goes before an environment variable (WORKBENCH_MAX_USD for --max-usd), that before what the study states, that before
    workbench.toml in this folder (or where WORKBENCH_SETTINGS says), else [tool.workbench] in its pyproject.toml, and that before
    the default.
    """
    found = list(_settings(study))
    if as_json:
        print_json([each._asdict() for each in found])
        return
    table = Table()
    for name in ("setting", "value", *(("origin",) if origin else ())):
        table.add_column(name)
    for each in found:
        value = "-" if each.value is None else f"{each.value:g}" if isinstance(each.value, float) else str(each.value)
        table.add_row(each.name, value, *((each.origin,) if origin else ()))
    print_table(table)
    if not origin:
        say_next("`workbench config --origin` for where each comes from")
    else:
        say_next(f"`workbench plan {study or 'STUDY'}`")


def _settings(study: str | None) -> Iterator[Set]:
    """Yield every setting as the command `sweep` has it. Raises as that does where a variable or a file is wrong."""
    # The options of `sweep` are resolved as that command would
    # do it, so the order of precedence stands in one place.
    asked = sweep.make_context("sweep", [study or "STUDY"], parent=click.get_current_context().parent)
    file = settings.load().path
    known = load(study) if study else {**settings.OF_STUDIES, "stated": []}
    for name in OPTIONS:
        value, source = asked.params[name], asked.get_parameter_source(name)
        if name in _DEFAULTS:
            value = _DEFAULTS[name] if value is None else shown(value) if "@" in value else value
        if source is ParameterSource.ENVIRONMENT:
            yield Set(name, value, f"environment: {settings.variable(name)}")
            continue
        who = "file" if source is ParameterSource.DEFAULT_MAP else "default"
        # What a study can state goes between the variable
        # and the file, which click does not know of.
        if name in settings.OF_STUDIES:
            value, who = settings.origin(name, None, known)
        yield Set(name, value, {"study": f"study: {study}", "file": f"file: {file}", "default": "default"}[who])
