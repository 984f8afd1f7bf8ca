"""Where the value of an option comes from, and what numbers it can be.

    flag > WORKBENCH_NAME > the study > workbench.toml, else [tool.workbench] of pyproject.toml > default

Flags, variables and defaults are click's; the file is asked where click has come to the default. Four settings
can be stated by a study too (`settings.OF_STUDIES`): of these click gives the flag or the variable alone, and
`settings.stated` does the rest. Variables are named one by one: click's `auto_envvar_prefix` would have one for
each command, and for every flag, `--yes` included.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from workbench import process, settings
from workbench.errors import UsageError
from workbench.settings import OF_STUDIES, OPTIONS, variable

F = TypeVar("F", bound=Callable[..., Any])
Given = TypeVar("Given")
R = TypeVar("R")


class Variable(click.Option):
    """An option that an environment variable can set too."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the value as its type. The error about a wrong value names the place where it stands."""
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            # Click would name the flag, which the user may never have typed.
            source = ctx.get_parameter_source(str(self.name))
            if source is ParameterSource.ENVIRONMENT:
                error.param_hint = f"the environment variable {self.envvar}"
            elif source is ParameterSource.DEFAULT_MAP:
                error.param_hint = f"{self.name} in {settings.load().path}"
            raise


class Setting(Variable):
    """An option that a settings file can set too. Its name is one of `settings.OPTIONS`."""

    def __init__(self, *args: Any, **known: Any) -> None:
        super().__init__(*args, **known)
        assert self.name in OPTIONS
        self.envvar = variable(self.name)

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Return the value and its source: click's, unless that is the default and the settings file has the value."""
        value, source = super().consume_value(ctx, opts)
        # Completion parses resiliently: a broken settings file must not end a Tab with an error.
        if source is ParameterSource.DEFAULT and self.name not in OF_STUDIES and not ctx.resilient_parsing:
            known = settings.load().options.get(str(self.name))
            if known is not None:
                return known, ParameterSource.DEFAULT_MAP
        return value, source


def check_bounds(
    kind: click.IntRange | click.FloatRange, number: float, param: click.Parameter | None, ctx: click.Context | None
) -> None:
    """Raise BadParameter, in words, where a number is outside its type's bounds: click says it by `1<=x<=1000000000`."""
    if kind.min is not None and (number <= kind.min if kind.min_open else number < kind.min):
        kind.fail(f"{number} is too small: give a number {'above' if kind.min_open else 'of at least'} {kind.min}.", param, ctx)
    if kind.max is not None and (number >= kind.max if kind.max_open else number > kind.max):
        kind.fail(f"{number} is too large: give a number {'below' if kind.max_open else 'of at most'} {kind.max}.", param, ctx)


class Whole(click.IntRange):
    """A range of whole numbers, whose errors are in words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number. Raises BadParameter."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        check_bounds(self, number, param, ctx)
        return number


class Finite(click.FloatRange):
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


POSITIVE, AMOUNT, NUMBER = Finite(min=0, min_open=True), Finite(min=0), Finite()
"""Types of options: a finite number above 0, one of at least 0, and any."""

SHARE = Finite(min=0, max=1, min_open=True, max_open=True)
"""A share between 0 and 1, neither of them."""

SHARE_OR_ALL = Finite(min=0, max=1, min_open=True)
"""A share above 0, at most 1."""

COUNT = Whole(1, 10**9)
"""A number of runs or labels: more than a billion of them is a slip of the finger."""

PORT = Whole(1, 65535)
"""A port of TCP's."""


def check_address(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return a database's URL if it looks like one. Whether it leads anywhere is found when it is opened. Raises BadParameter."""
    if value is not None and "://" not in value:
        example = "sqlite:///optuna.db or postgresql+psycopg2://user@host/name"
        raise click.BadParameter(
            f"{process.without_secrets(value)!r} is not a database URL. Use for instance {example}.", ctx, param
        )
    return value


@contextlib.contextmanager
def placed(name: str) -> Iterator[None]:
    """Where a variable or a file has set an option, add that place to the error about its value."""
    try:
        yield
    except UsageError as error:
        ctx = click.get_current_context(silent=True)
        source = ctx.get_parameter_source(name) if ctx else None
        said = {ParameterSource.ENVIRONMENT: "environment", ParameterSource.DEFAULT_MAP: "file"}
        if source in said:
            raise UsageError(f"{settings.place(name, said[source])}{error}") from error
        raise


def gathered(options: Callable[..., Given]) -> Callable[[Callable[[Given], R]], Callable[..., R]]:
    """Give a command its arguments and options as one value.

    Args:
        options: A dataclass with a field for each of them, of the parameter's name. The decorator stands below those
            that declare the parameters.
    """

    def decorate(command: Callable[[Given], R]) -> Callable[..., R]:
        @functools.wraps(command)
        def called(**given: Any) -> R:
            return command(options(**given))

        return called

    return decorate


def setting(*names: str, **known: Any) -> Callable[[F], F]:
    """Declare an option as a `Setting`."""
    return click.option(*names, cls=Setting, **known)
