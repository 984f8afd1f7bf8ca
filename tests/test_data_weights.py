"""Whatever is wrong with a model's files is said before it is trained, and nothing of it becomes a random model in silence."""

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.data import models
from workbench.errors import EnvironmentFault, UsageError

QA, CLASSES = "AutoModelForQuestionAnswering", "AutoModelForSequenceClassification"
Weights = dict[str, torch.Tensor]


@pytest.fixture
def copy(tiny: str, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be broken."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    file = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}, file, metadata={"format": "pt"})


def set_config(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def shard(folder: Path, *, lose: int = 0) -> None:
    """Two files and an index in the place of one; the first `lose` files are then removed."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, parts = sorted(weights), {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"model-{i + 1:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        parts |= dict.fromkeys(part, file)
    for i in range(lose):
        (folder / f"model-{i + 1:05}-of-00002.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))


def as_bin(folder: Path, change: Callable[[Weights], Any] = dict) -> None:
    torch.save(change(load_file(folder / "model.safetensors")), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def prefixed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + name: tensor for name, tensor in weights.items()}


def without(*parts: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: tensor for name, tensor in weights.items() if not any(part in name for part in parts)}


def refused(folder: Path, auto_class: str = QA) -> str:
    """What both the check before anything is spent and the loading itself say."""
    with pytest.raises((UsageError, EnvironmentFault)) as early:
        models.check(str(folder), auto_class)
    with pytest.raises(type(early.value)) as late:
        models.build(str(folder), auto_class)
    assert str(early.value) == str(late.value)
    assert str(folder) in str(early.value)
    return str(early.value)


BREAKS: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "compiled": (lambda f: rewrite(f, prefixed("_orig_mod.")), ["lack 37 of the 39 tensors", "'_orig_mod.'", "strip it"]),
    "parallel": (lambda f: rewrite(f, prefixed("module.")), ["lack 37 of the 39", "'module.'"]),
    "wrapped": (lambda f: rewrite(f, prefixed("model.bert.")), ["lack 37 of the 39", "prefix 'model.bert.'"]),
    "a layer gone": (
        lambda f: rewrite(f, without(".layer.1.")),
        ["lack 16 of the 39", "bert.encoder.layer.1.attention", "num_hidden_layers=2, and layers 1 are not"],
    ),
    "more layers in config.json": (lambda f: set_config(f, num_hidden_layers=4), ["num_hidden_layers=4, and layers 2, 3 are"]),
    "the embeddings gone": (lambda f: rewrite(f, without("word_embeddings")), ["lack 1 of the 39", "word_embeddings.weight"]),
    "another vocabulary": (lambda f: set_config(f, vocab_size=80), ["word_embeddings.weight has the shape (64, 32)", "(80, 32)"]),
    "another width": (
        lambda f: set_config(f, intermediate_size=48),
        ["intermediate.dense.bias has the shape (64,)", "6 of 39 tensors"],
    ),
    "other names": (lambda f: rewrite(f, lambda w: {f"x{i}": t for i, t in enumerate(w.values())}), ["lack 37 of the 39"]),
    "nothing in the file": (lambda f: rewrite(f, lambda w: {}), ["lack 37 of the 39"]),
    "bin, compiled": (lambda f: as_bin(f, prefixed("_orig_mod.")), ["lack 37 of the 39", "'_orig_mod.'"]),
}


@pytest.mark.parametrize("what", BREAKS)
def test_weights_that_are_not_there_are_named_and_refused(copy: Path, what: str) -> None:
    do, says = BREAKS[what]
    do(copy)
    told = refused(copy)
    for part in says:
        assert part in told


def test_a_part_that_is_not_there_is_named(copy: Path) -> None:
    shard(copy, lose=1)
    with pytest.raises(UsageError, match=r"model-00001-of-00002.safetensors is not there \(1 of 2 files"):
        models.check(str(copy), QA)
    with pytest.raises(EnvironmentFault, match="model-00001-of-00002"):
        models.build(str(copy), QA)


@pytest.mark.parametrize(
    "do",
    [
        lambda f: None,
        shard,
        as_bin,
        lambda f: rewrite(f, prefixed("bert.")),
        lambda f: rewrite(f, lambda w: w | {"cls.predictions.bias": torch.zeros(64), "pooler.extra": torch.zeros(3)}),
        lambda f: rewrite(f, without("pooler")),  # which no answer depends on
        lambda f: rewrite(f, lambda w: {n.replace("LayerNorm.weight", "LayerNorm.gamma"): t for n, t in w.items()}),
        lambda f: rewrite(f, lambda w: {n: t.half() for n, t in w.items()}),
        lambda f: rewrite(f, lambda w: w | {"embeddings.position_ids": torch.arange(32)[None]}),
        lambda f: rewrite(f, lambda w: w | {"qa_outputs.weight": torch.zeros(7, 32), "qa_outputs.bias": torch.zeros(7)}),
        lambda f: set_config(f, id2label={str(i): str(i) for i in range(5)}),  # of a classifier: spans have two ends all the same
    ],
    ids=[
        "as-it-is",
        "shards",
        "bin",
        "with-base-prefix",
        "old-heads",
        "no-pooler",
        "gamma",
        "half",
        "old-buffer",
        "head-of-another-size",
        "five-labels",
    ],
)
def test_whole_weights_are_no_false_alarm(copy: Path, do: Callable[[Path], None]) -> None:
    weights = load_file(copy / "model.safetensors")
    do(copy)
    models.check(str(copy), QA, num_labels=2)
    model: Any = models.build(str(copy), QA, num_labels=2)
    assert model.qa_outputs.weight.shape == (2, 32)
    ours = model.bert.encoder.layer[1].output.dense.weight
    torch.testing.assert_close(ours, weights["encoder.layer.1.output.dense.weight"], rtol=1e-3, atol=1e-3)


def test_a_pooler_is_needed_where_the_output_depends_on_it(copy: Path) -> None:
    rewrite(copy, without("pooler"))
    assert "lack 2 of the 41 tensors of its model, which would be random: bert.pooler.dense.weight" in refused(copy, CLASSES)


@pytest.mark.parametrize("name", [name for name, of in models.MODELS.items() if of.layers])
def test_built_in_models_are_checked_as_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models.check(name, QA)
    whole = models._kept_layers
    monkeypatch.setattr(models, "_kept_layers", lambda *args, **more: without(".layer.1.")(whole(*args, **more)))
    for act in (models.check, models.build):
        with pytest.raises(UsageError, match=r"lack 16 of the \d+ tensors.*layers 1 are not whole"):
            act(name, QA)


@pytest.mark.parametrize("kind", ["t5", "roberta", "deberta-v2", "gpt2", "mixtral", "modernbert", "albert", "bart", "xlnet"])
def test_architectures_that_rename_or_tie_their_weights_are_no_false_alarm(kind: str, tmp_path: Path) -> None:
    import transformers
    from test_heads import configuration

    transformers.AutoModel.from_config(configuration(kind)).save_pretrained(tmp_path)
    models.check(str(tmp_path), QA)
    models.build(str(tmp_path), QA)


# A model's own code


def own_code(folder: Path, **settings: Any) -> None:
    set_config(folder, auto_map={"AutoConfig": "own.C", "AutoModel": "own.M", QA: "own.Q", CLASSES: "own.Q"}, **settings)
    (folder / "own.py").write_text("raise SystemExit('THE CODE RAN')\n")


@pytest.mark.parametrize("answer", ["", "y\ny\n"])
def test_a_models_own_code_is_never_run_nor_asked_for(copy: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own_code(copy, model_type="mybert")
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    for act in (models.config, lambda name: models.build(name, QA), lambda name: models.check(name, QA)):
        with pytest.raises(UsageError, match="needs code of its own to be run"):
            act(str(copy))


def test_a_model_that_transformers_knows_is_loaded_without_the_code_beside_it(copy: Path) -> None:
    own_code(copy)
    models.check(str(copy), QA)
    assert type(models.build(str(copy), QA)).__name__ == "BertForQuestionAnswering"
    assert models.build(str(copy), QA, device="meta").device.type == "meta"
    assert len(models.tokenizer(str(copy))) == 64


def test_a_tokeniser_of_its_own_is_refused_and_not_taken_for_another(copy: Path) -> None:
    path = copy / "tokenizer_config.json"
    stated = {"tokenizer_class": "MyTokenizer", "auto_map": {"AutoTokenizer": [None, "own.T"]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | stated))
    (copy / "own.py").write_text("raise SystemExit('THE CODE RAN')\n")
    with pytest.raises(UsageError, match=r"tokeniser of .* needs code of its own"):
        models.tokenizer(str(copy))


# Broken files


def truncate(name: str, size: int = 60) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def write(name: str, text: str | bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def drop(*names: str) -> Callable[[Path], Any]:
    return lambda folder: [(folder / name).unlink() for name in names]


def both(*breaks: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda folder: [act(folder) for act in breaks]


class Evil:
    def __reduce__(self) -> Any:
        return print, ("THE PICKLE RAN",)


def pickled(folder: Path) -> None:
    drop("model.safetensors")(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))


BROKEN: dict[str, Callable[[Path], Any]] = {
    "config truncated": truncate("config.json"),
    "config empty": write("config.json", ""),
    "config a list": write("config.json", "[1]"),
    "config not text": write("config.json", b"\xff\xfe\x00\x01"),
    "config with a word for a number": lambda f: set_config(f, hidden_size="wide"),
    "config with heads that do not divide": lambda f: set_config(f, num_attention_heads=7),
    "config with no such activation": lambda f: set_config(f, hidden_act="nonsense"),
    "config with null": lambda f: set_config(f, hidden_size=None),
    "config with zero": lambda f: set_config(f, num_attention_heads=0),
    "config with labels of another kind": lambda f: set_config(f, id2label=["a", "b"]),
    "quantised without the package": lambda f: set_config(f, quantization_config={"quant_method": "gptq", "bits": 4}),
    "weights truncated": truncate("model.safetensors"),
    "weights cut in their middle": truncate("model.safetensors", 20_000),
    "weights of zero bytes": write("model.safetensors", b""),
    "weights that are a page": write("model.safetensors", "<html>not found</html>" * 20),
    "weights by LFS": write("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"),
    "no weights": drop("model.safetensors"),
    "a pickle": pickled,
    "an index that is none": both(drop("model.safetensors"), write("model.safetensors.index.json", "[]")),
    "an index without a map": both(drop("model.safetensors"), write("model.safetensors.index.json", "{}")),
    "tokeniser truncated": truncate("tokenizer.json"),
    "tokeniser empty": write("tokenizer.json", "{}"),
    "tokeniser gone": drop("tokenizer.json", "tokenizer_config.json"),
    "tokeniser's settings truncated": truncate("tokenizer_config.json", 20),
    "tokeniser's settings a list": write("tokenizer_config.json", "[]"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_files_are_told_in_our_words(copy: Path, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    BROKEN[what](copy)

    def load() -> None:
        models.config(str(copy))
        models.check(str(copy), QA)
        models.tokenizer(str(copy))
        models.build(str(copy), QA)

    with pytest.raises((UsageError, EnvironmentFault)) as told:
        load()
    text = str(told.value)
    assert str(copy) in text
    assert "\n" not in text
    assert text.endswith(".")
    assert "RAN" not in capfd.readouterr().out


def test_what_is_wrong_shows_before_the_weights_are_read(copy: Path) -> None:
    """All but the tokeniser's: `check` alone says it."""
    for what in ("weights truncated", "no weights", "a pickle", "config with heads that do not divide"):
        folder = Path(shutil.copytree(copy, copy.parent / what))
        BROKEN[what](folder)
        with pytest.raises((UsageError, EnvironmentFault)):
            models.check(str(folder), QA)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("can't allocate memory: 8 bytes")])
def test_a_lack_of_memory_is_no_fault_of_the_model(copy: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def fail(*_: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr(transformers.AutoModelForQuestionAnswering, "from_pretrained", fail)
    with pytest.raises(type(error)) as caught:
        models.build(str(copy), QA)
    assert caught.value is error
