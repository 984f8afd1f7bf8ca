"""The command `workbench`. Every command is thin: it reads its arguments, calls one function below, and prints.

Data goes to standard output, everything else to standard error. Exit codes: 0 planned end, 1 no finished run, 2 usage,
3 refused, 4 environment, 130 interrupted.

    complete      what the shell completes on Tab
    completion    `workbench completion`
    config        `workbench config`
    confirm       `workbench confirm`
    crew          how many workers a sweep begins with, and what starts them
    dashboard     `workbench dashboard`
    data          `workbench data`
    deploy        `workbench deploy`
    doctor        `workbench doctor`
    export        `workbench export`
    feedback      `workbench feedback`
    forecasting   what the commands that forecast share
    forget        `workbench forget`
    front         `workbench front`
    front_serving  `workbench front --load` and `--against`
    import_       `workbench import`
    init          `workbench init`
    init_recommendation  the study for who had what
    init_study    the study that `workbench init DATA` writes
    init_texts    what every study that it writes has in common, and the methods in them
    label         `workbench label`
    member        which model of a study is meant
    mlflow        `workbench mlflow`
    notebook      the MLflow notebook of a command that trains
    options       where the value of an option comes from, and types of numbers
    package       `workbench package`
    plan          `workbench plan`
    platforms     `workbench platforms`
    prices        `workbench prices`
    printing      what commands print: data, messages, tables
    progress      the lines that a sweep prints while it works
    replay        `workbench replay`
    retry         `workbench retry`
    runs          `workbench runs` and `run`
    serve         `workbench serve`
    shared_options  options that several commands have
    setup         what the commands that train share: their options and what is opened
    spending      what is asked before money is spent, and told after it
    status        `workbench status`
    studies       the study that a command is about: its ledger and its prices
    sweep         `workbench sweep`
    terminal      letters that a terminal lacks
    trust         models of a registry, fetched: whether code that goes with one is run
    up            `workbench up`
    watch         `workbench watch`
    worker        `workbench worker`
    workers       `workbench sweep --workers N`
"""

from __future__ import annotations

import errno
import importlib
import sys
import warnings
from typing import TYPE_CHECKING, NoReturn

import click

from workbench.cli import terminal
from workbench.cli.options import Variable
from workbench.data import cache
from workbench.errors import EnvironmentFault, WorkbenchError, did_you_mean, is_out_of_memory

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMMANDS = {
    "init": ("init", "Write a commented study, to be changed and swept."),
    "data": ("data", "Show what is known of a study's data: sizes, repeats, label noise."),
    "plan": ("plan", "Forecast memory, time and US$ of every model and method."),
    "sweep": ("sweep", "Search for the front of cost and quality; run again to continue."),
    "worker": ("worker", "Join the sweep of a study on one more machine."),
    "confirm": ("confirm", "Run the front again with new seeds, on the held-out test split."),
    "label": ("label", "Write the examples to label next, or take the labels filled in."),
    "retry": ("retry", "Let runs that failed or were broken off be tried again."),
    "forget": ("forget", "Say which results used an example, and drop its text from what is kept."),
    "import": ("import_", "Read results that others published into a study."),
    "replay": ("replay", "Replay searches on recorded runs: what they find and spend."),
    "front": ("front", "Show the front of a study, and the answer to its question."),
    "status": ("status", "Show what runs now, what it has spent, and why it ended."),
    "runs": ("runs", "List the runs of a study."),
    "run": ("runs", "Show one run: its checkpoints, its bill, its settings."),
    "export": ("export", "Write all runs as CSV, Parquet or JSON, or the front as a page."),
    "dashboard": ("dashboard", "Open a study in the browser: its front, its runs, what they cost."),
    "mlflow": ("mlflow", "Serve the MLflow UI on the right store, and say what to open."),
    "deploy": ("deploy", "Put a model of a study into MLflow's registry, as its champion."),
    "package": ("package", "Write a model of a study as PEFT's or Hugging Face's folder."),
    "serve": ("serve", "Answer requests with a deployed model."),
    "watch": ("watch", "Show how a served model does: load, US$, drift, alarms, quality."),
    "feedback": ("feedback", "Join right answers to what a served model predicted."),
    "platforms": ("platforms", "Rank offers for a study: time, US$ and CO2e of a sweep."),
    "up": ("up", "Write what starts a sweep's workers on other machines."),
    "prices": ("prices", "Show the price book: offers with source and date, and your own."),
    "config": ("config", "Show what is set, and where each value comes from."),
    "completion": ("completion", "Print the lines that teach a shell to complete."),
    "doctor": ("doctor", "Show what this machine has, and what to mend."),
}

_GROUPS = {
    "Work": ("init", "data", "plan", "sweep", "worker", "confirm", "label", "retry", "forget", "import", "replay"),
    "See": ("front", "status", "runs", "run", "export", "dashboard", "mlflow"),
    "Use": ("deploy", "serve", "watch", "feedback", "package"),
    "Set up": ("platforms", "up", "prices", "config", "completion", "doctor"),
}
"""How the help lists them; each stands in one group."""


class _Commands(click.Group):
    """A group that imports the module of a command when the command is used: `workbench --help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"workbench.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, "import_" if cmd_name == "import" else cmd_name)  # a word of Python's own
        # The command object lives as long as its module: without
        # this a second look-up would add the options again.
        own = {param.name for param in command.params}
        command.params += [param for param in _everywhere() if param.name not in own]
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        # Click would say only that there is no such command, without the one that was meant.
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS and not ctx.resilient_parsing:
            raise click.UsageError(f"there is no command {args[0]!r}.{did_you_mean(args[0], _COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Click aligns each section by itself; padded to one width they read as one table.
        width = max(map(len, _COMMANDS))
        for title, names in _GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), _COMMANDS[name][1]) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands with what they do, without importing them, as click would."""
        from click.shell_completion import CompletionItem

        named = [CompletionItem(name, help=text) for name, (_, text) in _COMMANDS.items() if name.startswith(incomplete)]
        return named + click.Command.shell_complete(self, ctx, incomplete)


def _everywhere() -> list[click.Option]:
    """Return the options that may stand before the command and after it."""

    def apply(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            from workbench.cli.printing import messages

            name = "quiet" if param.name == "quiet" else "still"
            setattr(messages, name, True)
            # The console outlives the command where one process runs several, as tests do.
            ctx.call_on_close(lambda: setattr(messages, name, False))

    return [
        Variable(names, is_flag=True, envvar=variable, help=text, expose_value=False, callback=apply)
        for names, variable, text in (
            (["--quiet", "-q"], "WORKBENCH_QUIET", "Print data and errors only."),
            (["--no-progress"], "WORKBENCH_NO_PROGRESS", "Nothing that moves: a line where a bar would be."),
        )
    ]


_EPILOG = """Start with `workbench init`, then `plan`, `sweep` and `front`. A study is named by its file, or, once it was swept, by
its name. What the environment, the study or workbench.toml set an option to, `workbench config --origin` shows."""


@click.command(
    cls=_Commands,
    params=_everywhere(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=_EPILOG,
)
@click.version_option(package_name="workbench")
def cli() -> None:
    """Which language model, tuned how, on how many labels, gives the quality you need for the least money?"""


def main() -> NoReturn:
    """Run the command line and exit. Errors that a user can mend are printed without a traceback; bugs keep theirs."""
    if not sys.warnoptions:  # what libraries will change one day is for programmers to know: -W default shows it
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
    terminal.write_what_it_can()
    try:
        cache.make_home()
        # In its standalone mode click would exit by itself, and with exit codes of its own.
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
        # What a user can mend gets a sentence. Any other error
        # of the system is a bug, and keeps its traceback.
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        code = _fail(
            f"{error.strerror}: {error.filename or 'a file'}. Free space or choose a folder you may write to, and run it again.", 4
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        told = str(error).strip().splitlines() or [type(error).__name__]
        code = _fail(f"memory ran out ({told[0].rstrip('.')}). Free some, or use a device with more.", EnvironmentFault.exit_code)
    # Without standalone mode click returns what the command
    # returned, or the code of an early exit such as that of --help.
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, code: int) -> int:
    click.secho("Error: ", fg="red", bold=True, err=True, nl=False, color=None if terminal.is_coloured() else False)
    click.echo(text, err=True)
    return code
