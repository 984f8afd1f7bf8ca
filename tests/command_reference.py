"""Writes the reference of all commands in `workbench/cli/README.md` from what each command says with `--help`.

    python tests/command_reference.py

`test_rooms.py` fails where the file differs from what this makes.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from workbench.cli import _COMMANDS, _GROUPS, cli

ROOM = Path(__file__).parents[1] / "workbench" / "cli" / "README.md"
BEGIN = "<!-- The reference begins: written by tests/command_reference.py, do not edit. -->"
END = "<!-- The reference ends. -->"
COLUMNS = 98
EVERYWHERE = {"--quiet", "--no-progress", "--help"}
"""Options that all commands have; the room tells them once."""

BOUNDS = (
    (r"\bx>=(\S+)", r"at least \1"),
    (r"\bx>(\S+)", r"above \1"),
    (r"(\S+?)<=x<=1000000000", r"at least \1"),  # a bound against slips, which nobody meets
    (r"(\S+?)<=x<=(\S+)", r"\1 to \2"),
    (r"(\S+?)<x<(\S+)", r"between \1 and \2"),
)
"""How click writes what a number may be, and how it is read."""


def _wrapped(text: str, **more: str) -> str:
    return textwrap.fill(" ".join(text.split()), COLUMNS, break_long_words=False, break_on_hyphens=False, **more)


def _paragraph(text: str) -> str:
    if text.lstrip(" ").startswith("\b\n"):  # click's mark of lines that are to stay as they are
        return f"```\n{textwrap.dedent(text.partition(chr(10))[2]).rstrip()}\n```"
    return _wrapped(text)


def _option(param: click.Option, ctx: click.Context) -> str:
    record = param.get_help_record(ctx)
    assert record, param.name
    names, text = record
    if isinstance(param.type, click.Choice):
        names = f"{', '.join(param.opts)} CHOICE"
        text += "" if "One of " in text else f" One of {', '.join(f'`{choice}`' for choice in param.type.choices)}."
    names = names.replace("INTEGER RANGE", "N")
    whole, found = "", re.findall(r"\[([^\[\]]+)\]", text)
    for said in "; ".join(found).split("; ") if found else ():
        for pattern, plain in BOUNDS:
            said, changed = re.subn(f"^{pattern}$", plain, said)
            if changed:
                break
        whole += f"{'; ' if whole else ''}{said}"
    text = " ".join(re.sub(r"\[[^\[\]]+\]", "", text).split()) + (f" ({whole})" if whole else "")
    return _wrapped(f"- `{names}`" + (f": {text}" if text else ""), subsequent_indent="  ")


def reference() -> str:
    """The commands by group, each with its usage, what it does and its options."""
    return "\n\n".join(_parts()) + "\n"


def _parts() -> Iterator[str]:
    # Names of the help option as everywhere: click keeps the option that a command is first asked for.
    above = click.Context(cli, info_name="workbench", terminal_width=COLUMNS, help_option_names=["-h", "--help"])
    for group, names in _GROUPS.items():
        yield f"### {group}"
        for name in names:
            command = cli.get_command(above, name)
            assert command, name
            ctx = click.Context(command, info_name=name, parent=above)
            pieces = [piece for piece in command.collect_usage_pieces(ctx) if piece != "[OPTIONS]"]
            yield f"#### `{' '.join(['workbench', name, *pieces])}`"
            help_text = re.sub(r"\n{2,}", "\n\n", command.help or _COMMANDS[name][1])
            yield from map(_paragraph, help_text.split("\n\n"))
            own = [
                p for p in command.get_params(ctx) if isinstance(p, click.Option) and not p.hidden and not EVERYWHERE & {*p.opts}
            ]
            if own:
                yield "\n".join(_option(param, ctx) for param in own)


def written(room: str) -> str:
    """The room's text with the reference as it is now. Raises ValueError where the marks are missing."""
    before, rest = room.split(BEGIN)
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    ROOM.write_text(written(ROOM.read_text(encoding="utf-8")), encoding="utf-8")
