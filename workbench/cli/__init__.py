"""The command `workbench`. Every command is thin: it reads its arguments, calls one function below, and prints.

Data goes to standard output, everything else to standard error. Exit codes: 0 planned end, 1 no finished run, 2 usage,
3 refused, 4 environment, 130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import sys
import warnings
from typing import NoReturn

import click

from workbench.errors import WorkbenchError, did_you_mean

_COMMANDS = {
    "sweep": ("sweep", "Search a study's space and print the front of cost and quality; run again to continue."),
    "confirm": ("confirm", "Run the front again with new seeds and grade it on the held-out test split."),
    "plan": ("plan", "Build every model with every method of a study, before anything is spent."),
    "platforms": ("platforms", "Rank the offers of the price book for a study: time, US$ and CO2e of a sweep."),
    "front": ("front", "Show the front of a study, and the answer to its question."),
    "runs": ("runs", "List the runs of a study."),
    "run": ("runs", "Show one run: its checkpoints, its bill, its settings."),
    "prices": ("prices", "Show the price book: offers with source and date, and your own over them."),
    "import": ("import_", "Read results that others published into a study."),
    "replay": ("replay", "Replay searches on recorded runs: what they find, and what that costs."),
    "dashboard": ("dashboard", "Open a study in the browser: its front, its runs, what they cost."),
    "mlflow": ("mlflow", "Open the MLflow UI on the right store."),
    "doctor": ("doctor", "Show what this machine has, and what to mend."),
}


class _Commands(click.Group):
    """Imports a command's module when it is used: `workbench --help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"workbench.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, "import_" if cmd_name == "import" else cmd_name)  # a word of Python's own
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            raise click.UsageError(f"there is no command {args[0]!r}.{did_you_mean(args[0], _COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="workbench")
def cli() -> None:
    """Which language model, tuned how, on how many labels, gives the quality you need for the least money?"""


def main() -> NoReturn:
    """Run the command line and exit. Errors that a user can mend are printed without a traceback; bugs keep theirs."""
    if not sys.warnoptions:  # what libraries will change one day is for programmers to know: -W default shows it
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except WorkbenchError as error:
        code = _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Stopped.", err=True)
        code = 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        code = _fail(
            f"{error.strerror}: {error.filename or 'a file'}. Free space or choose a folder you may write to, and run it again.", 4
        )
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, code: int) -> int:
    click.secho("Error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(text, err=True)
    return code
