"""How surely a model's weights are known by what it learned: the diagonal of the empirical Fisher information."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench import flops
from workbench.training.batches import micro_batches, padded_tokens
from workbench.training.faults import faults_of_the_model

if TYPE_CHECKING:
    import torch

    from workbench.training.tuning import Tuning

MOST_EXAMPLES = 256
"""Training examples that it is a mean over: evenly spaced ones, where a task has more."""


def information(tuning: Tuning) -> dict[str, torch.Tensor]:
    """The diagonal of the empirical Fisher information of what learns in a model, at the weights that it has.

    It is the mean over training examples of the squared gradient of an example's log-likelihood, by the answers that the data
    have (Kirkpatrick et al. 2017, arXiv:1612.00796, with the labels of the data in the place of drawn ones).

    Args:
        tuning: The model. Its work is counted.

    Returns:
        By parameter name, of the parameter's shape, on the CPU.
    """
    import torch

    train = tuning.recipe.task.splits().train
    count = min(MOST_EXAMPLES, len(train))
    rows = tuning.formulation.encode([train[i * len(train) // count] for i in range(count)], tuning.processor)
    sums = {name: torch.zeros_like(parameter) for name, parameter in tuning.parameters.items()}
    tuning.model.eval()
    padded = 0
    for example in range(count):
        tuning.model.zero_grad(set_to_none=True)
        of_example = np.flatnonzero(rows.example == example)
        for chosen, inputs in micro_batches(rows, of_example, tuning.where):
            with tuning.autocast, faults_of_the_model():
                output = tuning.lesson.forward(tuning.model, inputs)
            torch.autograd.backward(tuning.lesson.loss(output, inputs))
            padded += padded_tokens(rows, chosen)
        for name, parameter in tuning.parameters.items():
            if parameter.grad is not None:
                sums[name].addcmul_(parameter.grad, parameter.grad)
    tuning.model.zero_grad(set_to_none=True)
    tuning.work = tuning.work + tuning.work_of(rows.lengths.tolist(), padded, 0, flops.training)
    tuning.learn()
    return {name: (value / count).detach().cpu() for name, value in sums.items()}
