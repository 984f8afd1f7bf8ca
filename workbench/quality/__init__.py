"""The card of a study's data: what can be known of them before anything is spent.

card         the card of each task of a study
contents     which text and which classes an example has
encoder      the encoder whose embeddings tell likely labels, out of a study's models
label_noise  how many labels are likely wrong, and which, by confident learning
lengths      how many tokens the examples have for each model, and how many lose a part
repeats      examples that say nearly the same, within a split and across splits
words        a card in sentences and rows, for terminal and browser
"""

from __future__ import annotations

from workbench.quality.card import Card, cards

__all__ = ["Card", "cards"]
