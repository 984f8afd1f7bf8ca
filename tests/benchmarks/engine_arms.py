"""The arms of `engine.py`: three loops that others write, and `workbench.training.train` as it is or with one part taken out.

Each trains one job from the same initial weights and says what that took. `N1` is transformers' Trainer with rows padded to
`max_length` and MLflow's callback, as tutorials have it; `N2` a well-written loop (dynamic padding, fused AdamW, records of a run
written at once); `N3` is N2 with batches of similar length, which are other batches, and without records. A language model is
tuned by TRL's `SFTTrainer` too, where TRL is installed: rows padded to the longest of a batch, records as N1's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from workbench import Recipe, methods, training
from workbench.data import bases, models
from workbench.meter import Meter
from workbench.training import batches, encoding, features, passes, tuning
from workbench.training.batches import one_batch, step_examples, steps_for
from workbench.usage import Work

EVALUATION_BATCH = 32
"""Rows of a batch of an evaluation in the arms that others write."""


@dataclass(frozen=True)
class Job:
    """One recipe, and what every arm of it starts from.

    Attributes:
        name: What the record calls it.
        profile: Its length profile, or `generation`.
        recipe: The recipe; its model is a folder.
        initial: The weights that learn, before the first step, by name.
    """

    name: str
    profile: str
    recipe: Recipe
    initial: Mapping[str, torch.Tensor]

    @property
    def writes(self) -> bool:
        """Whether it is a language model that writes answers."""
        return self.recipe.formulation.auto_class == "AutoModelForCausalLM"

    @property
    def batches(self) -> list[np.ndarray]:
        """The examples of each optimiser step, as the product draws them."""
        count, size = len(self.recipe.task.splits().train), self.recipe.batch_size
        return [step_examples(i, size, count, 0) for i in range(steps_for(self.recipe.epochs, size, count))]


@dataclass
class Taken:
    """What one run of one arm took.

    Attributes:
        wall: Seconds from nothing at hand to the scores.
        steps: Of these, the seconds of optimiser steps and of the evaluation.
        cpu: CPU seconds of the process, in all.
        peak: Bytes by which the highest resident memory lay above that at the start; None: unknown.
        loss: Loss on the dev set.
        tokens: Tokens of rows that passed the model, padding excluded.
        padded: With padding.
        latency: Seconds that measuring the latency of single predictions took; in `wall` alone.
    """

    wall: float = 0.0
    steps: float = 0.0
    cpu: float = 0.0
    peak: int | None = None
    loss: float = float("nan")
    tokens: int = 0
    padded: int = 0
    latency: float = 0.0

    def count(self, lengths: Sequence[int], width: int | None = None) -> None:
        """Add a batch of rows of these lengths, padded to a width."""
        self.tokens += int(sum(lengths))
        self.padded += len(lengths) * int(width or max(lengths))


def _status(name: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
    return None


@contextlib.contextmanager
def timed() -> Iterator[Taken]:
    """What a block takes: wall-clock and CPU seconds, and memory."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: forget the peak so far
    taken, resident = Taken(), _status("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    yield taken
    taken.wall, taken.cpu = time.perf_counter() - began, time.process_time() - cpu
    highest = _status("VmHWM")
    taken.peak = None if highest is None or resident is None else max(0, highest - resident)


# The loops that others write


def _model(job: Job) -> torch.nn.Module:
    """The job's model as a tutorial makes it, with the initial weights of all arms."""
    import transformers

    recipe, settings = job.recipe, job.recipe.formulation.settings
    auto = getattr(transformers, job.recipe.formulation.auto_class)
    model = auto.from_pretrained(recipe.model, dtype=torch.float32, **settings)
    head = {name for name, _ in model.named_parameters() if name.startswith("classifier")}
    if recipe.method.kind == "lora":
        import peft

        more = {} if job.writes else {"modules_to_save": ["classifier"]}
        model = peft.get_peft_model(model, peft.LoraConfig(**recipe.method.settings, **more))
    elif recipe.method.kind == "head":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in head)
    learning = {methods.plain_name(name): p for name, p in model.named_parameters() if p.requires_grad}
    if learning.keys() != job.initial.keys():
        raise AssertionError(f"{job.name}: the arms would tune other weights: {sorted(learning.keys() ^ job.initial.keys())[:4]}")
    with torch.no_grad():
        for name, parameter in learning.items():
            parameter.copy_(job.initial[name])
    return model.to(training.device()).train()


@dataclass
class _Data:
    """Rows of token ids, their targets, and prompts to be answered, none of them padded."""

    train: list[list[int]]
    dev: list[list[int]]
    targets: list[Any]
    dev_targets: list[Any]
    prompts: list[list[int]] = field(default_factory=list)


def _data(job: Job) -> _Data:
    splits, formulation = job.recipe.task.splits(), job.recipe.formulation
    if job.writes:
        # The prompts of a chat are laid out by the product in every arm: it is no part of a loop.
        processor = models.processor(job.recipe.model)
        train, dev = (formulation.encode(side, processor) for side in (splits.train, splits.dev))
        ask = formulation.encode(splits.dev, processor, answers=False)
        ids = [[list(map(int, each)) for each in rows.columns["input_ids"]] for rows in (train, dev, ask)]
        targets = [[list(map(int, each)) for each in rows.columns["labels"]] for rows in (train, dev)]
        return _Data(ids[0], ids[1], targets[0], targets[1], ids[2])
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.recipe.model)
    names = [name for name, _ in sorted(formulation.settings["id2label"].items())]
    number = {formulation.settings["id2label"][name]: name for name in names}
    ids = [
        tokenizer([each["text"] for each in side], truncation=True, max_length=job.recipe.task.max_length)["input_ids"]
        for side in (splits.train, splits.dev)
    ]
    targets = [[int(number[each["labels"][0]]) for each in side] for side in (splits.train, splits.dev)]
    return _Data(ids[0], ids[1], targets[0], targets[1])


def _batch(rows: Sequence[Sequence[int]], targets: Sequence[Any], width: int | None = None) -> dict[str, torch.Tensor]:
    """Rows as one batch, padded on the right."""
    width = width or max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, marks = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
        if isinstance(targets[i], list):
            marks[i, : len(row)] = torch.tensor(targets[i])
    labels = marks if isinstance(targets[0], list) else torch.tensor(list(targets))
    where = training.device()
    return {name: each.to(where) for name, each in {"input_ids": ids, "attention_mask": mask, "labels": labels}.items()}


def _autocast() -> torch.autocast:
    """bfloat16 on a GPU, as the product's `precision="auto"` has it; nothing on a CPU, where all arms but one are in float32."""
    return torch.autocast(training.device().type, torch.bfloat16, enabled=training.device().type == "cuda")


def _items(batch: Mapping[str, torch.Tensor]) -> int:
    """Targets that a mean loss of transformers is over; of a language model the first token is nobody's."""
    labels = batch["labels"]
    return len(labels) if labels.ndim == 1 else int((labels[:, 1:] != -100).sum())


@torch.inference_mode()
def _evaluate(model: torch.nn.Module, job: Job, data: _Data, taken: Taken, *, grouped: bool) -> None:
    model.eval()
    order = np.argsort([len(row) for row in data.dev], kind="stable") if grouped else np.arange(len(data.dev))
    total, items = 0.0, 0
    for start in range(0, len(order), EVALUATION_BATCH):
        some = order[start : start + EVALUATION_BATCH]
        batch = _batch([data.dev[i] for i in some], [data.dev_targets[i] for i in some])
        with _autocast():
            output = model(**batch)
        total, items = total + float(output.loss) * _items(batch), items + _items(batch)
        taken.count([len(data.dev[i]) for i in some])
        if not job.writes:
            output.logits.argmax(-1).tolist()
    taken.loss = total / items
    if data.prompts:
        _write(model, job, data, taken, grouped=grouped)
    model.train()


def _write(model: torch.nn.Module, job: Job, data: _Data, taken: Taken, *, grouped: bool) -> None:
    """Answer the prompts in batches, greedily, padded on the left."""
    tokenizer = models.processor(job.recipe.model)
    order = np.argsort([len(row) for row in data.prompts], kind="stable") if grouped else np.arange(len(data.prompts))
    most, pad = job.recipe.task.max_new_tokens, tokenizer.pad_token_id
    for start in range(0, len(order), EVALUATION_BATCH):
        rows = [data.prompts[i] for i in order[start : start + EVALUATION_BATCH]]
        flipped = _batch([row[::-1] for row in rows], [0] * len(rows))
        ids, mask = flipped["input_ids"].flip(1), flipped["attention_mask"].flip(1)
        with _autocast():
            made = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=most, pad_token_id=pad)
        written = made.shape[1] - ids.shape[1]
        taken.count([len(row) + written for row in rows])
        tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)


def own_loop(job: Job, *, grouped: bool = False, records: bool = True) -> Taken:
    """N2; with `grouped` and without `records` N3."""
    with timed() as taken:
        data, model = _data(job), _model(job)
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=job.recipe.method.learning_rate, weight_decay=0.0, fused=True)
        batches, losses = job.batches, []
        if grouped:  # the same examples in other batches
            seen = np.concatenate(batches)
            order = seen[np.argsort([len(data.train[i]) for i in seen], kind="stable")]
            shuffled = np.random.default_rng(0).permutation(len(batches))
            batches = [np.array_split(order, len(batches))[i] for i in shuffled]
        began = time.perf_counter()
        for some in batches:
            batch = _batch([data.train[i] for i in some], [data.targets[i] for i in some])
            with _autocast():
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, job.recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
            taken.count([len(data.train[i]) for i in some])
        _evaluate(model, job, data, taken, grouped=grouped)
        taken.steps = time.perf_counter() - began
        if records:
            import mlflow

            with mlflow.start_run():
                mlflow.log_params({"method": job.recipe.method.name, "lr": job.recipe.method.learning_rate})
                for i, loss in enumerate(losses):
                    mlflow.log_metric("loss", float(loss), step=i, synchronous=False)
                mlflow.log_metric("dev_loss", taken.loss)
    return taken


def trainer(job: Job, *, trl: bool = False) -> Taken:
    """N1, or with `trl` the trainer of TRL, which pads batches by itself and needs a language model."""
    import transformers

    width = getattr(job.recipe.task, "max_length", 128)
    base, settings, more = transformers.Trainer, transformers.TrainingArguments, {}
    if trl:
        from trl import SFTConfig, SFTTrainer

        # As the product trains: activations are kept, rows are whole, and nothing is in other precision.
        base, settings, width = SFTTrainer, SFTConfig, 0
        more = {"gradient_checkpointing": False, "bf16": training.device().type == "cuda", "max_length": None}

    class Ordered(base):  # type: ignore[misc, valid-type]
        def _get_train_sampler(self, *args: Any) -> Any:
            return np.concatenate(job.batches).tolist()

    class Clock(transformers.TrainerCallback):
        began = 0.0

        def on_step_begin(self, *args: Any, **more: Any) -> None:
            self.began = self.began or time.perf_counter()

    def padded(rows: list[list[int]], targets: list[Any]) -> Any:
        if trl:
            import datasets

            return datasets.Dataset.from_list([{"input_ids": row, "labels": targets[i]} for i, row in enumerate(rows)])
        whole = _batch(rows, targets, width)
        return [{name: values[i] for name, values in whole.items()} for i in range(len(rows))]

    with timed() as taken:
        data, model, clock = _data(job), _model(job), Clock()
        how = settings(
            output_dir=os.environ["ENGINE_OUT"],
            per_device_train_batch_size=job.recipe.batch_size,
            per_device_eval_batch_size=EVALUATION_BATCH,
            max_steps=len(job.batches),
            learning_rate=job.recipe.method.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=job.recipe.max_grad_norm,
            save_strategy="no",
            report_to=["mlflow"],
            use_cpu=training.device().type == "cpu",
            dataloader_pin_memory=False,
            disable_tqdm=True,
            prediction_loss_only=True,
            **more,
        )
        made = Ordered(
            model,
            how,
            **({"processing_class": models.processor(job.recipe.model)} if trl else {}),
            train_dataset=padded(data.train, data.targets),
            eval_dataset=padded(data.dev, data.dev_targets),
            callbacks=[clock],
        )
        made.train()
        # A mean over batches by their rows: of a language model, whose rows have several targets, the dev set must be one batch.
        taken.loss = made.evaluate()["eval_loss"]
        for lengths in [*([len(data.train[i]) for i in some] for some in job.batches), [*map(len, data.dev)]]:
            taken.count(lengths, width or None)
        if data.prompts:
            with torch.inference_mode():
                model.eval()
                _write(model, job, data, taken, grouped=False)
        taken.steps = time.perf_counter() - clock.began
        import mlflow

        mlflow.end_run()
    return taken


# Ours


def ours(job: Job, meter: Meter) -> Taken:
    """`training.train` with what is switched in at the moment."""
    real = tuning.Tuning.latency

    def latency(self: Any, *args: Any) -> float:
        began = time.perf_counter()
        found = real(self, *args)
        taken.latency += time.perf_counter() - began
        return found

    with mock.patch.object(tuning.Tuning, "latency", latency), timed() as taken:
        last = None
        for last in training.train(job.recipe, meter=meter):
            spent = last.spent
            taken.steps += spent["train"].seconds + spent["evaluate"].seconds
            done: Work = spent["train"].work + spent["evaluate"].work
            taken.tokens, taken.padded = taken.tokens + done.tokens, taken.padded + done.padded_tokens
        assert last is not None
        taken.loss = last.scores["dev_loss"]
        taken.steps -= taken.latency
    return taken


@contextlib.contextmanager
def without(part: str) -> Iterator[None]:
    """The product with one part taken out, from outside."""
    with contextlib.ExitStack() as stack:
        put = mock.patch.object
        if part in ("packed rows", "similar lengths"):
            stack.enter_context(mock.patch.dict(batches.PACKED_TOKENS, clear=True))
        if part == "similar lengths":
            stack.enter_context(
                put(tuning, "micro_batches", lambda rows, chosen, where, most=None, packed=False: one_batch(rows, chosen, where))
            )
            stack.enter_context(put(passes, "evaluation_batches", _in_order))
        elif part == "kept features":
            features._kept.clear()
            stack.enter_context(put(features, "MOST_BYTES", 0))
        elif part == "fused AdamW":
            real = torch.optim.AdamW
            stack.enter_context(put(torch.optim, "AdamW", lambda *args, **more: real(*args, **(more | {"fused": False}))))
        elif part == "kept tokens":
            encoding._encoded.clear()
        elif part == "kept bases":
            bases.forget()
        yield


def _in_order(rows: Any, where: torch.device, **how: bool) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Batches of an evaluation as the other loops make them: in the order of the data."""
    for start in range(0, len(rows), EVALUATION_BATCH):
        yield from one_batch(rows, np.arange(start, min(start + EVALUATION_BATCH, len(rows))), where)


def arms_of(job: Job, meter: Meter, *, records: bool = True) -> dict[str, Callable[[], Taken]]:
    """The arms of a job by name; of ours also with its parts taken out, those that matter. Without `records` N2 needs no MLflow."""

    def lacking(part: str) -> Callable[[], Taken]:
        def run() -> Taken:
            with without(part):
                return ours(job, meter)

        return run

    def first() -> Taken:
        features._kept.clear()
        return ours(job, meter)

    found: dict[str, Callable[[], Taken]] = {
        "N1": lambda: trainer(job),
        "N2": lambda: own_loop(job, records=records),
        "N3": lambda: own_loop(job, grouped=True, records=False),
        "ours": lambda: ours(job, meter),
    }
    if job.recipe.method.kind == "head":
        # The first run of a sweep computes what the later ones find; `ours` is a later one.
        return found | {"ours, first": first, "ours without kept features": lacking("kept features")}
    if job.writes and importlib.util.find_spec("trl"):
        found["TRL"] = lambda: trainer(job, trl=True)
    if training.has_bfloat16(training.device().type):  # where it is computed in software it takes twenty times as long
        in_bfloat16 = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, precision="bfloat16"))
        found["ours, bfloat16"] = lambda: ours(in_bfloat16, meter)
    found["ours without packed rows"] = lacking("packed rows")
    found["ours without similar lengths"] = lacking("similar lengths")
    if job.recipe.method.kind == "full" and not job.writes:
        found["ours without fused AdamW"] = lacking("fused AdamW")
    return found
