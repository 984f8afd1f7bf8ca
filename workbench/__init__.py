"""Which model, tuned how, on how many labels, on which platform, gives the quality I need for the least money?"""

from workbench import cgroups, process
from workbench.labelling import badge, distil, diversity, pseudo_labels, uncertainty
from workbench.methods import (
    Method,
    adapter,
    bitfit,
    few_shot,
    full,
    head,
    item_item,
    knn,
    logistic,
    peft,
    popularity,
    setfit,
    zero_shot,
)
from workbench.space import choice, integers, loguniform, uniform
from workbench.study import Recipe, Study, causal_lm, masked_lm

__version__ = "0.1.0"
__all__ = [
    "Method",
    "Recipe",
    "Study",
    "adapter",
    "badge",
    "bitfit",
    "causal_lm",
    "choice",
    "distil",
    "diversity",
    "few_shot",
    "full",
    "head",
    "integers",
    "item_item",
    "knn",
    "logistic",
    "loguniform",
    "masked_lm",
    "peft",
    "popularity",
    "pseudo_labels",
    "setfit",
    "uncertainty",
    "uniform",
    "zero_shot",
]

# Nothing above imports torch, and what is imported from here on may.
process.sleep_at_barriers()
cgroups.threads_within_quota()
