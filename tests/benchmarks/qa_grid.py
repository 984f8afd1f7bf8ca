"""The default study's whole space: every choice, and every learning rate at five values evenly spaced in its logarithm."""

from workbench import Recipe, Study, bitfit, choice, full, peft
from workbench.tasks import question_answering


def rates(low: float, high: float, count: int = 5) -> float:
    """A choice of that many values from `low` to `high`, each the same factor above the one before."""
    return choice(*(float(f"{low * (high / low) ** (i / (count - 1)):.3g}") for i in range(count)))


study = Study(
    Recipe(
        task=question_answering("pydocs", train=choice(256, 1024)),
        model=choice("minilm-l2", "minilm-l3", "minilm-l6"),
        method=choice(
            full(learning_rate=rates(5e-5, 5e-4)),
            bitfit(learning_rate=rates(2e-3, 2e-2)),
            peft("ia3", learning_rate=rates(5e-3, 5e-2)),
            peft("lora", learning_rate=rates(3e-4, 2e-3), r=choice(4, 16), lora_alpha=32, target_modules="all-linear"),
        ),
        epochs=2,
        batch_size=4,
    ),
    maximize="f1",
    minimize="usd",
    trials=150,
)
