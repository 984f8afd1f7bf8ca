"""Which small encoder, tuned how and on how many labels,
answers questions about Python APIs best per dollar?"""

from workbench import Recipe, Study, bitfit, choice, full, integers, loguniform, peft
from workbench.tasks import question_answering

study = Study(
    Recipe(
        task=question_answering("pydocs", train=choice(256, 1024)),
        model=choice("minilm-l2", "minilm-l3", "minilm-l6"),
        method=choice(
            full(learning_rate=loguniform(5e-5, 5e-4)),
            bitfit(learning_rate=loguniform(2e-3, 2e-2)),
            peft("ia3", learning_rate=loguniform(5e-3, 5e-2)),
            peft(
                "lora",
                learning_rate=loguniform(3e-4, 2e-3),
                r=choice(4, 16),
                lora_alpha=32,
                target_modules="all-linear",
            ),
        ),
        epochs=integers(1, 2),
        batch_size=4,
    ),
    maximize="f1",
    minimize="usd",
    trials=12,
)
