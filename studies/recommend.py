"""What will they want next? Items by what others had, or by what their texts say: which is best per dollar?"""

import os

from workbench import Recipe, Study, bitfit, choice, full, item_item, loguniform, peft, popularity, zero_shot
from workbench.tasks import recommendation

TEXTS, TUNED = ("minilm-l2", "minilm-l3", "minilm-l6"), ("minilm-l2", "minilm-l3")

study = Study(
    Recipe(
        # Which function does a module call next? With RECOMMEND=path it is a folder with interactions.csv (user, item, time) and
        # items.csv (id, text). Nobody labels behaviour, so a label costs nothing here.
        task=recommendation(os.environ.get("RECOMMEND", "pycalls"), train=choice(256, 1024), history=3, max_length=48),
        model=choice("counts", *TEXTS),
        method=choice(
            # Two baselines by counts alone, and embeddings of item texts: as they are, and tuned.
            popularity(),
            item_item(neighbours=choice(20, 100)),
            zero_shot(models=TEXTS),
            full(learning_rate=loguniform(1e-4, 5e-4), models=TUNED),
            bitfit(learning_rate=loguniform(1e-3, 1e-2), models=TUNED),
            peft("lora", learning_rate=loguniform(5e-4, 3e-3), r=8, target_modules="all-linear", models=TEXTS),
        ),
        epochs=1,
        batch_size=32,
    ),
    maximize="ndcg_at_10",
    minimize="usd",
    trials=12,
)
