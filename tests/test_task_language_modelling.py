"""Likelihoods of texts: how they are cut, what is hidden, and that the sums are those of the model itself."""

import json
import math
import random

import kinds
import numpy as np
import pytest
from products import once_each

from workbench import Study, peft
from workbench.data import fingerprints, load, models
from workbench.data.texts import Texts
from workbench.errors import DataError, UsageError
from workbench.forecast import pairs
from workbench.formulations import CausalModelling, Likelihood, MaskedModelling
from workbench.sweep import check_data
from workbench.tasks import language_modelling
from workbench.testing import tiny_decoder
from workbench.training.grading import questions

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load.cache_clear()
    fingerprints.look_again()


def text(i):
    rng = random.Random(i)
    at = rng.randrange(10, 50)
    return " ".join(f"w{10 + (at + 3 * j) % 40}" for j in range(rng.randrange(6, 40)))


TEXTS = [text(i) for i in range(120)]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(TEXTS))
    return str(tmp_path / "a.txt")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return tiny_decoder(tmp_path_factory.mktemp("decoder"))


@pytest.fixture(scope="module")
def masked(tmp_path_factory, tiny):
    """A tiny BERT whose tokeniser has a token for what is hidden."""
    import shutil

    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("masked") / "m"
    shutil.copytree(tiny, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.mask_token = "w4"
    tokenizer.save_pretrained(folder)
    return str(folder)


def task(data, **settings):
    return language_modelling(data, **{"train": 32, "dev": 8, "test": 8, "max_length": 24} | settings)


KINDS = ("decoder", "masked")


# Data


def test_texts_of_files_tables_and_folders(tmp_path, data):
    found = load(data, Texts())
    assert sorted(e["text"] for side in (found.train, found.dev, found.test) for e in side) == sorted(TEXTS)
    assert (len(found.train), len(found.dev)) == (97, 12)
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"content": each}) for each in TEXTS))
    assert load(str(tmp_path / "b.jsonl"), Texts()).train == found.train
    (tmp_path / "lines.txt").write_text("\n".join(TEXTS))
    assert load(str(tmp_path / "lines.txt"), Texts()).train == found.train
    (tmp_path / "folder").mkdir()
    for i in range(4):
        (tmp_path / "folder" / f"chapter{i}.txt").write_text("\n\n".join(TEXTS[30 * i : 30 * i + 30]))
    assert load(str(tmp_path / "folder"), Texts()).train == found.train
    (tmp_path / "folder" / "chapter0.txt").rename(tmp_path / "folder" / "test.txt")
    load.cache_clear()
    with pytest.raises(DataError, match="has no training file"):
        load(str(tmp_path / "folder"), Texts())


def test_a_text_of_several_lines_is_one(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n \n".join(f"a{i}\nb{i}" for i in range(30)) + "\n")
    assert {e["text"] for e in load(str(tmp_path / "a.txt"), Texts()).train} <= {f"a{i}\nb{i}" for i in range(30)}


def test_what_cannot_be_is_refused(data, tmp_path, decoder, tiny):
    with pytest.raises(UsageError, match="mask_probability must be a number between 0 and 1"):
        task(data, mask_probability=1.5)
    with pytest.raises(UsageError, match="it gives texts no likelihood of their own"):
        task(data).formulation("encoder-decoder")
    with pytest.raises(UsageError, match="max_length=9999 is more than the 256 tokens this model takes"):
        CausalModelling(lambda e: e["text"], 9999).encode([{"text": "a"}], models.tokenizer(decoder))
    with pytest.raises(UsageError, match="has no token for what is hidden"):
        task(data).formulation("encoder").encode(task(data).splits().train, models.tokenizer(tiny))
    (plan,) = pairs.plan(Study(kinds.recipe(task(data), tiny), maximize="accuracy"))
    assert "has no token for what is hidden" in plan.problem
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="has no column 'text'"):
        task(str(tmp_path / "a.csv")).splits()
    for name in ("perplexity", "bits_per_byte"):
        with pytest.raises(UsageError, match=r"lower is better\. It is recorded; maximize byte_probability or accuracy"):
            Study(kinds.recipe(task(data), decoder), maximize=name)


# A decoder


def test_every_token_is_foretold_once_from_as_many_before_it_as_a_row_holds(decoder):
    tokenizer = models.tokenizer(decoder)
    said = TEXTS[3]
    whole = tokenizer(said, add_special_tokens=False)["input_ids"]
    rows = CausalModelling(lambda e: e["text"], 24).encode([{"text": said}], tokenizer)
    told = [i for labels in rows.columns["labels"] for i in labels[labels >= 0].tolist()]
    assert told == whole
    assert rows.items.sum() == len(whole)
    ids = rows.columns["input_ids"]
    assert ids[0][0] == tokenizer.bos_token_id
    assert all(ids[k][0] == ids[k - 1][-1] for k in range(1, len(ids)))
    assert max(map(len, ids)) == 24


@torch.no_grad()
def test_the_likelihood_is_the_models_own(data, decoder):
    of = kinds.tuned(task(data, max_length=256), decoder)
    dev = questions(of.formulation, of.recipe.task.splits().dev, of.processor)
    loss, found, _ = of._predict(dev)
    sums = []
    for i, example in enumerate(dev.examples):
        ids = [of.processor.bos_token_id, *of.processor(example["text"], add_special_tokens=False)["input_ids"]]
        own = of.model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids]))  # whose mean leaves the first out
        count = len(ids) - 1
        assert found[i].tokens == count
        assert found[i].log_likelihood == pytest.approx(-float(own.loss) * count, rel=1e-5)
        assert found[i].right == int((own.logits[0, :-1].argmax(-1) == torch.tensor(ids[1:])).sum())
        assert (found[i].bytes, found[i].words) == (len(example["text"].encode()), len(example["text"].split()))
        sums.append((-float(own.loss) * count, count))
    assert loss == pytest.approx(-sum(s for s, _ in sums) / sum(n for _, n in sums), rel=1e-5)
    assert of.recipe.task.score(dev.examples, found)["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)


def test_bytes_of_letters_that_take_several():
    found = []
    for said in ("äöü", "日本"):
        example = {"text": said}
        rows = CausalModelling(lambda e: e["text"], 24).encode([example], Bytes())
        found.append((rows.extra[0][0], int(rows.items.sum())))
    assert found == [(6 - 2, 2), (6 - 3, 1)]  # without a token to begin with the first is not foretold, nor counted


class Bytes:
    """A tokeniser of characters, without a token that begins or ends texts."""

    bos_token_id = eos_token_id = None
    model_max_length = 100
    padding_side = "right"

    def __call__(self, texts, **more):
        return {
            "input_ids": [[ord(c) for c in t] for t in texts],
            "offset_mapping": [[(i, i + 1) for i in range(len(t))] for t in texts],
        }


# An encoder


def test_what_is_hidden_depends_on_text_and_seed_alone(data, masked):
    tokenizer, one = models.tokenizer(masked), task(data)
    examples = one.splits().train
    formulation = one.formulation("encoder")
    rows, again = formulation.encode(examples, tokenizer), formulation.encode(examples[5:], tokenizer)
    first = int(np.searchsorted(rows.example, 5))
    assert len(again) == len(rows) - first
    for name in ("input_ids", "labels"):
        for a, b in zip(rows.columns[name][first:], again.columns[name], strict=True):
            assert a.tolist() == b.tolist()
    other = task(data, seed=1).formulation("encoder").encode(examples, tokenizer)
    assert any(a.tolist() != b.tolist() for a, b in zip(rows.columns["labels"], other.columns["labels"], strict=True))


def test_a_sixth_of_the_tokens_is_told_and_most_of_them_are_hidden(masked):
    tokenizer = models.tokenizer(masked)
    formulation = MaskedModelling(lambda e: e["text"], 24, 0.15, 0)
    examples = [{"id": str(i), "text": " ".join(f"w{10 + i * j % 50}" for j in range(20))} for i in range(400)]
    rows = formulation.encode(examples, tokenizer)
    ids, labels = (np.concatenate(rows.columns[name]) for name in ("input_ids", "labels"))
    whole = np.concatenate([tokenizer(e["text"])["input_ids"] for e in examples])
    told = labels >= 0
    assert (labels[told] == whole[told]).all()
    assert (ids[~told] == whole[~told]).all()
    assert told.mean() == pytest.approx(0.15, abs=0.02)
    assert (ids[told] == tokenizer.mask_token_id).mean() == pytest.approx(0.8, abs=0.05)
    assert (ids[told] == whole[told]).mean() == pytest.approx(0.1, abs=0.05)
    assert min(rows.items) >= 1
    assert [size for size, _ in rows.extra][:1] == [sum(len(f"w{t}") for t in labels[:20][labels[:20] >= 0])]


# Both


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_model_like_any_other(data, kind, request):
    of = kinds.tuned(task(data), request.getfixturevalue(kind))
    rows = of.formulation.encode(of.recipe.task.splits().train[:9], of.processor)
    kinds.batch_is_alone(of, rows, atol=1e-3)  # of sums of some twenty numbers of some tens
    kinds.cuts_change_no_gradient(of, rows)


@once_each(
    "method, kind",
    [kinds.full(learning_rate=3e-3), peft("lora", learning_rate=3e-3, r=2, target_modules="all-linear")],
    KINDS,
    label=lambda value: value if isinstance(value, str) else value.name,
)
def test_it_is_taken_up_where_it_was_left(data, kind, method, request):
    kinds.resumed_is_unbroken(kinds.recipe(task(data), request.getfixturevalue(kind), epochs=2, method=method))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_it_learns_and_its_weights_answer_the_same_elsewhere(data, kind, request, tmp_path):
    made = "Recipe(task=language_modelling(data, train=64, dev=8, test=8, max_length=24), model=model, epochs=4, "
    made += "batch_size=8, method=full(learning_rate=1e-2))"
    model = request.getfixturevalue(kind)
    kinds.kept_weights_answer_the_same(made, tmp_path, {"data": data, "model": model})
    first, *_, last = kinds.train(kinds.recipe(task(data, train=90), model, epochs=8, method=kinds.full(learning_rate=1e-2)))
    assert last.scores["byte_probability"] > 1.05 * first.scores["byte_probability"]
    assert last.scores["perplexity"] == pytest.approx(math.exp(last.scores["dev_loss"]), rel=1e-4)
    assert check_data(Study(kinds.recipe(task(data), model), maximize="byte_probability")) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning", "ia3"])
def test_methods_of_peft_either_learn_or_are_refused_by_the_plan(data, kind, method, request):
    settings = {} if method == "ia3" else {"num_virtual_tokens": 3}
    made = kinds.recipe(task(data), request.getfixturevalue(kind), method=peft(method, learning_rate=1e-2, **settings))
    (plan,) = pairs.plan(Study(made, maximize="accuracy"))
    if plan.problem:
        assert (kind, method) == ("masked", "prefix_tuning")
        return
    of = kinds.tuned(made.task, made.model, method=made.method)
    rows = of.formulation.encode(made.task.splits().train[:9], of.processor)
    kinds.batch_is_alone(of, rows, atol=1e-3)
    kinds.loss(of, rows.batch(range(4))).backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for name, p in of.parameters.items() if "prompt" in name)


# Scores


def test_scores_are_those_of_the_field():
    """As lm-evaluation-harness reckons them: byte and word perplexity are exponentials of the mean loss of a byte and a word."""
    found = language_modelling("a", train=1).score([{}, {}], [Likelihood(-20.0, 10, 4, 40, 8), Likelihood(-12.0, 6, 4, 24, 4)])
    expected = {"perplexity": math.exp(2), "byte_perplexity": math.exp(0.5), "word_perplexity": math.exp(32 / 12), "accuracy": 50}
    expected |= {"bits_per_byte": 0.5 / math.log(2), "byte_probability": 100 * math.exp(-0.5)}
    assert found == pytest.approx(expected)
    assert found["byte_probability"] == pytest.approx(100 / found["byte_perplexity"])
    assert "word_perplexity" not in language_modelling("a", train=1).score([{}], [Likelihood(-20.0, 10, 4, 40, 0)])
    assert "perplexity" not in language_modelling("a", train=1).score([{}], [Likelihood(-2e4, 10, 4, 40, 0)])
