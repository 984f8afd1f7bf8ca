"""What is a function about? Which small model, asked, tuned or embedded, tells it best where a labelled example costs a cent?"""

import os

from workbench import Recipe, Study, choice, few_shot, full, head, integers, knn, logistic, loguniform, peft, setfit, zero_shot
from workbench.tasks import classification

ENCODERS, WRITERS = ("minilm-l3", "minilm-l6"), ("smollm2-135m",)

study = Study(
    Recipe(
        # Eleven topics of functions, from the docstrings of installed packages. With INTENTS=path/to/banking77 it is that folder,
        # or any file of texts and labels.
        task=classification(os.environ.get("INTENTS", "pytopics"), train=choice(64, 256), dev=128, max_length=64),
        model=choice(*ENCODERS, *WRITERS),
        method=choice(
            # A language model is only asked here: `peft("lora", …, models=WRITERS)` would tune it, for minutes a run.
            zero_shot(read="mutual_information", models=WRITERS),
            few_shot(shots=choice(4, 12), read="likelihood", models=WRITERS),
            # Embeddings of texts as they are, with the nearest labelled ones or a line between them; and tuned for that.
            knn(neighbours=choice(1, 5), models=ENCODERS),
            logistic(C=loguniform(1, 100), models=ENCODERS),
            setfit(learning_rate=loguniform(3e-5, 3e-4), C=10, models=ENCODERS),
            # A head on an encoder is new, and learns at a higher rate than what was learned before.
            full(learning_rate=loguniform(5e-5, 5e-4), head_learning_rate=0.01, models=ENCODERS),
            head(learning_rate=loguniform(1e-2, 1e-1), models=ENCODERS),
            peft("lora", learning_rate=loguniform(5e-4, 2e-3), head_learning_rate=0.02, r=8, models=ENCODERS),
        ),
        epochs=integers(1, 4),
        batch_size=8,
    ),
    maximize="accuracy",
    minimize="usd",
    label_usd=0.01,
    trials=16,
)
