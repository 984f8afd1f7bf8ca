"""Which way to train a small model from scratch tells ten vowels best per dollar?"""

import os

from workbench import Recipe, Study, bitfit, choice, full, head, integers, loguniform
from workbench.tasks import audio_classification

study = Study(
    Recipe(
        # Vowels that a formula says. With SPEECH=path it is a folder with a folder of recordings for each word; raise max_seconds.
        task=audio_classification(os.environ.get("SPEECH", "vowels"), train=choice(256, 1024), max_seconds=0.6),
        # Its weights are drawn and have learned nothing: `head` reads what drawn weights show.
        # Of the hub, by name: "facebook/wav2vec2-base", at lower learning rates.
        model="ast-scratch",
        method=choice(
            # A head is new, and learns at a higher rate than what lies below it.
            full(learning_rate=loguniform(2e-4, 1e-3), head_learning_rate=0.05),
            bitfit(learning_rate=loguniform(3e-4, 3e-3), head_learning_rate=0.05),
            head(learning_rate=loguniform(1e-2, 1e-1)),
        ),
        epochs=integers(2, 8),
        batch_size=16,
    ),
    maximize="accuracy",
    minimize="usd",
    trials=8,
)
