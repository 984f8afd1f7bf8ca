"""Is it best to ask a language model, to tune it, or to tune a small encoder, where every labelled example costs a cent?"""

from workbench import Recipe, Study, choice, few_shot, full, peft, zero_shot
from workbench.tasks import question_answering

ENCODERS, WRITERS = ("minilm-l3", "minilm-l6"), ("smollm2-135m",)

study = Study(
    Recipe(
        # A half of the labels is looked at on the way: each run that learns is two points of the front.
        task=question_answering("pydocs", train=160, dev=48, max_answer_tokens=24),
        model=choice(*ENCODERS, *WRITERS),
        method=choice(
            zero_shot(),
            few_shot(shots=2, models=WRITERS),
            full(learning_rate=3e-4, models=ENCODERS),
            peft("lora", learning_rate=1e-3, r=8, target_modules="all-linear", models=WRITERS),
            full(learning_rate=1e-4, name="full-writer", models=WRITERS),
        ),
        epochs=1,
        batch_size=4,
    ),
    maximize="f1",
    minimize="usd",
    label_usd=0.01,
    trials=8,  # each model with each of its methods, once
)
