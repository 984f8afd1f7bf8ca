"""`workbench completion`: the lines that teach a shell to complete."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

from workbench.cli.printing import messages

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_WORKBENCH_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the lines that teach SHELL to complete commands, options, study files, studies and runs.

    \b
    bash:  eval "$(workbench completion bash)"   in ~/.bashrc
    zsh:   eval "$(workbench completion zsh)"    in ~/.zshrc, below compinit
    fish:  workbench completion fish | source    in ~/.config/fish/config.fish
    """  # noqa: D301  \b is what keeps these lines apart
    known = get_completion_class(shell)
    assert known is not None
    root = click.get_current_context().find_root().command
    # The template, not source(): that asks whether this machine's bash is new enough, of a script that may be for another.
    lines = known(root, {}, "workbench", _VARIABLE)
    click.echo(lines.source_template % lines.source_vars(), nl=False)
    if sys.stdout.isatty():
        messages.print("Where these lines go: `workbench completion --help`.", style="dim", markup=False)
