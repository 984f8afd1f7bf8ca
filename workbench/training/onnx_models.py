"""A tuned model's file of ONNX in the model's place, and which models have one.

Only models that answer in one pass of fixed inputs have such a form: those that write, or that
weigh answers, ask a model over and over with a cache of what it has read.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from workbench.errors import EnvironmentFault
from workbench.study import sequences

if TYPE_CHECKING:
    from workbench.study import Recipe

SUFFIX = ".onnx"
"""Of a file that holds a model in ONNX."""

CLASSES = (
    "AutoModel",
    "AutoModelForSequenceClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForTokenClassification",
    "AutoModelForMaskedLM",
    "AutoModelForImageClassification",
)
"""Classes of transformers whose models answer in one pass: they have a form in ONNX."""


class OnnxModel(torch.nn.Module):
    """A file of ONNX that is called as the model it was made of. Threads may share it.

    Args:
        path: The file.
        name_or_path: The model's name, by which its pooling is known.

    Raises:
        EnvironmentFault: ONNX Runtime is not installed, or cannot read the file.
    """

    def __init__(self, path: Path, name_or_path: str) -> None:
        super().__init__()
        self.name_or_path, self.config = name_or_path, SimpleNamespace(is_encoder_decoder=False)
        self._session = _session(path)
        self._takes = {each.name: each.type for each in self._session.get_inputs()}
        self._gives = [each.name for each in self._session.get_outputs()]

    def forward(self, **inputs: Any) -> dict[str, torch.Tensor]:
        """The outputs of a batch, on the CPU. What the file does not take is left out."""
        given = {name: inputs[name].cpu().numpy() for name in self._takes}
        found = self._session.run(self._gives, given)
        return {name: torch.from_numpy(value) for name, value in zip(self._gives, found, strict=True)}


def refusal(recipe: Recipe) -> str:
    """Why a recipe's model has no form in ONNX, and what to do, a sentence; empty where it has one."""
    if problem := sequences.of_parts(recipe.task):
        return problem
    if (name := recipe.formulation.auto_class) in CLASSES:
        return ""
    return (
        f"{recipe.architecture} is asked here as {name}, which has no form in ONNX: those are for encoders of texts and of images, "
        "which answer in one pass of fixed inputs. Take merged."
    )


def require(what: str, packages: Sequence[str] = ("onnxruntime",)) -> None:
    """Raise EnvironmentFault where a package is not installed that something needs."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise EnvironmentFault(
            f"{what} needs {' and '.join(missing)}, not installed here. Install with pip: 'workbench[onnx]' has what is needed."
        )


def _session(path: Path) -> Any:
    require("a model in ONNX")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # As OpenMP's threads here (`process.sleep_at_barriers`): one that spins keeps others from the CPU.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own, of many kinds
        said = (str(error).splitlines() or [""])[0][:200]
        raise EnvironmentFault(f"ONNX Runtime cannot read {path}: {said}. Deploy the model again.") from error
