"""Which small encoder, tuned how and on how many labels, answers questions about Python APIs best per dollar?"""

from workbench import Recipe, Study, bitfit, choice, full, integers, loguniform, peft
from workbench.tasks import question_answering

study = Study(
    Recipe(
        task=question_answering("pydocs", train=choice(128, 256, 512)),
        model=choice("minilm-l2", "minilm-l3", "minilm-l6"),
        method=choice(
            full(learning_rate=loguniform(1e-4, 1e-3)),
            peft("lora", learning_rate=loguniform(1e-3, 1e-2), r=choice(4, 16)),
            peft("ia3", learning_rate=loguniform(5e-3, 5e-2)),
            bitfit(learning_rate=loguniform(1e-3, 1e-2)),
        ),
        epochs=integers(1, 4, log=True),
        batch_size=8,
    ),
    maximize="f1",
    minimize="usd",
    trials=16,
)
