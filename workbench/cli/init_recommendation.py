"""The study that `workbench init DATA` writes where the data say who had what."""

from __future__ import annotations

import json

from workbench.cli.init_texts import HEAD, end
from workbench.data import fingerprints
from workbench.data.interactions import Interactions

STUDY = '''"""What will they want next? Items by what others had, or by what their texts say: which is best per dollar?"""

{head}
from workbench import Recipe, Study, bitfit, choice, full, item_item, loguniform, popularity, zero_shot
from workbench.tasks import recommendation

TEXTS = ("minilm-l2", "minilm-l3")

study = Study(
    Recipe(
        # The data. {about}
        # `train` is how many of a user's next items are learned from. An embedding model reads the texts of the last
        # `history` items.
        task=recommendation({data}, train={train}, history=2, max_length=64),
        # counts is no language model: it counts who had what. The others read the items' texts; minilm-l6 is larger.
        model=choice("counts", *TEXTS),
        # popularity, item_item: baselines without a word of text, made in a second. zero_shot: embeddings as they are;
        # suits items that nobody had yet (cold_ndcg_at_10). full, bitfit: embeddings that learn what follows on what.
        method=choice(
            popularity(),
            item_item(neighbours=choice(20, 100)),
            zero_shot(models=TEXTS),
            full(learning_rate=loguniform(1e-4, 1e-3), models=TEXTS),
            bitfit(learning_rate=loguniform(1e-3, 1e-2), models=TEXTS),
        ),
        epochs=1,
        batch_size=32,
    ),
    maximize="ndcg_at_10",  # or another score of the task: "recall_at_10", "mrr", or with "cold_" before it
{end}'''

MOST = 2048
"""The larger number of examples to learn from, where there are so many."""


def recommendation_study(data: str) -> tuple[str, tuple[str, ...]]:
    """The text of a study, and what was left out of the data, a sentence each. Raises what
    `workbench.data.load` raises.
    """
    found = fingerprints.dataset(data, Interactions())
    most = min(MOST, len(found.train))
    about = (
        f"{len(found.documents):,} items; {len(found.train):,} next items to learn from, {len(found.dev):,} users to grade by, "
        f"{len(found.test):,} held out to the end."
    )
    lines = "\n        # ".join((about, *found.notes))
    train = f"choice({most // 4}, {most})" if most >= 64 else str(most)
    quoted = json.dumps(data, ensure_ascii=False)
    return STUDY.format(head=HEAD, about=lines, data=quoted, train=train, end=end(10, label_usd=False)), found.notes
