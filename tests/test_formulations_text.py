"""Models that write, through the one loop: what a row is worth is its own, and the twelve ways in which others got it wrong."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kinds import resumed_is_unbroken, tiny_gpt2
from products import once_each

from workbench import Method, Recipe, adapter, flops, full, peft
from workbench.data import fingerprints, models
from workbench.errors import UsageError
from workbench.forecast import pairs
from workbench.formulations import Formulation, Rows, TextGeneration
from workbench.methods import few_shot, zero_shot
from workbench.objectives import NO_TARGET, Generate
from workbench.study import Study
from workbench.tasks import question_answering
from workbench.tasks.base import Example
from workbench.testing import TinyTask, TinyText, tiny_decoder, tiny_model, tiny_seq2seq
from workbench.training import train, tuned_model, tuning
from workbench.training.batches import micro_batches
from workbench.training.grading import questions
from workbench.training.progress import Progress
from workbench.training.tuning import Tuning

CPU = torch.device("cpu")
WRITERS = ("chat", "plain", "untied", "gpt2", "seq2seq")
DECODERS = WRITERS[:-1]
KINDS = (*WRITERS, "classes")
FEW_WRITERS = [pytest.param(kind, marks=pytest.mark.slow) if kind in ("untied", "gpt2") else kind for kind in WRITERS]
"""For what the place of an output matrix, and how places are counted, have no part in."""
FEW_KINDS = [*FEW_WRITERS, "classes"]


FULL = full(learning_rate=3e-3)
LAST = full(learning_rate=3e-3, trainable_layers=1, name="last")
LORA = peft("lora", learning_rate=3e-3, r=2, target_modules="all-linear")
ADAPTER = adapter(learning_rate=3e-3, bottleneck=4)


def label(value: str | Method) -> str:
    return value if isinstance(value, str) else value.name


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The name of a tiny model of a kind."""

    @functools.cache
    def make(kind: str) -> str:
        folder = tmp_path_factory.mktemp(kind)
        if kind == "gpt2":  # places are learned and counted from the row's first token: padding must not shift them
            tiny_decoder(folder)
            return tiny_gpt2(folder)
        if kind in DECODERS:
            return tiny_decoder(folder, chat=kind != "plain", tied=kind != "untied")
        return tiny_seq2seq(folder) if kind == "seq2seq" else tiny_model(folder)

    return make


def recipe(model: str, method: Method | None = None, **more: Any) -> Recipe:
    settings = {"task": TinyText(train=16, dev=6), "epochs": 1, "batch_size": 8, **more}
    return Recipe(model=model, method=method or full(learning_rate=3e-3), **settings)


def tuned(model: str, method: Method | None = None, **more: Any) -> Tuning:
    made = Tuning(recipe(model, method, **more), CPU, None)
    made.model.eval()  # no dropout
    return made


def encoded(of: Tuning, count: int = 6, **more: Any) -> Rows:
    return of.formulation.encode(of.recipe.task.splits().train[:count], of.processor, **more)


def shaken(of: Tuning) -> Tuning:
    """Other numbers for its matrices, so large that what it says depends on what it reads."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in of.model.parameters():
            if p.ndim == 2:
                p.normal_(std=0.5)
    return of


def losses(of: Tuning, rows: Rows, chosen: list[int]) -> torch.Tensor:
    batch = rows.batch(chosen)
    return of.objective.loss(of.objective.forward(of.model, batch), batch)


def decoded(of: Tuning, ids: Any) -> str:
    return str(of.processor.decode([token for token in np.asarray(ids).tolist() if token != NO_TARGET]))


# A row is worth what it is, whatever its company


@once_each("kind, method", KINDS, [FULL, LORA, ADAPTER], label=label)
@torch.no_grad()
def test_the_loss_of_rows_in_a_batch_is_that_of_each_alone(name: Any, kind: str, method: Method) -> None:
    of = shaken(tuned(name(kind), method))
    rows = encoded(of)
    assert len({int(n) for n in rows.lengths}) > 3
    alone = [losses(of, rows, [i]) for i in range(6)]
    for chosen in ([0, 1, 2, 3, 4, 5], [int(rows.lengths.argmin()), int(rows.lengths.argmax())]):
        torch.testing.assert_close(losses(of, rows, chosen), torch.stack([alone[i] for i in chosen]).sum(), rtol=1e-5, atol=1e-5)
    longest = int(rows.lengths.argmax())
    for i in range(6):
        beside = losses(of, rows, [i, longest]) - alone[longest]
        torch.testing.assert_close(beside, alone[i], rtol=0, atol=1e-4 if kind != "classes" else 5e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_answers_in_a_batch_are_those_of_each_alone(name: Any, kind: str) -> None:
    of = shaken(tuned(name(kind)))
    rows = encoded(of, answers=False)
    together = of.inference(of.model, rows.batch(range(6)))
    for i, answer in enumerate(together):
        (alone,) = of.inference(of.model, rows.batch([i]))
        if kind == "classes":
            torch.testing.assert_close(torch.tensor(answer), torch.tensor(alone), rtol=0, atol=1e-5)
        else:
            assert answer.tolist() == alone.tolist()
            assert len(alone) > 0
    if kind in WRITERS:  # and they are not all one
        assert len({tuple(answer.tolist()) for answer in together}) > 1


@once_each("kind, method", KINDS, [FULL, LAST, LORA, ADAPTER], label=label)
def test_one_and_three_micro_batches_give_one_gradient(
    name: Any, kind: str, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for pieces in (1, 3):
        of = tuned(name(kind), method, max_grad_norm=1e9)
        cuts = np.array_split(np.arange(6), pieces)
        monkeypatch.setattr(
            tuning, "micro_batches", lambda rows, chosen, device, cuts=cuts, packed=False: [(cut, rows.batch(cut)) for cut in cuts]
        )
        monkeypatch.setattr(of.optimizer, "zero_grad", lambda set_to_none: None)
        total, _ = of.make_step(encoded(of), np.arange(6), 6)
        found.append((total, {name: p.grad for name, p in of.parameters.items() if p.grad is not None}))
    (loss, gradients), (other, others) = found
    torch.testing.assert_close(loss, other, rtol=1e-6, atol=1e-6)
    assert gradients.keys() == others.keys() != set()
    for one in gradients:
        torch.testing.assert_close(gradients[one], others[one], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", FEW_KINDS)
@torch.no_grad()
def test_the_loss_is_the_models_own_times_its_targets(name: Any, kind: str) -> None:
    of = tuned(name(kind))
    rows = encoded(of)
    for i in range(6):
        batch = rows.batch([i])
        own = of.model(**batch).loss * int(rows.items[i])  # transformers' mean of the targets of `labels`
        torch.testing.assert_close(losses(of, rows, [i]), own, rtol=1e-5, atol=1e-5)
        assert rows.items[i] == (1 if kind == "classes" else (batch["labels"] != NO_TARGET).sum())


@pytest.mark.parametrize(
    "kind, method",
    [
        *(("chat", FULL), ("untied", LORA), ("gpt2", ADAPTER), ("seq2seq", LORA), ("classes", LAST)),
        *(pytest.param(*member, marks=pytest.mark.slow) for member in (("plain", LAST), ("seq2seq", FULL), ("chat", ADAPTER))),
    ],
    ids=label,
)
def test_a_resumed_run_is_bit_for_bit_the_unbroken_one(name: Any, kind: str, method: Method) -> None:
    resumed_is_unbroken(recipe(name(kind), method, epochs=2))


@pytest.mark.parametrize("make, method", [(tiny_decoder, LORA), (tiny_seq2seq, ADAPTER)])
@pytest.mark.slow
def test_so_it_is_beside_weights_of_four_bits(make: Any, method: Method, tmp_path: Path) -> None:
    resumed_is_unbroken(recipe(make(tmp_path, width=64), method, epochs=2, weights="nf4"))


@pytest.mark.parametrize("kind", ["chat", *(pytest.param(kind, marks=pytest.mark.slow) for kind in WRITERS[1:])])
def test_it_learns_and_its_kept_weights_answer_the_same(name: Any, kind: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    made = recipe(name(kind), epochs=24, task=TinyText(train=32, dev=6), averaging=None)
    first, *_, last = train(made)
    assert last.scores["dev_loss"] < first.scores["dev_loss"]
    assert set(last.predictions) <= {"no", "yes it is", "yes", "yes it", "no it is"}  # it has learned how answers are written
    save_file(last.weights(), tmp_path / "w.safetensors")
    model = tuned_model(made, tmp_path / "w.safetensors")
    of = Tuning(made, CPU, None)
    dev = questions(of.formulation, made.task.splits().dev, of.processor)
    outputs = of.inference(model, dev.asked.batch(range(6)))
    assert of.formulation.decode(dev.examples, dev.asked, outputs, of.processor) == list(last.predictions)


# Models that are only asked


@pytest.mark.parametrize("kind", FEW_KINDS)
def test_a_zero_shot_trains_nothing_costs_no_label_and_is_one_recipe(name: Any, kind: str) -> None:
    one = recipe(name(kind), zero_shot())
    (only,) = train(one)
    assert (only.labels, only.step, only.trainable_parameters, only.weights()) == (0, 0, 0, {})
    assert only.recipe.epochs == 0
    assert "train" not in only.usage or only.usage["train"].work.steps == 0
    more = {"epochs": 3, "batch_size": 2, "seed": 5, "warmup_steps": 1, "averaging": None, "task": TinyText(train=8, dev=6)}
    assert recipe(name(kind), zero_shot(), **more).id == one.id
    assert recipe(name(kind), zero_shot(), task=TinyText(train=8, dev=5)).id != one.id


@pytest.mark.parametrize("kind", FEW_WRITERS)
def test_few_shots_are_labels_bought_and_nothing_else(name: Any, kind: str) -> None:
    one = recipe(name(kind), few_shot(shots=2))
    (only,) = train(one)
    assert (only.labels, only.step, only.trainable_parameters, only.weights()) == (2, 0, 0, {})
    more = {"epochs": 3, "batch_size": 2, "seed": 5, "task": TinyText(train=8, dev=6)}
    assert recipe(name(kind), few_shot(shots=2), **more).id == one.id
    assert recipe(name(kind), few_shot(shots=3)).id != one.id
    of = tuned(name(kind), few_shot(shots=2))
    shots = of.recipe.task.splits().train
    (row,) = of.formulation.encode(TinyText().splits().dev[:1], of.processor, answers=False, shots=shots).columns["input_ids"]
    text = decoded(of, row)
    for shot in shots:
        words = " ".join(f"w{word}" for word in shot["words"])
        assert f"{words}<over><assistant>{answer_of(shot)}<over>" in text or f"{words} {answer_of(shot)}\n" in text
    assert text.index(f"w{shots[0]['words'][0]}") < text.rindex(f"w{shots[1]['words'][-1]}")


def answer_of(example: Example) -> str:
    return ("no", "yes it is")[example["label"]]


# The twelve pitfalls


def replaced(of: Formulation, **more: Any) -> TextGeneration:
    assert isinstance(of, TextGeneration)
    return dataclasses.replace(of, **more)


@pytest.mark.parametrize("kind", DECODERS)
def test_pitfall_1_the_end_is_learned_where_the_padding_token_is_the_end_token(name: Any, kind: str) -> None:
    of = tuned(name(kind))
    words = of.processor.__class__.from_pretrained(name(kind))
    words.pad_token = "<over>" if words.chat_template else "<end>"  # as in SmolLM2
    rows = of.formulation.encode(of.recipe.task.splits().train[:6], words)
    batch = rows.batch(range(6))
    ends = batch["labels"] == words.pad_token_id
    assert ends.sum(1).tolist() == [1] * 6
    assert bool((batch["labels"][batch["attention_mask"] == 0] == NO_TARGET).all())
    assert bool((batch["input_ids"][batch["attention_mask"] == 0] == words.pad_token_id).all())
    assert all(int(row[-1]) == words.pad_token_id for row in rows.columns["labels"])


@once_each("kind, whose", WRITERS, ["what is trained", "the tokeniser's", "the checkpoint's"])
@torch.no_grad()
def test_pitfall_2_any_end_token_ends_an_answer(name: Any, kind: str, whose: str) -> None:
    of = tuned(name(kind))
    rows = encoded(of, 2, answers=False)
    trained = int(encoded(of, 1).columns["labels"][0][-1])
    assert of.processor.convert_ids_to_tokens(trained) == ("<over>" if of.processor.chat_template else "<end>")
    stated = of.processor.convert_tokens_to_ids("<system>")
    of.model.generation_config.eos_token_id = [stated]
    end = {"what is trained": trained, "the tokeniser's": of.processor.eos_token_id, "the checkpoint's": stated}[whose]
    written = []

    def write(module: Any, args: Any, logits: torch.Tensor) -> torch.Tensor:
        """Two tokens, then that end, for ever."""
        written.append(end if len(written) >= 2 else 100)
        return logits.index_fill(-1, torch.tensor([written[-1]]), 1e4)

    of.model.get_output_embeddings().register_forward_hook(write)
    assert [answer.tolist() for answer in of.inference(of.model, rows.batch([0, 1]))] == [[100, 100], [100, 100]]
    assert len(written) == 3


def test_the_token_that_ends_an_answer_is_the_templates_whatever_letters_it_has(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from workbench.formulations.text import _end

    words = AutoTokenizer.from_pretrained(tiny_decoder(tmp_path))
    words.add_special_tokens({"additional_special_tokens": ["<|next|>"]})
    words.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|next|>' }}{% endfor %}"
    assert words.convert_ids_to_tokens(_end(words)) == "<|next|>"


@pytest.mark.parametrize("kind", DECODERS)
@torch.no_grad()
def test_pitfall_3_decoders_are_padded_on_the_left_and_their_places_counted_from_the_first_token(name: Any, kind: str) -> None:
    of = tuned(name(kind))
    assert of.inference.padding_side == "left"
    for rows in (encoded(of), encoded(of, answers=False)):
        batch = rows.batch([int(rows.lengths.argmin()), int(rows.lengths.argmax())])
        assert batch["attention_mask"][0, 0] == 0
        assert batch["attention_mask"][:, -1].tolist() == [1, 1]
    assert of.processor.padding_side == models.tokenizer(name(kind)).padding_side  # the shared one is as it was
    seen: dict[str, Any] = {}
    of.model.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    batch = encoded(of).batch(range(6))
    of.objective.forward(of.model, batch)
    for mask, places in zip(batch["attention_mask"], seen["position_ids"], strict=True):
        assert places[mask == 1].tolist() == list(range(int(mask.sum())))


@pytest.mark.parametrize("kind", ["chat", "plain"])
def test_pitfall_4_one_beginning_and_ids_that_are_ids(name: Any, kind: str) -> None:
    from tokenizers.processors import TemplateProcessing

    of = tuned(name(kind))
    words = of.processor.__class__.from_pretrained(name(kind))
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<begin> $A <end>", special_tokens=[("<begin>", 2), ("<end>", 3)]
    )
    if words.chat_template:
        words.chat_template = "<begin>" + words.chat_template
    shots = of.recipe.task.splits().train[:2]
    for answers in (True, False):
        rows = of.formulation.encode(of.recipe.task.splits().dev, words, answers=answers, shots=shots)
        for ids in rows.columns["input_ids"]:
            assert ids.dtype == np.int32
            assert (ids == 2).sum() == 1
            assert ids[0] == 2
            assert (ids == 3).sum() == int(answers and kind == "plain")  # nor does the text end before its answer


@pytest.mark.parametrize("kind", WRITERS)
def test_pitfall_5_every_row_has_its_answer_as_target(name: Any, kind: str) -> None:
    of = tuned(name(kind))  # whose template marks no assistant's part
    rows = encoded(of)
    end = of.processor.convert_ids_to_tokens(int(rows.columns["labels"][0][-1]))
    for i, example in enumerate(of.recipe.task.splits().train[:6]):
        assert decoded(of, rows.columns["labels"][i]).strip() == answer_of(example) + end
        assert rows.items[i] == (rows.columns["labels"][i] != NO_TARGET).sum() > 1


@pytest.mark.parametrize("kind", DECODERS)
def test_pitfall_6_what_is_trained_begins_with_what_is_asked(name: Any, kind: str) -> None:
    of = tuned(name(kind))
    shots = of.recipe.task.splits().train[6:8]
    for more in ({}, {"shots": shots}):
        trained, asked = encoded(of, **more), encoded(of, answers=False, **more)
        for whole, targets, begun in zip(
            trained.columns["input_ids"], trained.columns["labels"], asked.columns["input_ids"], strict=True
        ):
            assert whole[: len(begun)].tolist() == begun.tolist()
            assert (targets[: len(begun)] == NO_TARGET).all()
            assert targets[len(begun) :].tolist() == whole[len(begun) :].tolist()


def test_pitfall_6_what_is_trained_is_what_the_template_writes_and_the_template_is_part_of_the_model(name: Any) -> None:
    of = tuned(name("chat"))
    example = of.recipe.task.splits().train[0]
    words = " ".join(f"w{word}" for word in example["words"])
    turns = [{"role": "user", "content": words}, {"role": "assistant", "content": answer_of(example)}]
    assert decoded(of, encoded(of).columns["input_ids"][0]) == of.processor.apply_chat_template(turns, tokenize=False)
    before = fingerprints.model(name("chat"))
    template = Path(name("chat"), "chat_template.jinja")
    kept = template.read_text()
    try:
        template.write_text("Be brief. " + kept)
        fingerprints.look_again()
        assert fingerprints.model(name("chat")) != before
    finally:
        template.write_text(kept)
        fingerprints.look_again()


@pytest.mark.parametrize("kind", FEW_WRITERS)
def test_pitfall_7_an_answer_is_never_cut_and_what_cannot_fit_is_told(name: Any, kind: str) -> None:
    of = tuned(name(kind))
    words = of.processor.__class__.from_pretrained(name(kind))
    examples = of.recipe.task.splits().train[:6]
    lengths = encoded(of).lengths if kind != "seq2seq" else np.array([len(ids) for ids in encoded(of).columns["input_ids"]])
    words.model_max_length = int(np.sort(lengths)[3])
    rows = of.formulation.encode(examples, words)
    assert rows.example.tolist() == [i for i in range(6) if lengths[i] <= words.model_max_length]
    end = of.processor.convert_ids_to_tokens(int(rows.columns["labels"][0][-1]))
    for row, i in enumerate(rows.example):
        assert decoded(of, rows.columns["labels"][row]).strip() == answer_of(examples[i]) + end
    asked = of.formulation.encode(examples, words, answers=False)
    reach = of.formulation.reach(examples, words)
    assert reach.missed == {"behind a prompt that is longer than the model takes": 6 - len(asked)}
    assert f"{6 - len(asked)} of 6 answers" in reach.told("answers")
    outputs = [np.array(words("no", add_special_tokens=False)["input_ids"])] * len(asked)
    predictions = of.formulation.decode(examples, asked, outputs, words)
    assert predictions == ["no" if i in asked.example else "" for i in range(6)]
    short = replaced(of.formulation, max_new_tokens=4)
    assert short.reach(examples, of.processor).missed == {"longer than 4 tokens": 3}
    words.model_max_length = 4
    with pytest.raises(UsageError, match="none of 6 prompts is short enough for the 4 tokens"):
        of.formulation.encode(examples, words)


@pytest.mark.parametrize("kind", WRITERS)
def test_pitfall_7_a_step_of_rows_that_were_all_left_out_changes_nothing(name: Any, kind: str) -> None:
    of = tuned(name(kind))
    whole = encoded(of, 16)
    rows = Rows(
        {column: values[8:] for column, values in whole.columns.items()},
        whole.example[8:],
        whole.items[8:],
        whole.collate,
        sizes=whole.lengths[8:],
    )
    before = of.averaged()
    of.run(rows, 1, 16, Progress())
    assert of.step == 1
    assert all(torch.equal(before[each], weights) for each, weights in of.averaged().items())
    of.run(rows, 2, 16, Progress())
    assert any(not torch.equal(before[each], weights) for each, weights in of.averaged().items())


@pytest.mark.parametrize("kind", FEW_WRITERS)
def test_pitfall_8_a_steps_loss_is_the_mean_of_its_tokens_and_not_of_micro_batches(name: Any, kind: str) -> None:
    of = tuned(name(kind))
    rows = encoded(of)
    items = [int(n) for n in rows.items]
    assert len(set(items)) > 1
    alone = [float(losses(of, rows, [i]).detach()) for i in range(6)]
    total, _ = of.make_step(rows, np.arange(6), 6)
    assert float(total) == pytest.approx(sum(alone) / sum(items), rel=1e-5)
    assert abs(float(total) - np.mean([loss / n for loss, n in zip(alone, items, strict=True)])) > 1e-4


@pytest.mark.parametrize("kind", WRITERS)
def test_pitfall_9_no_token_is_added_and_no_output_matrix_copied(name: Any, kind: str) -> None:
    lora = peft("lora", learning_rate=1e-3, r=2, target_modules="all-linear")
    of, bare = tuned(name(kind), lora), models.build(name(kind), of_kind(kind))
    embeddings = of.model.get_base_model().get_input_embeddings().weight
    assert embeddings.shape == bare.get_input_embeddings().weight.shape
    assert not embeddings.requires_grad
    assert all("lora_" in each for each in of.parameters), "an output matrix that the checkpoint has is no new head"
    output = of.model.get_base_model().get_output_embeddings().weight
    assert (output is embeddings) == (kind != "untied")
    assert models.head(bare) == ()


@once_each(
    "kind, asked",
    ["chat", "gpt2", "seq2seq"],
    [{"target_modules": ["lm_head"]}, {"modules_to_save": ["lm_head"], "target_modules": "all-linear"}],
)
def test_pitfall_9_a_tied_output_matrix_is_refused(name: Any, kind: str, asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="lm_head shares its weights with the input's embeddings"):
        tuned(name(kind), peft("lora", learning_rate=1e-3, **asked))
    study = Study(recipe(name(kind), peft("lora", learning_rate=1e-3, **asked)), maximize="accuracy")
    (plan,) = pairs.plan(study)
    assert "lm_head shares its weights" in plan.problem


def test_pitfall_9_an_output_matrix_of_its_own_may_be_tuned(name: Any) -> None:
    of = tuned(name("untied"), peft("lora", learning_rate=1e-3, target_modules=["q_proj"], modules_to_save=["lm_head"]))
    assert any(each.endswith("lm_head.weight") for each in of.parameters)


@pytest.mark.parametrize("kind", FEW_WRITERS)
@torch.no_grad()
def test_pitfall_10_merged_in_float32_it_answers_the_same(name: Any, kind: str) -> None:
    of = tuned(name(kind), peft("lora", learning_rate=1e-3, r=2, target_modules="all-linear", init_lora_weights=False))
    rows, asked = encoded(of), encoded(of, answers=False).batch(range(6))
    before, answers = losses(of, rows, [0, 1, 2]), of.inference(of.model, asked)
    of.model = of.model.merge_and_unload()
    torch.testing.assert_close(losses(of, rows, [0, 1, 2]), before, rtol=1e-4, atol=1e-4)
    assert [answer.tolist() for answer in of.inference(of.model, asked)] == [answer.tolist() for answer in answers]


@pytest.mark.parametrize("kind", FEW_WRITERS)
@torch.no_grad()
def test_pitfall_11_answers_are_greedy_whatever_the_checkpoint_states(name: Any, kind: str) -> None:
    of = tuned(name(kind))
    asked = encoded(of, answers=False)
    plain = [answer.tolist() for answer in of.inference(of.model, asked.batch(range(6)))]
    stated = of.model.generation_config
    changes = {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 9.0, "no_repeat_ngram_size": 1}
    changes |= {"min_new_tokens": 5, "max_length": 1, "num_beams": 2, "bad_words_ids": [[plain[0][0]]], "forced_eos_token_id": 9}
    stated.update(**changes, suppress_tokens=[plain[1][0]])
    torch.manual_seed(1)
    assert [answer.tolist() for answer in of.inference(of.model, asked.batch(range(6)))] == plain
    assert of.model.generation_config is stated
    if kind != "seq2seq":
        ids = torch.tensor(asked.columns["input_ids"][0][None].astype(np.int64))
        for token in plain[0]:  # the likeliest token, one by one
            assert int(of.model(input_ids=ids).logits[0, -1].argmax()) == token
            ids = torch.cat((ids, torch.tensor([[token]])), 1)


@once_each("kind, weights", KINDS, ["float32", "bfloat16"])
def test_pitfall_12_adapters_are_float32_and_each_of_them_learns(name: Any, kind: str, weights: str) -> None:
    of = tuned(name(kind), peft("lora", learning_rate=1e-3, r=2, target_modules="all-linear"), weights=weights)
    rows = encoded(of)
    assert {p.dtype for p in of.parameters.values()} == {torch.float32}
    assert any(str(p.dtype) == f"torch.{weights}" for p in of.model.parameters() if not p.requires_grad)
    before = {each: p.detach().clone() for each, p in of.parameters.items() if "lora_B" in each}
    of.make_step(rows, np.arange(6), 6)
    unmoved = {each for each in before if torch.equal(before[each], of.parameters[each])}
    assert before
    assert not {each for each in unmoved if "pooler" not in each}


def of_kind(kind: str) -> str:
    return {"seq2seq": "AutoModelForSeq2SeqLM", "classes": "AutoModelForSequenceClassification"}.get(kind, "AutoModelForCausalLM")


# What else was found


def test_of_an_encoder_decoder_the_formula_knows_nothing(name: Any) -> None:
    from transformers import BartConfig, BartForConditionalGeneration, BertConfig, EncoderDecoderConfig, EncoderDecoderModel

    assert flops.shape(models.build(name("seq2seq"), of_kind("seq2seq"))) is None
    size = {"vocab_size": 50, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    with torch.device("meta"):
        model = BartForConditionalGeneration(BartConfig(**size, encoder_attention_heads=2, decoder_attention_heads=2))
    assert flops.shape(model) is None
    size = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    with torch.device("meta"):
        both = EncoderDecoderConfig.from_encoder_decoder_configs(BertConfig(**size), BertConfig(**size))
        assert flops.shape(EncoderDecoderModel(config=both)) is None
    assert flops.shape(models.build(name("chat"), of_kind("chat"))) is not None


@pytest.mark.parametrize("kind", FEW_WRITERS)
@torch.no_grad()
def test_of_a_few_choices_one_is_written(name: Any, kind: str) -> None:
    of = tuned(name(kind))
    choices = ("no", "yes it is", "yes")
    formulation = replaced(of.formulation, choices=choices)
    rows = formulation.encode(of.recipe.task.splits().train[:6], of.processor, answers=False)
    inference = formulation.inference(of.processor)
    assert isinstance(inference, Generate)
    outputs = inference(of.model, rows.batch(range(6)))
    answers = formulation.decode(of.recipe.task.splits().train[:6], rows, outputs, of.processor)
    assert set(answers) <= set(choices)
    assert [each.tolist() for each in outputs] == [inference(of.model, rows.batch([i]))[0].tolist() for i in range(6)]


@pytest.mark.parametrize("kind", FEW_KINDS)
def test_a_plan_builds_each_pair(name: Any, kind: str) -> None:
    study = Study(recipe(name(kind), peft("lora", learning_rate=1e-3, r=2)), maximize="accuracy")
    (plan,) = pairs.plan(study)
    assert plan.problem == ""
    assert plan.trainable_parameters == sum(p.numel() for p in tuned(name(kind), study.recipe.method).parameters.values())


@pytest.mark.parametrize("kind", [*KINDS, "spans"])
def test_of_nothing_there_are_no_rows(name: Any, kind: str) -> None:
    """What an untuned model is trained on."""
    task = question_answering(str(Path(__file__).parent / "fixtures" / "squad_v2.json"), train=1) if kind == "spans" else TinyText()
    model = name(kind)
    rows = task.formulation(models.kind(model)).encode((), models.processor(model))
    assert (len(rows), rows.lengths.tolist(), rows.items.tolist()) == (0, [], [])


def test_an_encoder_cannot_write_and_says_so(name: Any) -> None:
    from workbench.formulations import text_generation

    with pytest.raises(UsageError, match="a model of kind 'encoder' cannot do TinyTask: it writes no text"):
        text_generation("encoder", TinyTask(), str, str, max_new_tokens=4)


@pytest.mark.parametrize("kind", FEW_WRITERS)
def test_micro_batches_cut_by_length_keep_all_rows(name: Any, kind: str) -> None:
    of = tuned(name(kind))
    rows = encoded(of, 16)
    seen = np.concatenate([chosen for chosen, _ in micro_batches(rows, np.arange(16), CPU)])
    assert sorted(seen.tolist()) == list(range(16))
