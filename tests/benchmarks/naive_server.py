"""What a tutorial does: FastAPI, and one forward pass of a transformers model for each request.

It encodes and decodes as the task does, so that its answers can be compared. `python naive_server.py FOLDER BUNDLE PORT`, with the
folder of a whole Hugging Face model (`workbench package --as merged`) and a bundle of the same model, whose task and settings
are taken.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI

from workbench import zero_shot
from workbench.data import models
from workbench.serving import bundle
from workbench.serving.loading import plain
from workbench.training import asked_model


def main(folder: str, of: str, port: int) -> None:
    recipe = dataclasses.replace(bundle.read(Path(of)).recipe, model=folder, method=zero_shot(), epochs=0)
    task, formulation = recipe.task, recipe.formulation
    model: Any = asked_model(recipe)
    processor = models.processor(recipe.architecture)
    inference = formulation.inference(processor)
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"ok": True}

    @app.post("/invocations")
    def predict(body: dict[str, Any]) -> dict[str, Any]:
        examples = [task.example(row) for row in body["dataframe_records"]]
        rows = formulation.encode(examples, processor, answers=False)
        with torch.inference_mode():
            outputs = inference(model, rows.batch(range(len(rows))))
        return {"predictions": [plain(value) for value in formulation.decode(examples, rows, list(outputs), processor)]}

    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
