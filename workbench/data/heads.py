"""The task's head, which a model's files need not hold, and the refusal of files that lack more
than that.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from workbench.data import hub
from workbench.errors import UsageError, is_out_of_memory

if TYPE_CHECKING:
    import torch


def head(model: torch.nn.Module) -> tuple[str, ...]:
    """Names of the parameters that a task's model has in addition to its base model: the task's
    head, which is new.

    They are found by structure, whatever their names: `qa_outputs`, `classifier`,
    `qa_classifier.output.dense`, …. The matrix by which a model writes tokens is not among them,
    tied to the embeddings or not, as the checkpoint has it. A model that tells masked tokens may
    lack everything else behind its base model, since many encoders are saved without it; a model
    that writes what it hears may lack its matrix, too.
    """
    import torch
    import transformers
    from transformers.models.auto import modeling_auto as auto

    base: Any = model.base_model
    writes = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    kind = type(model).__name__
    masked = kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.values()
    if writes is None or kind in auto.MODEL_FOR_CTC_MAPPING_NAMES.values():
        ours = set()
    else:
        ours = {id(parameter) for name, parameter in writes.named_parameters() if name == "weight" or not masked}
    if base is not model:
        ours |= {id(parameter) for parameter in base.parameters()}
        return tuple(name for name, parameter in model.named_parameters() if id(parameter) not in ours)
    # T5 has no module for its base model: encoder and decoder stand beside the head. So names are
    # compared with those of the bare model.
    with torch.device("meta"), hub.quiet():
        bare = transformers.AutoModel.from_config(model.config, trust_remote_code=False)
    known = {name for name, _ in bare.named_parameters(remove_duplicate=False)}
    return tuple(name for name, parameter in model.named_parameters() if name not in known and id(parameter) not in ours)


def refuse_missing(
    model: str,
    built: torch.nn.Module,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]] = (),
) -> None:
    """Refuse files that lack more weights than the head's: these would be random, and nobody would
    notice.

    Args:
        model: Its name.
        built: The loaded model, or one on the meta device.
        missing: Names that the loader did not find.
        unexpected: Names in the files without use: an old head, or missing weights under another
            name.
        mismatched: Names whose shapes differ, with the files' shape and the model's.

    Raises:
        UsageError: Weights outside the head are missing or of another shape.
    """
    own, expected = {*head(built)}, [name for name, _ in built.named_parameters()]
    wrong = sorted((name, tuple(theirs), tuple(ours)) for name, theirs, ours in mismatched if name not in own)
    if wrong:
        name, theirs, ours = wrong[0]
        raise UsageError(
            f"the weights of {model!r} do not fit its config.json: {name} has the shape {theirs} in the file and {ours} in the "
            f"model ({len(wrong)} of {len(expected)} tensors differ). Give it the config.json that it was saved with."
        )
    gone = {*missing} - own
    lost = _that_matter(built, [name for name in expected if name in gone])
    if lost:
        shown = ", ".join(lost[:3]) + (", …" if len(lost) > 3 else "")
        raise UsageError(
            f"the files of {model!r} lack {len(lost)} of the {len(expected)} tensors of its model, which would be random: {shown}. "
            f"{_likely_cause(built, lost, [*unexpected])}"
        )


def _that_matter(model: torch.nn.Module, names: list[str]) -> list[str]:
    """Those of some parameters that the output depends on. An encoder may be saved without a pooler
    that no answer needs.
    """
    import torch

    if not names:
        return names
    parameters, device = dict(model.named_parameters()), next(model.parameters()).device
    ids = torch.ones((1, 8), dtype=torch.long, device=device)
    try:
        with torch.enable_grad():
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids))
            asked = [value for key, value in output.items() if key.endswith("logits")] or [output["last_hidden_state"]]
            total = sum(value.float().sum() for value in asked)
            # A parameter without a gradient had no part in the output.
            gradients = torch.autograd.grad(total, [parameters[name] for name in names], allow_unused=True)
    except Exception as error:  # a model with other inputs: all that is missing then counts
        if is_out_of_memory(error):
            raise
        return names
    return [name for name, gradient in zip(names, gradients, strict=True) if gradient is not None]


def _likely_cause(built: Any, lost: list[str], unexpected: list[str]) -> str:
    """What is probably wrong, and what to do about it."""
    bare = {name.removeprefix(f"{built.base_model_prefix}.") for name in lost}
    prefixes: collections.Counter[str] = collections.Counter()
    for found in unexpected:
        parts = found.split(".")
        prefixes.update(".".join(parts[:i]) + "." for i in range(1, len(parts)) if ".".join(parts[i:]) in bare)
    # Half of the missing names under one prefix, as DataParallel and wrappers leave it, is no
    # accident.
    if prefixes and (common := prefixes.most_common(1)[0])[1] >= len(lost) / 2:
        return f"They are there under the prefix {common[0]!r}: strip it from their names and save them again."
    numbers = [re.search(r"\.(\d+)\.", name) for name in lost]
    layers = getattr(built.config.get_text_config(), "num_hidden_layers", None)
    if layers and all(numbers):
        gone = sorted({int(number[1]) for number in numbers if number})
        return (
            f"config.json says num_hidden_layers={layers}, and layers {', '.join(map(str, gone))} are not whole in the files: mend "
            "the one, or save the others again."
        )
    return "Save the whole model again, with save_pretrained, or choose another one."
