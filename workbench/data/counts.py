"""`counts`, a built-in model without a word of language in it: it sees numbers of items, and counts
who had them.

Methods such as `popularity` and `item_item` make something of it. Beside language models it is a
baseline at its own price: no text is read and no weights are loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

NAME = "counts"
"""The model's name, and its kind."""

AUTO_CLASS = "Counts"
"""What stands for the transformers class of a head, of which it has none."""


class Numbers:
    """What stands for its tokeniser: items have numbers already.

    Attributes:
        model_input_names: The inputs of the model.
    """

    model_input_names = ("history",)


def config(**settings: Any) -> PretrainedConfig:
    """Its configuration: `num_items`, once the items are known."""
    from transformers import PretrainedConfig

    return PretrainedConfig(**settings)


def read(**settings: Any) -> torch.nn.Module:
    """The model before a method: it has no parameters, and gives nothing."""
    import torch

    bare: Any = torch.nn.Module()
    bare.config, bare.name_or_path = config(**settings), NAME
    made: torch.nn.Module = bare.eval()
    return made
