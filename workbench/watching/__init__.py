"""How served models do in use, by the log that their server writes: load, costs, drift, alarms, quality.

    traits     what is noted of a row and of its answer: length, words, class, confidence
    reference  how the dev set is distributed, which a served model's rows are held against
    history    the log as arrays: answered rows, servers, what they used

Nothing here starts a server or a model, and nothing imports mlflow or torch.
"""

from __future__ import annotations
