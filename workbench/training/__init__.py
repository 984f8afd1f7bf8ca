"""The one training loop: `train(recipe)` yields checkpoints, and knows nothing of studies, stores
or prices.

    loop          the loop itself; kept weights of a sweep, read again and graded on the test split
    tuning        one run's model, optimiser and averages
    compiling     whether a model's layers are compiled while it learns
    progress      how far a training is, for whoever watches it
    combining     models of several tasks, each learned from the same start, as one
    anchoring     weights held near where they begin, against forgetting
    predicting    a model that answers requests
    embedded      where a row lies for a model, in a few numbers
    onnx_models   a file of ONNX in a model's place
    exporting     makes such a file, and grades it
    passes        a model's forward passes: what it predicts, and its grades
    grading       the rows by which it is graded
    choosing      which examples a run is trained on: bought, or told with confidence
    remembering   what runs of a process share: the latest few of a kind
    teaching      what a teacher answers to examples that nobody labelled
    batches       which examples make a step, and how its rows are split
    encoding      rows to train on and to be graded by, kept across runs
    features      the output of a part that does not learn, computed once
    layouts       how such an output is kept
    precision     whether matrices are multiplied in bfloat16
    memory        how many rows fit into memory at once
    parents       has the model at hand that a recipe starts from, made once by the loop
    parent_store  the folder with the models that recipes start from
    vectors       embeddings of examples by an encoder as it is
    fisher        how surely a model's weights are known by what it learned
    sharding      what the loop asks for where several processes hold a part of a model each
    shards        these processes, in step with the first
    faults        what goes wrong in a model, told from what goes wrong in this package
    resume_state  the state to continue a run from, and the folder of such states
    shared_files  files that machines share, at any address of fsspec
    shared_parents  models to start from, among these files

Importing torch takes seconds, so the names below are looked up in their modules when they are first
used: whoever imports this package to count steps, or to offer a command, does not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.training.batches import checkpoint_epochs, step_examples
    from workbench.training.choosing import Seen
    from workbench.training.exporting import Exported, export
    from workbench.training.grading import questions
    from workbench.training.loop import Checkpoint, asked_model, device, predict, prepare, test, train, tuned_model, warm_up
    from workbench.training.precision import WIDE, has_bfloat16
    from workbench.training.predicting import Grade, Predictions, Predictor, SharedWeights, grade
    from workbench.training.progress import Progress
    from workbench.training.resume_state import ResumeCache, ResumeState
    from workbench.training.shards import Shards
    from workbench.training.shared_files import SharedFiles
    from workbench.training.tuning import Tuning
    from workbench.training.vectors import embed

__all__ = [
    "Checkpoint",
    "Exported",
    "Grade",
    "Predictions",
    "Predictor",
    "Progress",
    "ResumeCache",
    "ResumeState",
    "Seen",
    "SharedWeights",
    "Shards",
    "SharedFiles",
    "Tuning",
    "asked_model",
    "checkpoint_epochs",
    "device",
    "grade",
    "has_bfloat16",
    "WIDE",
    "embed",
    "export",
    "predict",
    "prepare",
    "questions",
    "step_examples",
    "test",
    "train",
    "tuned_model",
    "warm_up",
]

_MODULES = {
    "Checkpoint": "loop",
    "Exported": "exporting",
    "Progress": "progress",
    "Grade": "predicting",
    "Predictions": "predicting",
    "Predictor": "predicting",
    "ResumeCache": "resume_state",
    "ResumeState": "resume_state",
    "Seen": "choosing",
    "SharedWeights": "predicting",
    "Shards": "shards",
    "SharedFiles": "shared_files",
    "Tuning": "tuning",
    "asked_model": "loop",
    "checkpoint_epochs": "batches",
    "device": "loop",
    "grade": "predicting",
    "embed": "vectors",
    "has_bfloat16": "precision",
    "WIDE": "precision",
    "export": "exporting",
    "predict": "loop",
    "prepare": "loop",
    "questions": "grading",
    "step_examples": "batches",
    "test": "loop",
    "train": "loop",
    "tuned_model": "loop",
    "warm_up": "loop",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"workbench.training.{_MODULES[name]}"), name)
