"""A model as MLflow loads it: its files, what may be asked of it, and what of it is merged or shared."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from served import (
    FULL,
    KINDS,
    LORA,
    alike,
    answers,
    candidates,
    classes,
    digits,
    documents,
    in_turn,
    items,
    made,
    replies,
    rows,
    sentence,
    tags,
)

from workbench import Recipe, logistic, methods, zero_shot
from workbench.cli.trust import fetched
from workbench.data import media, sounds
from workbench.errors import DataError, EnvironmentFault, Refused, UsageError
from workbench.result import Result
from workbench.serving import app, bundle, loading, registry, requirements
from workbench.serving.evidence import _metric as metric_of
from workbench.serving.loading import Deployed, sharing
from workbench.serving.regrading import regrade
from workbench.study import load
from workbench.tasks import classification, request
from workbench.testing import TinyTask, tiny_decoder, tiny_model


@pytest.mark.parametrize("metric", ["typos_accuracy", "capitals_macro_f1", "worst_group_accuracy"])
def test_a_model_is_graded_again_by_the_score_that_was_maximised(metric: str, tmp_path: Path, models: dict[str, str]) -> None:
    made_of = [{"text": sentence(i), "label": ("no", "yes")[i % 2], "group": "ab"[i // 2 % 2]} for i in range(80)]
    task = classification(rows(tmp_path, "t.jsonl", made_of), train=24, dev=16, perturb=("typos", "capitals"))
    recipe, last, weights = made(tmp_path, task, models["encoder"], logistic())
    bundle.write(tmp_path / "bundle", recipe, weights, None, {})
    registry.save(tmp_path / "model", tmp_path / "bundle", recipe)
    found = regrade(tmp_path / "model", task, metric, last.scores[metric])
    assert found is not None
    with pytest.raises(Refused, match=rf"loaded again the model has {metric}"):
        regrade(tmp_path / "model", task, metric, last.scores[metric] + 40)


def test_of_a_score_that_no_model_has_by_itself_another_one_is_told(tmp_path: Path, models: dict[str, str]) -> None:
    task = in_turn("plain")(tmp_path)
    recipe = Recipe(task=task, model=models["encoder"], method=FULL, epochs=1, also=[classes(tmp_path)])
    scores = {"accuracy": 1.0, "average_accuracy": 2.0, "backward_transfer": 3.0, "texts_accuracy": 4.0}
    point = Result(recipe_id="r", run_id="r", recipe={}, settings={}, status="complete", scores=scores)
    named = {maximised: metric_of(point, recipe, maximised) for maximised in scores}
    assert named["backward_transfer"] == named["texts_accuracy"] == named["average_accuracy"] == "average_accuracy"


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Path:
    """The bundle of a tiny model of words as numbers."""
    folder = tmp_path_factory.mktemp("bundle")
    recipe, _, weights = made(folder, TinyTask(train=16, dev=8), models["encoder"], FULL)
    bundle.write(folder / "bundle", recipe, weights, None, {})
    return folder / "bundle"


def copied(of: Path, to: Path) -> Path:
    shutil.copytree(of, to)
    return to


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    record = json.loads((folder / bundle.RECORD).read_text())
    change(record)
    (folder / bundle.RECORD).write_text(json.dumps(record))
    return folder


def test_a_bundle_whose_files_were_changed_is_not_loaded(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = copied(tiny_bundle, tmp_path / "b")
    whole = (folder / bundle.WEIGHTS).read_bytes()
    (folder / bundle.WEIGHTS).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=r"weights\.safetensors is not the file that was deployed"):
        Deployed(folder)
    (folder / bundle.WEIGHTS).unlink()
    with pytest.raises(DataError, match="changed or lost"):
        Deployed(folder)
    with pytest.raises(DataError, match="holds no model that workbench has deployed"):
        Deployed(tmp_path)
    with pytest.raises(DataError, match=r"of a newer workbench: its schema is 2"):
        Deployed(edited(copied(tiny_bundle, tmp_path / "c"), lambda record: record.update(schema=2)))
    with pytest.raises(DataError, match="Recipe has no tomorrow in this workbench"):
        Deployed(edited(copied(tiny_bundle, tmp_path / "d"), lambda record: record["recipe"]["fields"].update(tomorrow=1)))


def test_another_base_model_than_the_one_that_was_tuned_is_refused(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    recipe, _, weights = made(tmp_path, TinyTask(train=16, dev=8), base, LORA)
    bundle.write(tmp_path / "b", recipe, weights, None, {})
    assert Deployed(tmp_path / "b").answers([{"words": [8, 7, 9]}])[0] in (0, 1)
    tiny_model(tmp_path / "base", width=32, layers=2)
    weights_of = Path(base, "model.safetensors")
    changed = bytearray(weights_of.read_bytes())
    changed[-1] ^= 1
    weights_of.write_bytes(changed)
    with pytest.raises(EnvironmentFault, match=r"the base model .* here is not the one that was tuned"):
        Deployed(tmp_path / "b")


@pytest.mark.parametrize(
    "name", ["os:system", "workbench.process:exclusive", "workbench.tasks.tables:dataclasses.replace", "workbench.tasks.gone:Task"]
)
def test_a_record_that_names_anything_but_a_recipe_s_classes_is_not_loaded(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        record["recipe"]["fields"]["task"] = {"class": name, "fields": {}}

    with pytest.raises(DataError, match=f"names '{name}'"):
        Deployed(edited(copied(tiny_bundle, tmp_path / "b"), change))


def test_a_model_on_the_registry_needs_no_pickle(tiny_bundle: Path, tmp_path: Path) -> None:
    recipe = bundle.read(tiny_bundle).recipe
    registry.save(tmp_path / "model", tiny_bundle, recipe)
    kinds = {path.suffix for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert kinds <= {"", ".json", ".yaml", ".txt", ".safetensors"}
    needed = (tmp_path / "model" / "requirements.txt").read_text().split()
    assert all("==" in each for each in needed)
    assert {each.split("==")[0] for each in needed} >= {"workbench", "torch", "transformers", "mlflow"}


class Mark:
    """Leaves a mark on the disk when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("way", ["a pickle", "a loader", "code beside", "a bundle elsewhere"])
def test_a_folder_by_which_mlflow_would_run_anything_else_is_not_loaded(way: str, tiny_bundle: Path, tmp_path: Path) -> None:
    import pickle

    import yaml

    registry.save(tmp_path / "model", tiny_bundle, bundle.read(tiny_bundle).recipe)
    assert bundle.inside(tmp_path / "model") == tmp_path / "model/data/bundle"
    mark, path = tmp_path / "mark", tmp_path / "model/MLmodel"
    (tmp_path / "model/model.pkl").write_bytes(pickle.dumps(Mark(mark)))
    (tmp_path / "model/code").mkdir()
    (tmp_path / "model/code/marking.py").write_text(f"open({str(mark)!r}, 'w')\n")
    about = yaml.safe_load(path.read_text())
    changed = {
        "a pickle": {"loader_module": "mlflow.pyfunc.model", "python_model": "model.pkl"},
        "a loader": {"loader_module": "marking", "code": "code"},
        "code beside": {"code": "code"},
        "a bundle elsewhere": {"data": str(tiny_bundle)},
    }[way]
    about["flavors"]["python_function"] |= changed
    path.write_text(yaml.safe_dump(about))
    with pytest.raises(DataError, match="by which MLflow would run code" if "data" not in changed else "holds no model"):
        app._backend({"folder": str(tmp_path / "model"), "log": None, "model": {}}, {"limits": {}})
    assert not mark.exists()
    if way == "a pickle":  # as MLflow alone would
        pickle.loads((tmp_path / "model/model.pkl").read_bytes())
        assert mark.exists()


def test_packages_that_are_not_as_a_model_was_deployed_with_are_told_once(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.save(tmp_path / "model", tiny_bundle, bundle.read(tiny_bundle).recipe)
    store: Any = SimpleNamespace(fetch=lambda version, folder: tmp_path / "model")
    capsys.readouterr()
    assert fetched(store, registry.Version("m", 3, "", ""), tmp_path, trusted=False) == tmp_path / "model"
    assert capsys.readouterr().err == ""
    file = tmp_path / "model" / requirements.FILE
    file.write_text("\n".join(["torch==1.0", "nobodys-package==2", *requirements.of(tmp_path / "model")]))
    fetched(store, registry.Version("m", 3, "", ""), tmp_path, trusted=False)
    told = " ".join(capsys.readouterr().err.split())
    assert told.startswith("Version 3 of m was deployed with other packages")
    assert f"torch 1.0 ({torch.__version__.partition('+')[0]} here), nobodys-package 2 (none here)." in told
    file.unlink()
    assert requirements.others(tmp_path / "model") == []


def test_a_registry_elsewhere_is_told_from_one_on_this_machine() -> None:
    def here(uri: str, source: str) -> bool:
        made = registry.Registry.__new__(registry.Registry)
        made.uri, made._client = uri, SimpleNamespace(get_model_version_download_uri=lambda name, version: source)  # type: ignore[assignment]
        return made.is_here(registry.Version("m", 1, "", ""))

    assert here("sqlite:////tmp/mlflow.db", "file:///tmp/a")
    assert here("./mlruns", "/tmp/a")
    assert not here("sqlite:////tmp/mlflow.db", "s3://bucket/a")
    assert not here("sqlite:////tmp/mlflow.db", "file://other/a")
    assert not here("http://127.0.0.1:5000", "mlflow-artifacts:/a")
    assert not here("postgresql://other/db", "file:///tmp/a")


OWN = """
from dataclasses import dataclass

from workbench import Recipe, Study, full
from workbench.testing import TinyTask


@dataclass(frozen=True)
class Own(TinyTask):
    key: str = "words"

    def asked(self):
        return {{"sentence": "numbers"}}

    def question(self, example):
        return {{"sentence": example["words"]}}

    def example(self, row):
        return {{"words": row["sentence"], "label": 0}}


study = Study(Recipe(task=Own(train=16, dev=8), model={model!r}, method=full(learning_rate=3e-3), epochs=1), maximize="accuracy")
"""


def test_a_task_of_a_study_s_own_is_carried_along(
    tmp_path: Path, models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN.format(model=models["encoder"]))
    study = load(path)
    recipe, last, weights = made(tmp_path, study.recipe.task, models["encoder"], FULL)
    bundle.write(tmp_path / "b", recipe, weights, path, {})
    registry.save(tmp_path / "model", tmp_path / "b", recipe)
    path.unlink()
    dev = recipe.task.splits().dev
    for here, trusted in ((True, False), (False, True), (False, False)):
        store: Any = SimpleNamespace(fetch=lambda version, folder: tmp_path / "model", is_here=lambda version, here=here: here)
        version = registry.Version("mine", 3, "", "")
        with nullcontext() if here or trusted else pytest.raises(Refused, match=r"version 3 of mine brings code.*--trust-code"):
            assert fetched(store, version, tmp_path, trusted=trusted) == tmp_path / "model"
            assert "runs the file of its study" in capsys.readouterr().err
    assert Deployed(tmp_path / "b").answers([recipe.task.question(example) for example in dev]) == last.predictions
    with pytest.raises(UsageError, match="stands in a study file that is not known"):
        bundle.write(tmp_path / "c", recipe, weights, None, {})
    path.write_text("from helpers import clean\n" + OWN.format(model=models["encoder"]))
    (tmp_path / "helpers.py").write_text("def clean(text): return text\n")
    with pytest.raises(UsageError, match=r"mine\.py imports helpers from the folder beside it.*Write what its Own needs into"):
        bundle.write(tmp_path / "d", recipe, weights, path, {})
    assert repr(bundle.recipe(tmp_path / "b")) == repr(bundle.read(tmp_path / "b").recipe)  # each from a run of the file


def test_a_task_that_does_not_say_what_it_is_asked_with_is_not_deployed(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyTask, "asked", lambda self: {})
    recipe = Recipe(task=TinyTask(), model=models["encoder"], method=FULL, epochs=1)
    with pytest.raises(UsageError, match="TinyTask does not say what a model of it is asked with"):
        bundle.write(tmp_path / "b", recipe, None, None, {})
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("asked", [classes, answers, tags, replies, documents, candidates, digits], ids=lambda f: f.__name__)
def test_the_row_that_is_shown_can_be_asked(asked: Callable[[Path], Any], tmp_path: Path) -> None:
    task = asked(tmp_path)
    row = request.sample(task.asked())
    request.check_row(task.asked(), row)
    task.example(row)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": 5}, "text must be a text, and not empty; got 5"),
        ({"text": None}, "got None"),
        ({"text": float("nan")}, "got nan"),
        ({"text": "  "}, "not empty"),
        ({"text": "\ud800"}, "text must be a text"),
        ({"text": ["a"]}, "got list"),
        ({"text": "a" * 200_001}, "^has 200,001 characters, and may have 200,000"),
        ({}, r"^lacks 'text'\. A row holds 'text' \(a text\)\."),
        ({"text": "a", "label": "b"}, "^has 'label', which is not asked for"),
        ({"text": "a", "id": 5}, "id must be a text"),
        ({"text": "a", "id": "x" * 129}, "at most 128 characters"),
        (["a"], "^must be an object with 'text'"),
    ],
)
def test_a_row_that_cannot_be_asked_is_refused(row: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        request.check_row({"text": request.TEXT}, row)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (request.NUMBERS, [1.5]),
        (request.NUMBERS, [True]),
        (request.NUMBERS, [2**40]),
        (request.NUMBERS, []),
        (request.TEXTS, ["a", 1]),
        (request.TEXTS, ["a"] * 10_001),
        (request.TURNS, [{"role": "user"}]),
        (request.TURNS, [{"role": "root", "content": "a"}]),
        (request.TURNS, [{"role": "user", "content": "a", "more": 1}]),
        (request.FILE, 5),
    ],
)
def test_a_field_of_each_kind_is_checked(kind: str, value: Any) -> None:
    with pytest.raises(DataError, match="x must be"):
        request.check_row({"x": kind}, {"x": value})


def test_a_file_that_is_sent_is_looked_at_before_it_is_unpacked(tmp_path: Path) -> None:
    import base64
    import io

    from PIL import Image

    task = digits(tmp_path)
    drawn = io.BytesIO()
    Image.new("1", (8000, 8000)).save(drawn, "png")
    assert len(drawn.getvalue()) < 100_000
    for sent, said in (
        ("?", "base64"),
        ("aGVsbG8=", "not an image"),
        (base64.b64encode(drawn.getvalue()).decode(), "64,000,000 pixels"),
    ):
        with pytest.raises(DataError, match=said):
            task.example({"image": sent})


def test_a_recommender_needs_no_data_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = items(tmp_path)
    names = [*task.texts]
    expected, portable = task.log_shares(names), task.portable()
    monkeypatch.setattr(type(task), "splits", lambda self: pytest.fail("the data are read"))
    assert portable.log_shares(names).tolist() == expected.tolist()
    assert len({*expected.tolist()}) > 1


def test_a_row_that_is_longer_than_the_model_takes_is_refused_alone_and_among_others(
    tmp_path: Path, models: dict[str, str]
) -> None:
    import pandas as pd
    from mlflow.exceptions import MlflowException

    recipe = Recipe(task=replies(tmp_path), model=models["decoder"], method=zero_shot(), epochs=0)
    bundle.write(tmp_path / "b", recipe, None, None, {})
    served, short, long = (Deployed(tmp_path / "b"), *([{"role": "user", "content": "w4 " * n}] for n in (3, 900)))
    assert len(served.predict(pd.DataFrame({"messages": [short, short]}))) == 2
    with pytest.raises(MlflowException, match="none of 1 prompts is short enough"):
        served.predict(pd.DataFrame({"messages": [long]}))
    with pytest.raises(MlflowException, match=r"row 1: is longer than this model takes\. Send a shorter one"):
        served.predict(pd.DataFrame({"messages": [short, long]}))
    assert served.predictions([{"messages": short}, {"messages": long}])[1] == ""  # as it is graded


def test_a_conversation_that_a_chat_template_refuses_is_refused(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(tiny_decoder(tmp_path / "m"))
    words.chat_template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system here') }}{% endif %}"
    words.chat_template += "{% for m in messages %}{{ m['content'] }}</s>{% endfor %}"
    words.save_pretrained(tmp_path / "m")
    recipe = Recipe(task=replies(tmp_path), model=str(tmp_path / "m"), method=zero_shot(), epochs=0)
    bundle.write(tmp_path / "b", recipe, None, None, {})
    turns = [{"role": role, "content": "w4"} for role in ("system", "user")]
    with pytest.raises(UsageError, match=r"takes no conversation of these turns: system, user \(No system here\)"):
        Deployed(tmp_path / "b").answers([{"messages": turns}])


@pytest.mark.parametrize("rate", [1, 999, 384_001, 2**31 - 1])
def test_a_sound_whose_head_states_a_rate_that_none_has_is_refused_before_it_is_read(rate: int, tmp_path: Path) -> None:
    content = bytearray(sounds.wav(np.zeros(300), 16000))
    content[24:28] = rate.to_bytes(4, "little")
    with pytest.raises(DataError, match=f"a sound of {rate:,} samples a second cannot be heard"):
        media.check_sent("sound", bytes(content))
    with pytest.raises(DataError, match="cannot be heard"):
        media.read("sound", "", {"bytes": bytes(content)})


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_the_beginning_of_a_sound_is_what_it_is_in_all_of_it(rate: int) -> None:
    samples = np.random.default_rng(0).normal(size=30_000).astype(np.float32)
    whole = sounds.resampled(samples, rate, 16000)
    assert np.array_equal(sounds.resampled(samples, rate, 16000, 4000), whole[:4000])


@pytest.mark.parametrize("kind", ["classes by an adapter", "next words", "yes or no"])
def test_a_model_that_is_served_alone_is_merged_and_answers_as_before(kind: str, tmp_path: Path, models: dict[str, str]) -> None:
    of, task_in, method = KINDS[kind]
    task = task_in(tmp_path)
    recipe, _, weights = made(tmp_path, task, models[of], method)
    bundle.write(tmp_path / "b", recipe, weights, None, {})
    asked = [task.question(example) for example in task.splits().dev]
    with sharing():
        apart = Deployed(tmp_path / "b")
    merged = Deployed(tmp_path / "b")
    names = [[name for name, _ in each._predictor._asked.model.named_parameters()] for each in (apart, merged)]
    assert any("lora" in name for name in names[0])
    assert not any("lora" in name for name in names[1])
    for one, other in zip(merged.answers(asked), apart.answers(asked), strict=True):
        assert alike(one, other)


def test_what_does_not_answer_as_before_is_not_merged(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = classes(tmp_path)
    recipe, _, weights = made(tmp_path, task, models["encoder"], LORA)
    bundle.write(tmp_path / "b", recipe, weights, None, {})
    asked = [task.question(example) for example in task.splits().dev]
    right = Deployed(tmp_path / "b").answers(asked)
    merged = methods.merged

    def wrong(method: Any, model: Any) -> Any:
        plain = merged(method, model)
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter.mul_(1.5)
        return plain

    monkeypatch.setattr(methods, "merged", wrong)
    served = Deployed(tmp_path / "b")
    assert any("lora" in name for name, _ in served._predictor._asked.model.named_parameters())
    assert all(alike(one, other) for one, other in zip(served.answers(asked), right, strict=True))


def test_of_several_models_those_on_one_base_share_it_and_one_alone_is_merged(tmp_path: Path, models: dict[str, str]) -> None:
    known = []
    for name, base, seed in (("a", "encoder", 0), ("b", "encoder", 1), ("c", "decoder", 0)):
        (folder := tmp_path / name).mkdir()
        recipe, _, weights = made(folder, classes(folder), models[base], LORA, seed)
        bundle.write(folder / "b", recipe, weights, None, {})
        registry.save(folder / "model", folder / "b", recipe)
        known.append({"name": name, "folder": str(folder / "model"), "log": None, "model": {}})
    loaded: list[Any] = []
    load_model = loading._load_pyfunc

    def noted(path: str) -> Any:
        loaded.append(load_model(path))
        return loaded[-1]

    with mock.patch.object(loading, "_load_pyfunc", noted):
        assert [*app._backends({"models": known, "limits": {}, "inputs": False})] == ["a", "b", "c"]
    first, second, alone = (dict(each._predictor._asked.model.named_parameters()) for each in loaded)
    frozen = {name for name, p in first.items() if not p.requires_grad and "original_module" not in name}
    assert frozen
    assert all(first[name].data_ptr() == second[name].data_ptr() for name in frozen)
    assert not any("lora" in name for name in alone)


def test_adapters_on_one_base_share_its_weights_and_answer_as_alone(tmp_path: Path, models: dict[str, str]) -> None:
    task, folders, alone = classes(tmp_path), [], []
    asked = [task.question(example) for example in task.splits().dev]
    for seed in (0, 1):  # which draws another head
        folder = tmp_path / f"seed-{seed}"
        folder.mkdir()
        recipe, _, weights = made(folder, task, models["encoder"], LORA, seed)
        bundle.write(folder / "b", recipe, weights, None, {})
        folders.append(folder / "b")
        alone.append(Deployed(folder / "b").answers(asked))
    with sharing():
        both = [Deployed(folder) for folder in folders]
    assert [each.answers(asked) for each in both] == alone
    first, second = (dict(each._predictor._asked.model.named_parameters()) for each in both)
    shared = {name for name, p in first.items() if p.data_ptr() == second[name].data_ptr()}
    frozen = {name for name, p in first.items() if not p.requires_grad}
    # But for the head that was drawn before one was tuned: another seed draws another.
    assert set() != {name for name in frozen if "original_module" not in name} <= shared <= frozen
