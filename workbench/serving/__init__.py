"""Deploying what was chosen: a bundle of files that answers as it was graded, its place in MLflow's
registry, and the server that answers requests.

    recipes    a recipe as plain data that it can be made again from
    bundle     the files of a model that is deployed, and their check
    loading    what MLflow loads: a bundle that answers tables of rows
    evidence   what is known of a model: its score, its costs, its licence
    registry   MLflow's registry: versions, and the aliases champion and previous
    requirements  the packages that a model is loaded by, as it was deployed and as they are here
    regrading  a model as others will load it, graded on the dev set once more
    requests   what a request may be, and the rows in it
    asgi       a request and an answer, as ASGI has them
    router     the front: who may ask, what a request may be, and which model each row is for
    backend    a model behind it: its queue, its batches, its log
    app        MLflow's scoring server of each model, behind that front
    batching   requests that wait are answered together
    log        a line for each request: latency, tokens, classes, scores
    metering   a line, every few seconds, of what the server has consumed
    shadow     a second model that answers unseen
    server     that server as a process
    packaging  a model as PEFT's or Hugging Face's folder, or in ONNX, for other software to load
    card       the model card of such a folder

Importing this package imports neither mlflow nor torch.
"""

from __future__ import annotations
