"""A language model writes its answer behind a prompt: decoders and encoder-decoders, asked or
tuned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.errors import UsageError
from workbench.formulations.base import (
    GREEDY,
    LIKELIHOOD,
    LIKELIHOOD_PER_BYTE,
    MUTUAL_INFORMATION,
    Example,
    Formulation,
    Reach,
    Rows,
    Shots,
    padded,
)
from workbench.objectives import NO_TARGET, Generate, Inference, Likelihood, Objective, Tokens
from workbench.objectives.likelihood import chosen

Message = Mapping[str, str]
"""A turn of a conversation: `role` (system, user or assistant) and `content`."""

ENDLESS = 1_000_000
"""A tokeniser that states a longer `model_max_length` than this states none: transformers puts 1e30
where it knows nothing.
"""


@dataclass(frozen=True)
class TextGeneration(Formulation):
    """A prompt is answered by text. Where a model has a chat template, the prompt is the user's
    turn in it.

    A training row begins with the very tokens that the model is asked with, and every answer ends
    in a token that ends it when asked.

    Attributes:
        prompt: The prompt of an example, or the messages before its answer (`role`, `content`). A
            model with a chat template learns every turn of the assistant among them.
        answer: The answer of an example.
        decoder: Whether the model is a decoder; otherwise it is an encoder-decoder.
        max_new_tokens: The most tokens of an answer, its end token included.
        choices: The answers that may be given; empty: any text.
        read: How one of those is found: one of `READINGS`.
        neutral: The prompt of an example without content; empty: there is none.
    """

    prompt: Callable[[Example], str | Sequence[Message]]
    answer: Callable[[Example], str]
    decoder: bool
    max_new_tokens: int
    choices: tuple[str, ...] = ()
    read: str = GREEDY
    neutral: str = ""

    @property
    def auto_class(self) -> str:
        return "AutoModelForCausalLM" if self.decoder else "AutoModelForSeq2SeqLM"

    @property
    def takes_shots(self) -> bool:
        return True

    @property
    def objective(self) -> Objective:
        return Tokens(shift=self.decoder)

    def reading(self, how: str) -> TextGeneration:
        if how != GREEDY and not self.choices:
            raise UsageError(f"read={how!r} chooses among a few answers, and this task allows any text. Leave it out.")
        if how == MUTUAL_INFORMATION and not self.neutral:
            raise UsageError(f"read={how!r} needs a prompt without content, and this task has none. Take {LIKELIHOOD!r}.")
        return dataclasses.replace(self, read=how)

    def inference(self, processor: Any) -> Inference:
        if self.read != GREEDY:
            told = tuple(self._told(choice, processor) for choice in self.choices)
            neutral = self._ids(_turns(self.neutral), processor) if self.read == MUTUAL_INFORMATION else ()
            return Likelihood(told, processor.pad_token_id, tuple(neutral))
        ends = dict.fromkeys((_end(processor), processor.eos_token_id))
        allowed = tuple((*self.answer_ids(choice, processor),) for choice in self.choices)
        most = max((len(ids) for ids in allowed), default=self.max_new_tokens)
        return Generate(most, tuple(end for end in ends if end is not None), processor.pad_token_id, allowed)

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        """Rows of prompts, or of prompts with their answers as targets.

        An answer is never cut. A row that is longer than the model takes is left out: it teaches
        nothing, and its prediction is empty.

        Raises:
            UsageError: No row is short enough, or the model's chat template refuses a conversation.
        """
        most = processor.model_max_length if processor.model_max_length < ENDLESS else None
        ids: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        of: list[int] = []
        for i, example in enumerate(examples):
            before = shots(example) if callable(shots) else shots
            row, targets = self._row(example, processor, before, answers=answers)
            # A decoder that is asked needs room for what it will write.
            size = len(row) + (self.max_new_tokens if self.decoder and not answers else 0)
            if most is not None and max(size, len(targets)) > most:
                continue
            of.append(i)
            ids.append(np.array(row, np.int32))
            labels.append(np.array(targets, np.int32))
        if examples and not of:
            raise UsageError(
                f"none of {len(examples):,} prompts is short enough for the {most:,} tokens that this model takes. Choose a model "
                "for longer texts, fewer shots or shorter texts."
            )
        items = np.array([int((row != NO_TARGET).sum()) for row in labels], np.int64)
        sizes = np.array([len(row) + (0 if self.decoder else len(label)) for row, label in zip(ids, labels, strict=True)], np.int64)
        columns = {"input_ids": ids, **({"labels": labels} if answers else {})}
        return Rows(columns, np.array(of, np.int64), items, padded(processor, "left" if self.decoder else "right"), sizes=sizes)

    def question(self, example: Example) -> str:
        return "\n".join(turn["content"] for turn in _turns(self.prompt(example)))

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[np.ndarray], processor: Any) -> list[Any]:
        """The text of each answer, without blanks around it; "" for examples that were too long to
        be asked.
        """
        found = [""] * len(examples)
        if self.read == GREEDY:
            texts = processor.batch_decode(list(outputs), skip_special_tokens=True)
        else:
            texts = [text for text, _ in self.likeliest(outputs)]
        for i, text in zip(rows.example.tolist(), texts, strict=True):
            found[i] = text.strip()
        return found

    def likeliest(self, outputs: Sequence[np.ndarray]) -> list[tuple[str, float]]:
        """The choice with the highest log-likelihood in each row, and its probability if one of the
        choices is right.
        """
        sizes = np.array([max(1, len(choice.encode())) for choice in self.choices])
        best = [chosen(logs, sizes if self.read == LIKELIHOOD_PER_BYTE else None) for logs in outputs]
        return [(self.choices[i], confidence) for i, confidence in best]

    def reach(self, examples: Sequence[Example], processor: Any) -> Reach:
        """Answers that are short enough, behind prompts that the model can read."""
        missed = {f"longer than {self.max_new_tokens} tokens": 0, "behind a prompt that is longer than the model takes": 0}
        long, unread = missed
        read = set(self.encode(examples, processor, answers=False).example.tolist()) if examples else set()
        for i, example in enumerate(examples):
            if i not in read:
                missed[unread] += 1
            elif not self.choices and len(self.answer_ids(self.answer(example), processor)) > self.max_new_tokens:
                missed[long] += 1
        missed = {reason: count for reason, count in missed.items() if count}
        return Reach(len(examples), missed, "Allow longer answers, or take another model." if missed else "")

    def _row(self, example: Example, processor: Any, shots: Sequence[Example], *, answers: bool) -> tuple[list[int], list[int]]:
        """Token ids of an example, and its targets: a decoder has one for each token, an
        encoder-decoder those of its answer.
        """
        turns = [turn for shot in shots for turn in (*_turns(self.prompt(shot)), _turn("assistant", self.answer(shot)))]
        own = len(turns)
        turns += _turns(self.prompt(example))
        if not answers or not self.decoder or not processor.chat_template:
            asked = self._ids(turns, processor)
            given = self.answer_ids(self.answer(example), processor) if answers else []
            return (asked + given, [NO_TARGET] * len(asked) + given) if self.decoder else (asked, given)
        ids: list[int] = []
        labels: list[int] = []
        for place, turn in enumerate([*turns, _turn("assistant", self.answer(example))]):
            if place < own or turn["role"] != "assistant":
                continue
            asked, given = self._ids(turns[:place], processor), self.answer_ids(turn["content"], processor)
            # Some templates render earlier turns otherwise than they were written (without their
            # thoughts, say): then only the last answer is learned.
            if asked[: len(ids)] != ids:
                labels = [NO_TARGET] * len(ids)
            labels = [*labels[: len(asked)], *[NO_TARGET] * (len(asked) - len(ids)), *given]
            ids = [*asked, *given]
        return ids, labels

    def _ids(self, turns: Sequence[Message], processor: Any) -> list[int]:
        """Tokens that a model reads before it answers a conversation."""
        if processor.chat_template:
            text = _templated(turns, processor)
            # The template has written the special tokens already.
            return list(processor(text, add_special_tokens=False, verbose=False)["input_ids"])
        ids = list(processor(_written(turns), verbose=False)["input_ids"])
        # Some tokenisers end every text; a decoder's prompt must not end before its answer.
        return ids[:-1] if self.decoder and ids and ids[-1] == processor.eos_token_id else ids

    def answer_ids(self, answer: str, processor: Any) -> list[int]:
        """Tokens of an answer as it is written behind a prompt, its end token included."""
        # In byte-level vocabularies the blank in front of a word is part of its token, so it
        # belongs to the answer.
        text = answer if processor.chat_template or not self.decoder else f" {answer}"
        ids = list(processor(text, add_special_tokens=False, verbose=False)["input_ids"])
        return [*ids, _end(processor)]

    def _told(self, choice: str, processor: Any) -> tuple[int, ...]:
        """Tokens by which a choice is weighed against others: all but its end."""
        ids = self.answer_ids(choice, processor)[:-1]
        if not ids:
            raise UsageError(
                f"the answer {choice!r} has no token of this model, so that it has no likelihood. Give it another text."
            )
        return tuple(ids)


def text_generation(
    kind: str,
    task: object,
    prompt: Callable[[Example], str | Sequence[Message]],
    answer: Callable[[Example], str],
    *,
    max_new_tokens: int,
    choices: Sequence[str] = (),
) -> TextGeneration:
    """The formulation of a task by text, for the kinds of model that write.

    Args:
        kind: The kind of model, as `Task.formulation` gets it.
        task: The task, for errors.
        prompt: As in `TextGeneration`.
        answer: As in `TextGeneration`.
        max_new_tokens: As in `TextGeneration`.
        choices: As in `TextGeneration`.

    Raises:
        UsageError: This kind of model writes no text.
    """
    if kind not in ("decoder", "encoder-decoder"):
        raise UsageError(f"a model of kind {kind!r} cannot do {type(task).__name__}: it writes no text. Choose a language model.")
    return TextGeneration(prompt, answer, kind == "decoder", max_new_tokens, tuple(choices))


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _turns(prompt: str | Sequence[Message]) -> list[Message]:
    return [_turn("user", prompt)] if isinstance(prompt, str) else list(prompt)


def _templated(turns: Sequence[Message], processor: Any) -> str:
    """A conversation by the model's own template. Raises UsageError where that refuses it."""
    try:
        return str(processor.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True))
    except Exception as error:  # jinja's, by which a template refuses a system's turn, say, or two of one role in a row
        roles = ", ".join([*(turn["role"] for turn in turns[:8]), *(["…"] if turns[8:] else [])])
        why = (str(error).splitlines() or [""])[0][:200]
        raise UsageError(
            f"this model's chat template takes no conversation of these turns: {roles} ({why}). Write it with others, or choose "
            "another model."
        ) from error


def _written(turns: Sequence[Message]) -> str:
    """A conversation as plain text, for models that know no roles: answers right behind their
    prompts, then an empty line.
    """
    written = ""
    for turn in turns:
        apart = "" if not written or written.endswith("\n") else "\n"
        written += f" {turn['content']}\n\n" if turn["role"] == "assistant" else f"{apart}{turn['content']}"
    return written


def _end(processor: Any) -> int:
    """The token that ends an answer: the first that the chat template puts behind one, or else the
    tokeniser's own.
    """
    if processor.chat_template:
        mark = "4f1c9a"  # stands in no template, as "x" does in <|endoftext|>
        turns = [_turn("user", mark), _turn("assistant", mark)]
        text = processor.apply_chat_template(turns, tokenize=False)
        # The last mark is the answer's; the user's turn before it has one as well.
        behind = processor(text[text.rindex(mark) + len(mark) :], add_special_tokens=False)["input_ids"]
        if behind:
            return int(behind[0])
    if processor.eos_token_id is None:
        raise UsageError("the tokeniser of this model has no end token, so no answer would ever end. Choose another model.")
    return int(processor.eos_token_id)
