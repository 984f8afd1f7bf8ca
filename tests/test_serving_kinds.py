"""What is served is what was graded, of every kind of model: its answers are those that its sweep recorded, one by one."""

import base64
import functools
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from served import EMBEDDED, KINDS, SLOW, alike, ask, made, swept
from servers import free_port

from workbench.data.models import processor
from workbench.serving import bundle, registry
from workbench.serving.loading import Deployed
from workbench.tasks import request
from workbench.tracking import store
from workbench.training import tuned_model
from workbench.training.embedded import DIMENSIONS, _directions


class Known(NamedTuple):
    """A model that is deployed.

    Attributes:
        task: What it was graded by.
        folder: The model as MLflow loads it.
        rows: The questions of the dev set, as they are sent.
        said: What a sweep with `--log-samples` put on record as their predictions.
    """

    task: Any
    folder: Path
    rows: list[dict[str, Any]]
    said: list[Any]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Callable[[str], Known]:
    """A model of a kind, swept and deployed once; nothing is left of its data."""

    @functools.cache
    def of(kind: str) -> Known:
        folder = tmp_path_factory.mktemp("kind")
        architecture, task_in, method = KINDS[kind]
        task = task_in(folder)
        recipe, samples, weights = swept(folder, task, models[architecture], method)
        rows = [task.question(example) for example in task.splits().dev]
        said = [sample["prediction"] for sample in samples]
        if hasattr(task, "candidates"):  # a request brings its documents, which are known by their texts then
            said = [[[task.texts[name], score] for name, score in each] for each in said]
        bundle.write(folder / "bundle", recipe, weights, None, {"score": 1.0})
        registry.save(folder / "model", folder / "bundle", recipe)
        for path in [*folder.glob("*.jsonl"), *folder.glob("shop/*.csv"), *folder.glob("sounds/**/*.wav")]:
            path.unlink()
        return Known(task, folder / "model", rows, said)

    return of


def same(found: Any, recorded: Any) -> bool:
    """Whether an answer is the one on record, where its fields have lost their names."""
    return alike([*found.values()] if isinstance(found, dict) and isinstance(recorded, list) else found, recorded)


@pytest.mark.parametrize("kind", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in KINDS])
def test_what_mlflow_loads_answers_as_was_graded(kind: str, known: Callable[[str], Known]) -> None:
    import mlflow.pyfunc
    import pandas as pd

    task, folder, rows, said = known(kind)
    served = mlflow.pyfunc.load_model(str(folder))
    found = served.predict(pd.DataFrame(rows))
    assert [*map(same, found, said)] == [True] * len(rows)
    assert not list(folder.rglob("*.pkl"))
    assert set(json.loads(json.dumps(found, allow_nan=False)) and rows[0]) - {"id"} == set(task.asked())
    embeddings = served._model_impl.predicted(rows).embeddings
    assert (None if embeddings is None else embeddings.shape) == ((len(rows), DIMENSIONS) if kind in EMBEDDED else None)


def test_embeddings_are_what_the_model_computes_anyway(tmp_path: Path, models: dict[str, str]) -> None:
    for name in ("classes", "classes by an adapter"):
        (folder := tmp_path / name).mkdir()
        of, task_in, method = KINDS[name]
        task = task_in(folder)
        recipe, _, weights = made(folder, task, models[of], method)
        bundle.write(folder / "bundle", recipe, weights, None, {})
        rows = [task.question(example) for example in task.splits().dev]
        found = Deployed(folder / "bundle").predicted(rows).embeddings
        assert found is not None
        assert weights is not None
        model: Any = tuned_model(recipe, weights)
        body = (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model
        tokenizer, expected = processor(recipe.architecture), []
        for row in rows:
            texts = [row["text"]] if isinstance(row["text"], str) else row["text"]
            with torch.inference_mode():
                (hidden,) = body(**tokenizer(*texts, return_tensors="pt")).last_hidden_state
            mean = hidden.mean(0)
            expected.append((mean / mean.norm() @ _directions(mean.shape[-1])).numpy())
        assert found == pytest.approx(np.stack(expected), abs=1e-4)
        assert np.std(found, axis=0).min() > 1e-3  # they tell rows apart


@contextmanager
def served(folder: Path, models: dict[str, Path]) -> Iterator[int]:
    """A server, by the command, of models that are on the registry in `folder`: its port."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client, port = store.connect(uri), free_port()
    for name, model in models.items():
        client.create_registered_model(name)
        made = client.create_model_version(name, str(model))
        client.set_registered_model_alias(name, registry.CHAMPION, made.version)
    command = [sys.executable, "-m", "workbench", "serve", *models, "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        for name in models:
            assert f'rows with "model": "{name}"' in server.stdout.readline()
        yield port
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def wav(rate: int, frames: int = 300, channels: int = 1) -> str:
    """Noise as a file in base64, whose head states any rate."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((channels, 2, 16000, 0, "NONE", ""))
        file.writeframes(random.Random(0).randbytes(2 * frames * channels))
    content = bytearray(written.getvalue())
    content[24:28] = struct.pack("<I", rate)
    return base64.b64encode(content).decode()


def picture(size: tuple[int, int], mode: str, kind: str) -> str:
    """An image as a file in base64."""
    written = io.BytesIO()
    Image.new(mode, size).save(written, kind)
    return base64.b64encode(written.getvalue()).decode()


STRANGE: dict[str, Sequence[Any]] = {
    request.TEXT: ["\x00", "\u200b", "\ufeff", "0", "</s>", "[SEP] [CLS] [PAD]", "w4 " * 3000, "a" * 100_000, 5, " ", "\ud800"],
    request.NUMBERS: [[2**31 - 1], [-1], [0] * 10_000, [2**40], ["8"], []],
    request.TEXTS: [
        ["\x00"],
        ["\u200b"],
        ["w4"],
        ["w4"] * 2000,
        ["i0", "i0"],
        ["w4", "a" * 100_000],
        ["[SEP]"] * 3,
        [""],
        "w4",
        [],
    ],
    request.TURNS: [
        [{"role": "assistant", "content": "w4"}],
        [{"role": "system", "content": "w4"}] * 2,
        [{"role": "user", "content": "w4 " * 3000}],
        [{"role": "user", "content": "\x00"}] * 40,
        [{"role": "root", "content": "w4"}],
    ],
    "image": [
        picture((1, 1), "L", "png"),
        picture((1, 3000), "RGBA", "png"),
        picture((3, 3), "CMYK", "tiff"),
        picture((3, 3), "I;16", "png"),
        picture((60, 60), "P", "gif")[:80],
        picture((8000, 8000), "1", "png"),
        wav(16000),
        "?",
    ],
    "sound": [
        wav(16000, 0),
        wav(16000, 1),
        wav(16001),
        wav(16000, 300_000),
        wav(16000, 30, 200),
        wav(0),
        wav(1),
        wav(2**31 - 1),
        picture((1, 1), "L", "png"),
        "?",
    ],
}
"""What fields of each kind, or files of each name, may hold that no data set does."""


def strange(known: Known) -> list[dict[str, Any]]:
    """Rows of which most cannot be asked."""
    good, asked = {name: value for name, value in known.rows[0].items() if name != request.ID}, known.task.asked()
    rows = [good | {name: value} for name, kind in asked.items() for value in STRANGE[name if kind == request.FILE else kind]]
    return [*rows, {}, {**good, "labels": ["yes"]}, dict.fromkeys(good)]


@pytest.mark.slow
def test_one_server_of_every_kind_answers_as_was_recorded_also_beside_bad_rows(
    known: Callable[[str], Known], tmp_path: Path
) -> None:
    names = {kind: kind.replace(" ", "-") for kind in KINDS}
    good = [(kind, i, {"model": name, **row}) for kind, name in names.items() for i, row in enumerate(known(kind).rows)]
    bad = [(kind, None, {"model": name, **row}) for kind, name in names.items() for row in strange(known(kind))]

    def wrong(asked: Sequence[Any], found: Sequence[Any]) -> list[Any]:
        pairs = [(kind, value, known(kind).said[i]) for (kind, i, _), value in zip(asked, found, strict=True)]
        return [pair for pair in pairs if not same(*pair[1:])]

    with served(tmp_path, {name: known(kind).folder for kind, name in names.items()}) as port, ThreadPoolExecutor(8) as clients:
        rows = random.Random(0).sample(good, len(good))
        for first in range(0, len(rows), 128):  # of all kinds in one request
            some = rows[first : first + 128]
            status, told = ask(port, {"dataframe_records": [row for *_, row in some]})
            assert status == 200, told
            assert wrong(some, told["predictions"]) == []
        # Each row in a request of its own; those that wait for one model are answered together.
        rows = random.Random(1).sample([*good, *bad], len(good) + len(bad))
        answers = [*clients.map(lambda asked: ask(port, {"dataframe_records": [asked[2]]}), rows)]
        assert {status for status, _ in answers} == {200, 400}
        told = [(asked, answer) for asked, (_, answer) in zip(rows, answers, strict=True) if asked[1] is not None]
        assert wrong([asked for asked, _ in told], [answer["predictions"][0] for _, answer in told]) == []
        refused = [(asked, answer) for asked, (status, answer) in zip(rows, answers, strict=True) if status == 400]
        assert {asked[0] for asked, _ in refused} == {*KINDS}
        assert not [answer for _, answer in refused if " at 0x" in answer["error"]]  # nothing of this machine
