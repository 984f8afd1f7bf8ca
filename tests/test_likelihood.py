"""Language models that choose among a few answers by their likelihood, and prompts whose common beginning is read once."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import transformers
from kinds import tiny_gpt2
from products import once_each
from test_formulations_text import label, recipe, shaken, tuned
from test_methods_kinds import is_possible
from test_methods_kinds import recipe as peft_recipe

from workbench import Method, Study, choice, few_shot, flops, full, peft, zero_shot
from workbench.data import models
from workbench.errors import UsageError
from workbench.forecast import Forecaster, pairs
from workbench.formulations import Example, Formulation, classification
from workbench.methods import peft_methods
from workbench.objectives import Answers, Likelihood, Passes, inputs_of, prompts
from workbench.objectives.likelihood import chosen
from workbench.tasks.class_scores import class_scores
from workbench.testing import TinyTask, TinyText, tiny_decoder, tiny_model, tiny_seq2seq
from workbench.training import train
from workbench.training.tuning import Tuning

WORDS = {"n": "no", "y": "yes it is", "m": "w12 yes"}
DECODERS = ("chat", "plain", "untied", "gpt2")
WRITERS = (*DECODERS, "seq2seq", "bart")
TWO_WRITERS = [kind if kind in ("chat", "seq2seq") else pytest.param(kind, marks=pytest.mark.slow) for kind in WRITERS]
FEW_WRITERS = [pytest.param(kind, marks=pytest.mark.slow) if kind in ("untied", "gpt2") else kind for kind in WRITERS]
"""For what the place of an output matrix, and how places are counted, have no part in."""


@dataclass(frozen=True)
class TinyClasses(TinyTask):
    """The tiny question with classes whose names are of several tokens."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    lower_is_better: ClassVar[tuple[str, ...]] = ("calibration_error",)

    def formulation(self, kind: str) -> Formulation:
        return classification(kind, self, WORDS, _text, _labels, max_length=32, instruction="w7 it is:")

    def score(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
        given = [next(iter(p.labels), "") for p in predictions]
        return class_scores([_labels(e)[0] for e in examples], given, [p.confidence for p in predictions])


def _text(example: Example) -> str:
    return " ".join(f"w{word}" for word in example["words"])


def _labels(example: Example) -> list[str]:
    return ["y" if example["label"] else "n"]


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @functools.cache
    def make(kind: str) -> str:
        folder = tmp_path_factory.mktemp(kind)
        if kind == "encoder":
            return tiny_model(folder)
        if kind in ("seq2seq", "bart"):
            tiny_seq2seq(folder)
            return str(folder) if kind == "seq2seq" else tiny_bart(folder)
        tiny_decoder(folder, chat=kind != "plain", tied=kind != "untied")
        return tiny_gpt2(folder) if kind == "gpt2" else str(folder)

    return make


def tiny_bart(folder: Any) -> str:
    torch.manual_seed(0)
    (folder / "config.json").unlink()
    config = transformers.BartConfig(
        vocab_size=268, d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
        encoder_attention_heads=4, decoder_attention_heads=4, max_position_embeddings=256, pad_token_id=0, bos_token_id=2,
        eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=None,
    )  # fmt: skip
    transformers.BartForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def asked(of: Tuning, count: int = 6, shots: Any = ()) -> Any:
    return of.formulation.encode(of.recipe.task.splits().dev[:count], of.processor, answers=False, shots=shots)


def by_hand(of: Tuning, ids: np.ndarray, answer: Sequence[int]) -> float:
    """The sum of the logarithms of the probabilities of an answer's tokens, by one plain pass of one row."""
    told = torch.tensor([answer])
    if of.model.config.is_encoder_decoder:
        start = torch.tensor([[of.model.config.decoder_start_token_id]])
        logits = of.model(input_ids=torch.tensor(ids[None].astype(np.int64)), decoder_input_ids=torch.cat((start, told), 1)).logits
        logits = logits[0, :-1]
    else:
        whole = torch.cat((torch.tensor(ids[None].astype(np.int64)), told), 1)
        logits = of.model(input_ids=whole).logits[0, len(ids) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, told.T).sum())


LIKELY = zero_shot(read="likelihood")
LORA = peft("lora", learning_rate=1e-3, r=2, target_modules="all-linear", init_lora_weights=False, read="likelihood")


@once_each("kind, method", WRITERS, [LIKELY, LORA], label=label)
@torch.no_grad()
def test_the_likelihood_of_each_answer_is_that_of_a_plain_pass(name: Any, kind: str, method: Method) -> None:
    of = shaken(tuned(name(kind), method, task=TinyClasses(train=16, dev=6)))
    rows = asked(of)
    inference = of.inference
    assert isinstance(inference, Likelihood)
    assert len({len(each) for each in inference.choices}) > 1
    end = of.processor.eos_token_id
    assert all(end not in each for each in inference.choices)
    for shared in (10**9, 1):  # without a beginning that is read once, and with it
        prompts.WORTH_A_PASS, kept = shared, prompts.WORTH_A_PASS
        try:
            together = inference(of.model, rows.batch(range(6)))
        finally:
            prompts.WORTH_A_PASS = kept
        for i, logs in enumerate(together):
            assert logs.shape == (3,)
            expected = [by_hand(of, rows.columns["input_ids"][i], answer) for answer in inference.choices]
            np.testing.assert_allclose(logs, expected, rtol=1e-5, atol=1e-4)
            np.testing.assert_allclose(inference(of.model, rows.batch([i]))[0], logs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["chat", "gpt2", "seq2seq"])
@torch.no_grad()
def test_behind_tokens_of_a_prompt_method_each_answer_is_read_with_its_prompt(name: Any, kind: str) -> None:
    method = peft("prompt_tuning", learning_rate=1e-3, num_virtual_tokens=3, read="likelihood")
    of = shaken(tuned(name(kind), method, task=TinyClasses(train=16, dev=6)))
    inference = of.inference
    assert isinstance(inference, Likelihood)
    rows = asked(of)
    together = inference(of.model, rows.batch(range(6)))
    for i, logs in enumerate(together):
        for answer, log in zip(inference.choices, logs, strict=True):
            ids = rows.columns["input_ids"][i].astype(np.int64)
            whole = np.array([*ids, *answer]) if kind != "seq2seq" else ids
            labels = [*[-100] * len(ids), *answer] if kind != "seq2seq" else [*answer]
            batch = {"input_ids": torch.tensor(whole[None]), "labels": torch.tensor([labels])}
            batch["attention_mask"] = torch.ones_like(batch["input_ids"])
            loss = of.objective.loss(of.objective.forward(of.model, batch), batch)
            assert float(-loss) == pytest.approx(log, abs=1e-4)


@pytest.mark.parametrize("kind", TWO_WRITERS)
def test_it_gives_confidences_by_which_the_calibration_error_is_known(name: Any, kind: str) -> None:
    made = recipe(name(kind), LIKELY, task=TinyClasses(train=16, dev=8))
    (only,) = train(made)
    assert {"accuracy", "macro_f1", "calibration_error"} <= {*only.scores}
    assert all(0 < p.confidence <= 1 and p.labels[0] in WORDS for p in only.predictions)
    (greedy,) = train(recipe(name(kind), zero_shot(), task=TinyClasses(train=16, dev=8)))
    assert "calibration_error" not in greedy.scores
    assert greedy.recipe.id != only.recipe.id


def test_it_learns_to_choose_and_to_be_sure(name: Any) -> None:
    method = full(learning_rate=3e-3, read="likelihood")
    *_, last = train(recipe(name("chat"), method, task=TinyClasses(train=32, dev=8), epochs=12, averaging=None))
    assert {p.labels for p in last.predictions} <= {("y",), ("n",)}
    assert min(p.confidence for p in last.predictions) > 0.4


@pytest.mark.parametrize("kind", TWO_WRITERS)
@torch.no_grad()
def test_mutual_information_is_the_likelihood_less_that_without_content(name: Any, kind: str) -> None:
    task = TinyClasses(train=16, dev=6)
    of = shaken(tuned(name(kind), zero_shot(read="mutual_information"), task=task))
    rows = asked(of)
    inference = of.inference
    assert isinstance(inference, Likelihood)
    empty = replace(of.formulation, prompt=lambda _: "N/A\n\nw7 it is:")
    neutral = empty.encode(task.splits().dev[:1], of.processor, answers=False).columns["input_ids"][0]
    assert [*inference.neutral] == neutral.tolist()
    leaning = [by_hand(of, neutral, answer) for answer in inference.choices]
    together = inference(of.model, rows.batch(range(6)))
    assert len(together) == 6
    for i, logs in enumerate(together):
        expected = [by_hand(of, rows.columns["input_ids"][i], answer) for answer in inference.choices]
        np.testing.assert_allclose(logs, np.array(expected) - leaning, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(inference(of.model, rows.batch([i]))[0], logs, rtol=1e-5, atol=1e-4)


def test_the_rules_of_lm_evaluation_harness() -> None:
    logs = np.array([-3.0, -4.0, -9.0])
    assert chosen(logs) == (0, pytest.approx(np.exp(-3) / (np.exp(-3) + np.exp(-4) + np.exp(-9))))
    best, confidence = chosen(logs, np.array([2, 9, 30]))  # -1.5, -0.44, -0.3: acc_norm
    assert (best, confidence) == (2, pytest.approx(np.exp(-9) / (np.exp(-3) + np.exp(-4) + np.exp(-9))))


def test_per_byte_is_by_the_bytes_of_the_texts(name: Any) -> None:
    task = TinyClasses(train=16, dev=8)
    formulation = task.formulation("decoder").reading("likelihood_per_byte")
    rows = formulation.encode(task.splits().dev[:1], models.processor(name("chat")), answers=False)
    logs = [np.array([-3.0, -4.0, -9.0])]  # of texts of 2, 9 and 7 bytes
    (found,) = formulation.decode(task.splits().dev[:1], rows, logs, models.processor(name("chat")))
    assert found.labels == ("y",)
    (found,) = task.formulation("decoder").reading("likelihood").decode(task.splits().dev[:1], rows, logs, None)
    assert found.labels == ("n",)


def test_what_was_computed_is_what_was_read(name: Any) -> None:
    of = shaken(tuned(name("chat"), LIKELY, task=TinyClasses(train=16, dev=6)))
    inference = of.inference
    assert isinstance(inference, Likelihood)
    rows, seen = asked(of), []
    of.model.get_input_embeddings().register_forward_hook(lambda module, args, output: seen.append(args[0].numel()))
    with torch.no_grad():
        found = inference(of.model, rows.batch(range(6)))
    assert found.passes is not None
    assert sum(seen) == found.passes.padded
    lengths = rows.lengths.tolist()
    assert sum(found.passes.tokens) == sum(lengths) + 6 * inference.read_tokens
    assert of.shape is not None
    whole = flops.forward(of.shape, [*(n + inference.read_tokens for n in lengths)])
    counted = flops.forward(of.shape, found.passes.tokens, found.passes.past)
    assert counted == pytest.approx(whole, rel=0.2)
    assert counted < whole  # answers do not look at each other


def test_a_forecast_counts_every_answer(name: Any) -> None:
    made = recipe(name("chat"), LIKELY, task=TinyClasses(train=16, dev=8))
    (only,) = train(made)
    done = only.usage["evaluate"].work
    forecast = Forecaster(Study(made, maximize="accuracy")).run(made).work["evaluate"]
    assert forecast.flops == pytest.approx(done.flops, rel=0.25)


def test_ways_to_read_that_there_are_not(name: Any) -> None:
    with pytest.raises(UsageError, match=r"read must be one of 'greedy', 'likelihood', .* 'mutual_information'; got 'loud'"):
        zero_shot(read="loud")
    (free,) = pairs.plan(Study(recipe(name("chat"), LIKELY), maximize="accuracy"))
    assert "read='likelihood' chooses among a few answers, and this task allows any text" in free.problem
    task = TinyClasses(train=16, dev=8)
    (encoder,) = pairs.plan(Study(recipe(name("encoder"), LIKELY, task=task), maximize="accuracy"))
    assert "read='likelihood' is for language models that choose among a few answers" in encoder.problem
    with pytest.raises(UsageError, match="is for language models"):
        next(train(recipe(name("encoder"), LIKELY, task=task)))


def test_how_an_answer_is_read_may_be_searched(name: Any) -> None:
    made = recipe(name("chat"), zero_shot(read=choice("greedy", "likelihood")), task=TinyClasses(train=16, dev=8))
    study = Study(made, maximize="accuracy")
    assert [*study.dimensions] == ["zero_shot.read"]
    assert study.resolve({"zero_shot.read": "greedy"}).id == recipe(name("chat"), zero_shot(), task=TinyClasses(dev=8)).id
    assert "read" not in recipe("m", zero_shot()).to_json()["method"]


# Beginnings that are read once


def many(of: Tuning) -> Any:
    return asked(of, shots=TinyText(train=2).splits().train)


@once_each("kind, method", DECODERS, [zero_shot(), LORA], label=label)
@torch.no_grad()
def test_answers_are_the_same_where_the_beginning_is_read_once(
    name: Any, kind: str, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = shaken(tuned(name(kind), dataclasses.replace(method, read="greedy")))
    rows = many(of)
    batch = rows.batch(range(6))
    assert len({int(n) for n in rows.lengths}) > 3
    seen: list[torch.Tensor] = []
    of.model.get_input_embeddings().register_forward_hook(lambda module, args, output: seen.append(args[0]))
    once = of.inference(of.model, batch)
    assert isinstance(once, Answers)
    assert once.passes is not None
    read = int(seen[0].numel())
    assert seen[0].tolist() == [rows.columns["input_ids"][0][:read].tolist()]
    assert read > 40
    assert {tuple(ids[:read].tolist()) for ids in rows.columns["input_ids"]} == {tuple(seen[0][0].tolist())}
    assert once.passes.past == [0, *[read] * 6]
    assert sum(once.passes.tokens) == sum(rows.lengths) - 5 * read + sum(map(len, once))
    assert 0 <= once.passes.padded - sum(each.numel() for each in seen) <= 6  # but for a last token that none follows
    monkeypatch.setattr(prompts, "WORTH_A_PASS", 10**9)
    seen.clear()
    plain = of.inference(of.model, batch)
    assert isinstance(plain, Answers)
    assert plain.passes == Passes([*(rows.lengths + [len(each) for each in plain])], [0] * 6, plain.passes.padded)
    assert seen[0].shape == batch["input_ids"].shape
    assert [each.tolist() for each in once] == [each.tolist() for each in plain]
    assert len({tuple(each.tolist()) for each in once}) > 1


@torch.no_grad()
def test_the_keys_and_values_and_the_places_are_those_of_a_row_alone(name: Any) -> None:
    for kind in ("chat", "gpt2"):
        of = shaken(tuned(name(kind), zero_shot()))
        rows = many(of)
        found = prompts.shared(of.model, inputs_of(rows.batch(range(6))), of.processor.pad_token_id)
        assert found.read > 40
        inputs = found.inputs
        logits = prompts.read(of.model, inputs["input_ids"], inputs["attention_mask"], inputs["past_key_values"])[:, -1]
        for i in range(6):
            ids = torch.tensor(rows.columns["input_ids"][i][None].astype(np.int64))
            torch.testing.assert_close(logits[i], of.model(input_ids=ids).logits[0, -1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", TWO_WRITERS[:4])
def test_an_evaluation_of_few_shots_costs_less_and_says_the_same(name: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(name(kind), few_shot(shots=3), task=TinyText(train=16, dev=12))
    (once,) = train(made)
    monkeypatch.setattr(prompts, "WORTH_A_PASS", 10**9)
    (plain,) = train(made)
    assert once.predictions == plain.predictions
    less, more = once.usage["evaluate"].work, plain.usage["evaluate"].work
    assert less.flops < 0.9 * more.flops
    assert less.tokens < more.tokens


def test_rows_that_begin_otherwise_or_are_one_are_read_as_they_are(name: Any) -> None:
    of = tuned(name("chat"), zero_shot())
    assert prompts.shared(of.model, inputs_of(asked(of).batch(range(6))), 0).read == 0  # one token is no beginning
    rows = many(of)
    assert prompts.shared(of.model, inputs_of(rows.batch([0])), 0).read == 0
    same = prompts.shared(of.model, inputs_of(rows.batch([0, 0, 0])), 0)  # and of equal rows the last token is left
    assert same.read == rows.lengths[0] - 1
    assert same.lengths == [1, 1, 1]


@pytest.mark.parametrize(
    "family, more",
    [
        ("MistralConfig", {"sliding_window": 8, "num_key_value_heads": 2}),
        ("MambaConfig", {"state_size": 4}),
        ("BloomConfig", {"n_head": 4}),
    ],
)
def test_caches_that_cannot_be_repeated_are_left_alone(family: str, more: dict[str, Any]) -> None:
    size = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    config = getattr(transformers, family)(**size, **more, pad_token_id=0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert prompts.cache_of(model) is None
    ids = torch.randint(5, 60, (3, 60))
    ids[:, :50] = ids[0, :50]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert prompts.shared(model, inputs, 0).read == 0
    with torch.no_grad():
        (logs, *_) = Likelihood(((7, 8), (9,)), 0)(model, inputs)
        whole = model(input_ids=torch.cat((ids[:1], torch.tensor([[7, 8]])), 1)).logits[0].log_softmax(-1)
    assert logs[0] == pytest.approx(float(whole[59, 7] + whole[60, 8]), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", [each for each in peft_methods() if is_possible("decoder", each)])
@torch.no_grad()
def test_with_every_method_of_peft_the_answers_are_the_same(name: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of = shaken(Tuning(peft_recipe(name("chat"), "decoder", method), torch.device("cpu"), None))
    of.model.eval()
    for parameter in of.parameters.values():
        parameter.add_(0.05 * torch.randn_like(parameter))
    shots = TinyText(train=2).splits().train
    rows = of.formulation.encode(of.recipe.task.splits().dev, of.processor, answers=False, shots=shots)
    once = of.inference(of.model, rows.batch(range(4)))
    monkeypatch.setattr(prompts, "WORTH_A_PASS", 10**9)
    assert [each.tolist() for each in once] == [each.tolist() for each in of.inference(of.model, rows.batch(range(4)))]


def test_prompt_methods_are_left_alone(name: Any) -> None:
    of = tuned(name("chat"), peft("prefix_tuning", learning_rate=1e-3, num_virtual_tokens=3))
    rows = many(of)
    assert prompts.shared(of.model, inputs_of(rows.batch(range(6))), 0).read == 0
