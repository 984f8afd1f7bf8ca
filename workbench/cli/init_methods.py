"""The methods that `workbench init DATA` writes into a study, as text."""

from __future__ import annotations

METHODS = {
    "classification": """
        # What is tuned, each with its own learning rate; the output layer, which is new, learns best at a higher one.
        # full: all weights. head: the output layer alone, the cheapest. bitfit: that and the biases.
        # lora: small matrices beside the weights; peft(name, …) takes every method of PEFT.
        method=choice(
            full(learning_rate=loguniform(5e-5, 5e-4), head_learning_rate=0.01),
            head(learning_rate=loguniform(5e-3, 5e-2)),
            bitfit(learning_rate=loguniform(1e-3, 1e-2), head_learning_rate=0.02),
            peft(
                "lora", learning_rate=loguniform(5e-4, 2e-3), head_learning_rate=0.02,
                r=choice(4, 16), lora_alpha=32, target_modules="all-linear",
            ),
        ),""",
    "few labels": """
        # What is tuned, and how a model is asked. With some hundred labels or fewer the first are often the best, and the cheapest;
        # the more labels there are, the more the others are worth.{asked}
        # logistic: a logistic regression on embeddings, fitted at once; suits few labels, and is made in seconds.
        # setfit: embeddings learn first from pairs of labelled texts; suits some ten labels of each kind.
        # full: all weights; suits many labels. The output layer, which is new, learns best at a higher rate.
        # head: the output layer alone. bitfit: that and the biases. lora: small matrices beside the weights.
        # peft(name, …) takes every method of PEFT.
        method=choice({zero_shot}
            logistic(C=loguniform(1, 100){models}),
            setfit(learning_rate=1e-4, C=10{models}),
            full(learning_rate=loguniform(5e-5, 5e-4), head_learning_rate=0.01{models}),
            head(learning_rate=loguniform(5e-3, 5e-2){models}),
            bitfit(learning_rate=loguniform(1e-3, 1e-2), head_learning_rate=0.02{models}),
            peft(
                "lora", learning_rate=loguniform(5e-4, 2e-3), head_learning_rate=0.02,
                r=choice(4, 16), lora_alpha=32, target_modules="all-linear"{models},
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
"""

ASKED = """
        # zero_shot: no label at all, a language model is asked for the label by its name; suits names that say what is meant
        # (labels={"label": "words", …} gives them better ones)."""
"""The comment on a language model that is asked, where one is installed."""
