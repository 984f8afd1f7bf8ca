"""A tuned model as one file of ONNX, in float32 or with weights of eight bits, graded beside the model
in torch.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from workbench.errors import UsageError
from workbench.objectives import inputs_of
from workbench.training.grading import questions
from workbench.training.loop import tuned
from workbench.training.onnx_models import OnnxModel, refusal, require
from workbench.training.predicting import Grade, graded

if TYPE_CHECKING:
    from workbench.formulations import Rows
    from workbench.study import Recipe
    from workbench.training.tuning import Tuning

MOST_BYTES = 2_000_000_000
"""The most bytes of parameters: a file of ONNX ends at 2 GiB."""

OUTPUTS = ("logits", "start_logits", "end_logits", "last_hidden_state", "embeddings")
"""Outputs that are read; others are not computed."""


class Exported(NamedTuple):
    """A file of ONNX that was graded.

    Attributes:
        original: What the model in torch is worth, graded just before.
        grade: What the file is worth.
    """

    original: Grade
    grade: Grade


def export(recipe: Recipe, weights: str | Path | None, to: Path, *, eight_bits: bool = False) -> Exported:
    """Write a model as a file of ONNX, and grade it on the dev set beside the model in torch, both on the CPU.

    Args:
        recipe: What was trained; its weights are exported in float32, whatever held them.
        weights: As `training.test` takes them.
        to: The file.
        eight_bits: Whether the weights of its matrices are held in eight bits, and activations are quantised as they come
            (dynamic quantisation). Their range is that of a batch, so an answer depends a little on what else is in it.

    Raises:
        UsageError: The model has no such form.
        EnvironmentFault: A package that is needed is not installed.
    """
    require("a form in ONNX", ("onnx", "onnxscript", "onnxruntime"))
    recipe = dataclasses.replace(recipe, weights="float32")
    if problem := refusal(recipe):
        raise UsageError(problem)
    tuning = tuned(recipe, weights, torch.device("cpu"))
    dev = questions(tuning.formulation, recipe.task.graded(), tuning.processor, loss=False)
    original = graded(tuning, dev)
    with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
        whole = Path(scratch, "whole.onnx") if eight_bits else to
        _write(_merged(tuning, recipe), dev.asked, whole)
        if eight_bits:
            _quantize(whole, to)
    tuning.model, tuning.frozen, tuning.features, tuning.layers = OnnxModel(to, tuning.place), None, None, None
    return Exported(original, graded(tuning, dev))


def _merged(tuning: Tuning, recipe: Recipe) -> Any:
    model: Any = tuning.model
    if hasattr(model, "get_base_model"):
        if next(iter(model.peft_config.values())).is_prompt_learning:
            raise UsageError(
                f"{recipe.method.name} puts tokens in front of the input, which cannot be merged: it has no form in ONNX."
            )
        model = model.merge_and_unload()
    size = sum(p.nbytes for p in model.parameters())
    if size > MOST_BYTES:
        raise UsageError(f"{recipe.architecture} has {size / 1e9:.1f} GB of parameters, and a file of ONNX ends at 2. Take merged.")
    return model.eval()


def _write(model: Any, rows: Rows, to: Path) -> None:
    """Export a model by torch, with inputs of any number of rows and of any length."""
    # Two batches that differ in all that may differ: what is of one size in both is of one size always. Neither is 1, which
    # torch would take for a constant.
    few, more = (inputs_of(rows.blank(count, tokens)) for count, tokens in ((2, 17), (3, 29)))
    dynamic = {
        name: {i: torch.export.Dim.DYNAMIC for i, size in enumerate(value.shape) if size != more[name].shape[i]}
        for name, value in few.items()
    }
    with torch.inference_mode():
        names = [name for name, value in model(**few).items() if name in OUTPUTS and torch.is_tensor(value)]
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _InOrder(model, [*few], names), tuple(few.values()), dynamo=True, dynamic_shapes={"values": tuple(dynamic.values())},
            input_names=[*few], output_names=names, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(to)


class _InOrder(torch.nn.Module):
    """A model that takes its inputs in an order, and gives the outputs that are read: others would be computed for nothing."""

    def __init__(self, model: Any, takes: Sequence[str], gives: Sequence[str]) -> None:
        super().__init__()
        self.model, self.takes, self.gives = model, takes, gives

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found: Mapping[str, torch.Tensor] = self.model(**dict(zip(self.takes, values, strict=True)))
        return tuple(found[name] for name in self.gives)


def _quantize(of: Path, to: Path) -> None:
    """Quantise a model dynamically: weights to eight bits, by the channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(of, to, weight_type=QuantType.QInt8, per_channel=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say to those who develop them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
