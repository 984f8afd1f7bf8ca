"""What people call the model that a recipe tunes, from the recipe's record: `minilm-l3`, or `minilm-l3 + masked_lm`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def model_name(recipe: Mapping[str, Any]) -> str:
    """The name of a recipe's model with what that learned before: `minilm-l3 + masked_lm + tickets`."""
    name, pretrain = _begun(recipe.get("model")), recipe.get("pretrain")
    if not isinstance(pretrain, Mapping):
        return name
    return f"{name}{' from scratch' if pretrain.get('from_scratch') is True else ''} + {pretrain.get('name', 'pretrain')}"


def learned_name(recipe: Mapping[str, Any]) -> str:
    """The name of the model that a recipe makes: its own with the task, and with the method unless all weights learned."""
    task, method = recipe.get("task"), recipe.get("method")
    return f"{model_name(recipe)} + {_task_name(task)}{_method_name(method)}"


def origin(recipe: Mapping[str, Any]) -> str:
    """The name of the model that a recipe's chain of parents begins with."""
    model = recipe["model"]
    return origin(model) if isinstance(model, Mapping) else str(model)


def _begun(model: Any) -> str:
    """The name of what stands for a recipe's model: a name, or the recipe of a parent."""
    if isinstance(model, str):
        return model
    return learned_name(model) if isinstance(model, Mapping) and "model" in model else "model"


def _task_name(task: Any) -> str:
    if not isinstance(task, Mapping):
        return "task"
    data = task.get("data")
    return str(task.get("name") or (Path(data).stem if isinstance(data, str) else task.get("type", "task")))


def _method_name(method: Any) -> str:
    name = method.get("name") if isinstance(method, Mapping) else None
    return f" by {name}" if isinstance(name, str) and name != "full" else ""
