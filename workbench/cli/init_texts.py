"""What `workbench init` writes into every study, and the methods that it writes, as text."""

from __future__ import annotations

HEAD = """# This file is the whole study. Put a value to fix a setting, a distribution to search it:
#     choice(a, b, c)    uniform(low, high)    loguniform(low, high)    integers(low, high)
# The first line above is the question that the sweep answers. `workbench plan FILE` says what it will take, before
# anything is spent; `workbench sweep FILE` runs it; the same command again continues it.
"""
"""Below the question."""

LABEL_USD = "    # label_usd=0.05,        # what a label costs you: then labels are on every bill\n"


def end(trials: int, *, label_usd: bool = True) -> str:
    """The end of a study: what is minimised, how many runs are made, and what else may be set."""
    return f"""    minimize="usd",  # or "usd_compute", "labels", "seconds", "energy_j", "grams_co2e", or a tuple of them
    trials={trials},  # runs in all; --trials says otherwise
{LABEL_USD if label_usd else ""}    # max_usd=1.00,          # what the sweep may spend in all
    # platform="aws:g5.xlarge",  # whose price compute has; `workbench prices` lists them
)
"""


METHODS = {
    "classification": """
        # What is tuned, each with its own learning rate; the output layer, which is new, learns best at a higher one.
        # full: all weights. logistic: the output layer alone, a regression on embeddings, fitted at once: the cheapest.
        # bitfit: the output layer and the biases. lora: small matrices beside the weights; peft(name, …) takes every
        # method of PEFT.
        method=choice(
            full(learning_rate=loguniform(5e-5, 5e-4), head_learning_rate=0.01),
            logistic(C=loguniform(1, 100)),
            bitfit(learning_rate=loguniform(1e-3, 1e-2), head_learning_rate=0.02),
            peft(
                "lora", learning_rate=loguniform(5e-4, 2e-3), head_learning_rate=0.02,
                r=choice(4, 16), lora_alpha=32, target_modules="all-linear",
            ),
        ),""",
    "question_answering": """
        # What is tuned, each with its own learning rate. full: all weights. bitfit: the output layer and the biases.
        # lora: small matrices beside the weights; peft(name, …) takes every method of PEFT.
        method=choice(
            full(learning_rate=loguniform(5e-5, 5e-4)),
            bitfit(learning_rate=loguniform(2e-3, 2e-2)),
            peft("lora", learning_rate=loguniform(3e-4, 2e-3), r=choice(4, 16), lora_alpha=32, target_modules="all-linear"),
        ),""",
    "token_classification": """
        # What is tuned, each with its own learning rate. full: all weights. bitfit: the output layer and the biases.
        # lora: small matrices beside the weights; peft(name, …) takes every method of PEFT.
        method=choice(
            full(learning_rate=loguniform(1e-4, 8e-4)),
            bitfit(learning_rate=loguniform(2e-3, 2e-2)),
            peft("lora", learning_rate=loguniform(5e-4, 4e-3), r=choice(4, 16), lora_alpha=32, target_modules="all-linear"),
        ),""",
    **dict.fromkeys(
        ("image_classification", "audio_classification"),
        """
        # What is tuned, each with its own learning rate. full: all weights. head: the output layer alone, the cheapest.
        # bitfit: that and the biases. lora: small matrices beside the weights; peft(name, …) takes every method of PEFT.
        method=choice(
            full(learning_rate=loguniform(2e-5, 3e-4)),
            head(learning_rate=loguniform(1e-3, 3e-2)),
            bitfit(learning_rate=loguniform(3e-4, 5e-3)),
            peft("lora", learning_rate=loguniform(2e-4, 3e-3), r=choice(4, 16), lora_alpha=32, target_modules="all-linear"),
        ),""",
    ),
}
"""The methods of each kind of task, with the ranges of learning rates that suit models of this
size.

Texts are classified without `head`: what it reads, the pooled output of the built-in encoders, hardly
varies (standard deviation 0.004). With 512 labels of `pytopics` and 8 epochs it had an accuracy of 28
to 39 at rates of 0.005 to 0.5, and `logistic`, which reads the mean of all tokens, 72.
"""


def few_labels(*, encoders: str = "", writers: str = "") -> str:
    """The methods for classes of which few labels are tried.

    Args:
        encoders: The name of the group of models that learn; empty: all.
        writers: That of the language models, which are asked; empty: there are none.
    """
    models = f", models={encoders}" if encoders else ""
    asked = ask = ""
    if writers:
        asked = """
        # zero_shot: no label at all, a language model is asked for the label by its name; suits names that say what is meant
        # (labels={"label": "words", …} gives them better ones)."""
        ask = f'\n            zero_shot(read="mutual_information", models={writers}),'
    return f"""
        # What is tuned, and how a model is asked. With some hundred labels or fewer the first are often the best, and the cheapest;
        # the more labels there are, the more the others are worth.{asked}
        # logistic: a logistic regression on embeddings, fitted at once; suits few labels, and is made in seconds.
        # setfit: embeddings learn first from pairs of labelled texts; suits some ten labels of each kind.
        # full: all weights; suits many labels. The output layer, which is new, learns best at a higher rate.
        # bitfit: the output layer and the biases. lora: small matrices beside the weights.
        # peft(name, …) takes every method of PEFT.
        method=choice({ask}
            logistic(C=loguniform(1, 100){models}),
            setfit(learning_rate=1e-4, C=10{models}),
            full(learning_rate=loguniform(5e-5, 5e-4), head_learning_rate=0.01{models}),
            bitfit(learning_rate=loguniform(1e-3, 1e-2), head_learning_rate=0.02{models}),
            peft(
                "lora", learning_rate=loguniform(5e-4, 2e-3), head_learning_rate=0.02,
                r=choice(4, 16), lora_alpha=32, target_modules="all-linear"{models},
            ),
        ),"""
