"""How served models do in use, by the log that their server writes: load, costs, drift, alarms, quality.

    traits     what is noted of a row and of its answer: length, words, class, confidence
    reference  how the dev set is distributed, which a served model's rows are held against
    history    the log, read: answered rows, servers, what they used
    use        requests, latency, tokens, energy and US$ by model
    drift      whether rows and answers are distributed as on the dev set
    alarms     when a class became more frequent or rarer
    shadow     how often a second model agrees, and what it would cost
    feedback   right answers, and the score in use that they give
    overview   all of it as one record

Nothing here starts a server or a model, and nothing imports mlflow or torch.
"""

from __future__ import annotations
