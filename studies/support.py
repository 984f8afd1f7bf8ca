"""Answer a customer or hand over to a person? Which small encoder, untuned or tuned, answers most
questions by itself, nine of ten of them rightly, where a labelled question costs a cent?"""

import os

from workbench import Recipe, Study, bitfit, choice, full, integers, loguniform, peft, zero_shot
from workbench.tasks import support

study = Study(
    Recipe(
        # What users of scientific packages ask, and what the documentation answers; to one question
        # of five it has no answer. With SUPPORT=path it is your own file or folder: questions with
        # their answers or intents, such as banking77, or SQuAD files, such as restaurant8k.
        task=support(
            os.environ.get("SUPPORT", "pysupport"),
            train=choice(64, 256),
            dev=256,
            documents=512,
            precision=0.9,
            question=os.environ.get("SUPPORT_QUESTION"),
            answer=os.environ.get("SUPPORT_ANSWER"),
            max_length=64,
        ),
        model=choice("minilm-l3", "minilm-l6"),
        method=choice(
            zero_shot(),
            full(learning_rate=loguniform(2e-5, 3e-4)),
            bitfit(learning_rate=loguniform(1e-3, 1e-2)),
            peft("lora", learning_rate=loguniform(3e-4, 3e-3), r=8, target_modules="all-linear"),
        ),
        epochs=integers(1, 2),
        batch_size=16,
    ),
    maximize="answered_at_precision",
    minimize="usd",
    label_usd=0.01,
    trials=12,
)
