"""What is a function about? Which small model, tuned or only asked, tells it from one sentence best per dollar?"""

import os

from workbench import Recipe, Study, bitfit, choice, few_shot, full, head, integers, loguniform, peft, zero_shot
from workbench.tasks import classification

ENCODERS, WRITERS = ("minilm-l3", "minilm-l6"), ("smollm2-135m",)

study = Study(
    Recipe(
        # Eleven topics of functions, from the docstrings of installed packages. With INTENTS=path/to/banking77 it is that folder,
        # or any file of texts and labels.
        task=classification(os.environ.get("INTENTS", "pytopics"), train=choice(128, 512), dev=128, max_length=64),
        model=choice(*ENCODERS, *WRITERS),
        method=choice(
            # An encoder's head is new, and learns at a higher rate than what was learned before.
            full(learning_rate=loguniform(5e-5, 5e-4), head_learning_rate=0.01, models=ENCODERS),
            head(learning_rate=loguniform(1e-2, 1e-1), models=ENCODERS),
            bitfit(learning_rate=loguniform(1e-3, 1e-2), head_learning_rate=0.02, models=ENCODERS),
            peft("lora", learning_rate=loguniform(5e-4, 2e-3), head_learning_rate=0.02, r=8, target_modules="all-linear"),
            zero_shot(models=WRITERS),
            few_shot(shots=choice(2, 6), models=WRITERS),
        ),
        epochs=integers(1, 4),
        batch_size=8,
    ),
    maximize="accuracy",
    minimize="usd",
    trials=12,
    max_usd=0.008,
)
