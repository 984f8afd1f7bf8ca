"""Texts that answer texts: conversations of one or more turns, and translations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench.data import values
from workbench.data.files import wrong
from workbench.data.forms import Example
from workbench.data.tables import Columns, LeftOut, Mistyped, Table, folded, group_column, group_of, pick, text_of

ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "prompter": "user"}
"""What the speakers of a conversation are called elsewhere."""

KNOWN = ("system", "user", "assistant", "tool")

LAYOUTS = (("messages",), ("conversations",), ("prompt", "completion"), ("instruction", "output"))
"""Columns by which conversations are known, the first match counts; next to `instruction` there may
be an `input`.
"""


@dataclass(frozen=True)
class Conversations(Table):
    """Prompts with their answers: examples are `{"id", "messages", "group"?}`, as chat templates
    take messages.

    The last message is the assistant's. Columns are `messages` (`role`, `content`), `conversations`
    (`from`, `value`), `prompt` and `completion` (texts, or messages), or `instruction`, `input` and
    `output`.

    Attributes:
        prompt: Column of prompts; None: known by the names above.
        completion: Column of their answers; to be given together with `prompt`.
        group: Column of groups, by which scores are told apart; None: `group`, where there is one.
    """

    answerable: ClassVar[bool] = True

    prompt: str | None = None
    completion: str | None = None
    group: str | None = None

    def columns(self, names: Sequence[str], file: str) -> Columns:
        group = group_column(names, file, self.group)
        if self.prompt is not None or self.completion is not None:
            prompt = pick(names, file, "prompt", self.prompt, ("prompt",))
            return {"turns": [prompt, pick(names, file, "completion", self.completion, ("completion",))], "group": group}
        layout = next((each for each in LAYOUTS if all(name in names for name in each)), None)
        if layout is None:
            wanted = "; or ".join(" and ".join(map(repr, each)) for each in LAYOUTS)
            raise wrong(
                f"{file}: has the columns {', '.join(map(repr, names[:12]))[:200]}; of conversations they are {wanted}. Name "
                'yours: prompt="…", completion="…".'
            )
        more = ["input"] if layout[0] == "instruction" and "input" in names else []
        return {"turns": [*layout[:1], *more, *layout[1:]], "group": group}

    def example(self, row: Mapping[str, Any], columns: Columns) -> Example:
        first, *others = columns["turns"]
        turns = _turns(row, first, "user")
        if others[1:]:
            more = values.plain(row.get(others[0]))
            turns[-1]["content"] += f"\n\n{more}" if isinstance(more, str) and more.strip() else ""
        for column in others[-1:]:
            turns += _turns(row, column, "assistant")
        if turns[-1]["role"] != "assistant":
            raise LeftOut("without an answer at the end")
        return {"messages": turns, **group_of(row, columns["group"])}

    def key(self, example: Example) -> str:
        # Without the answer: a prompt must not be learned on one side and asked on another.
        return json.dumps([(turn["role"], folded(turn["content"])) for turn in example["messages"][:-1]])

    def row(self, example: Example) -> dict[str, str] | None:
        """An answered example as a row of the answers beside the data; None of a conversation, for which a row has no place."""
        asked, *others = example["messages"]
        if asked["role"] != "user" or [turn["role"] for turn in others] != ["assistant"]:
            return None
        return {self.prompt or "prompt": asked["content"], self.completion or "completion": others[0]["content"]}


@dataclass(frozen=True)
class Translations(Table):
    """Texts in two languages: examples are `{"id", "source", "target", "group"?}`.

    Attributes:
        source: Column of the text to translate, or the name of its language in a `translation`
            column; None: `source`.
        target: The same for the translation; None: `target`.
        group: Column of groups, by which scores are told apart; None: `group`, where there is one.
    """

    source: str | None = None
    target: str | None = None
    group: str | None = None

    def columns(self, names: Sequence[str], file: str) -> Columns:
        group = group_column(names, file, self.group)
        if "translation" in names and self.source not in names:
            if self.source is None or self.target is None:
                raise wrong(f'{file}: has a column \'translation\'. Say which languages are meant: source="en", target="de".')
            return {"both": "translation", "group": group}
        sides = {side: pick(names, file, side, getattr(self, side), (side,)) for side in ("source", "target")}
        return {**sides, "group": group}

    def example(self, row: Mapping[str, Any], columns: Columns) -> Example:
        both = row
        if "both" in columns:
            both = row.get("translation") or {}
            if not isinstance(both, Mapping):
                raise Mistyped(f"'translation' must hold a text for each language, got {str(both)[:60]!r}.")
        names = {side: columns.get(side) or str(getattr(self, side)) for side in ("source", "target")}
        return {side: text_of(both, name) for side, name in names.items()} | group_of(row, columns["group"])

    def key(self, example: Example) -> str:
        return folded(example["source"])


def _turns(row: Mapping[str, Any], column: str, role: str) -> list[dict[str, str]]:
    """The messages of a column; a text is a single message of that role."""
    value = values.plain(row.get(column))
    if not isinstance(value, list):
        if isinstance(value, str) and value.lstrip().startswith("[{") and column in ("messages", "conversations"):
            raise Mistyped(f"{column!r} is text that looks like JSON. Write it as lists and objects.")
        return [{"role": role, "content": text_of(row, column)}]
    if not value:
        raise LeftOut(f"without a message in {column!r}")
    return [_turn(turn, column) for turn in value]


def _turn(turn: Any, column: str) -> dict[str, str]:
    if not isinstance(turn, Mapping):
        raise Mistyped(f"{column!r} must hold messages with 'role' and 'content', got {str(turn)[:60]!r}.")
    said = str(turn.get("role", turn.get("from")))
    role = ROLES.get(said, said)
    if role not in KNOWN:
        raise Mistyped(f"{column!r} has a message of {said!r}; known are {', '.join((*KNOWN, *ROLES))}. Call the speaker so.")
    return {"role": role, "content": text_of(turn, "content" if "content" in turn else "value")}
