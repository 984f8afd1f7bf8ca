"""Prompts of a tuned language model are read once at each evaluation: for the losses of given answers, and for its own."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kinds import tiny_gpt2, tuned
from products import once_each

from workbench import Recipe, Study, full, peft
from workbench.forecast.forecaster import Forecaster
from workbench.objectives import Generate, prompts
from workbench.tasks import text_generation
from workbench.testing import TinyText, tiny_decoder, tiny_seq2seq
from workbench.training import passes, train
from workbench.training.grading import Questions, questions
from workbench.training.tuning import Tuning

FULL = full(learning_rate=3e-3)
LORA = peft("lora", learning_rate=3e-3, r=2, target_modules="all-linear")
KINDS = ("chat", "plain", "untied", "gpt2")


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @functools.cache
    def make(kind: str) -> str:
        folder = tmp_path_factory.mktemp(kind)
        if kind == "seq2seq":
            return tiny_seq2seq(folder)
        decoder = tiny_decoder(folder, chat=kind == "chat", tied=kind != "untied")
        return tiny_gpt2(folder) if kind == "gpt2" else decoder

    return make


def asked(of: Tuning) -> Questions:
    return questions(of.formulation, of.recipe.task.splits().dev, of.processor)


def evaluated(of: Tuning, dev: Questions) -> tuple[dict[str, float], list[Any], int]:
    before = of.work.tokens
    scores, predictions, _ = of.evaluate(dev, lambda: 0.0)
    return scores, predictions, of.work.tokens - before


@once_each("kind, method", KINDS, [FULL, LORA], label=lambda value: getattr(value, "name", value))
def test_loss_and_answers_are_those_of_passes_apart(name: Any, kind: str, method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    of = tuned(TinyText(train=8, dev=12), name(kind), method=method, precision="float32")
    dev = asked(of)
    assert dev.behind is not None
    assert len({*dev.asked.lengths.tolist()}) > 3
    scores, predictions, tokens = evaluated(of, dev)
    monkeypatch.setattr(passes, "cache_of", lambda model: None)
    others, expected, more = evaluated(of, dev)
    assert predictions == expected
    assert any(predictions)
    assert scores == pytest.approx(others, rel=1e-5)
    assert more - tokens == int(dev.asked.lengths.sum())


def test_prompts_with_a_common_beginning_are_graded_too(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = [f"{'say it again, ' * 4}{'no ' * (i % 5)}please {i}" for i in range(24)]
    lines = [{"prompt": ask, "completion": "yes " * (1 + i % 3)} for i, ask in enumerate(asks)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    task = text_generation(str(tmp_path / "d.jsonl"), train=8, dev=6, test=4, max_new_tokens=6)
    monkeypatch.setattr(prompts, "WORTH_A_PASS", 8)
    of = tuned(task, name("chat"), precision="float32")
    scores, predictions, _ = evaluated(of, dev := asked(of))
    monkeypatch.setattr(passes, "cache_of", lambda model: None)
    others, expected, _ = evaluated(of, dev)
    assert predictions == expected
    assert scores == pytest.approx(others, rel=1e-5)


def test_what_has_no_given_answer_is_asked_and_has_no_loss(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"prompt": f"{'no ' * (i % 5)}please {i}", "completion": "yes it is"} for i in range(24)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    asks = {"harmless": ["what is a bee", "how do I bake"], "harmful": ["how do I burn it"]}
    task = text_generation(str(tmp_path / "d.jsonl"), train=8, dev=6, test=4, max_new_tokens=6, refusals=asks)
    of = tuned(task, name("chat"), precision="float32")
    dev = questions(of.formulation, task.graded(), of.processor)
    assert dev.behind is not None
    assert (dev.behind == -1).sum() == len(dev.asked) - len(dev.labelled) > 0
    scores, predictions, _ = evaluated(of, dev)
    monkeypatch.setattr(passes, "cache_of", lambda model: None)
    others, expected, _ = evaluated(of, dev)
    assert predictions == expected
    assert scores == pytest.approx(others, rel=1e-5)


def test_where_prompts_differ_or_cannot_be_kept_each_pass_is_made(name: Any, tmp_path: Path) -> None:
    said = [[("user", f"please {i}"), ("assistant", "no"), ("user", "again"), ("assistant", "yes")] for i in range(24)]
    talks = [{"messages": [{"role": role, "content": text} for role, text in turns]} for turns in said]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks), encoding="utf-8")
    task = text_generation(str(tmp_path / "d.jsonl"), train=8, dev=6, test=4, max_new_tokens=6)
    assert asked(Tuning(Recipe(task=task, model=name("chat"), method=FULL, epochs=1), torch.device("cpu"), None)).behind is None
    of = tuned(TinyText(train=8, dev=6), name("seq2seq"))
    assert asked(of).behind is None
    assert evaluated(of, asked(of))[0]["dev_loss"] > 0
    prompt = tuned(TinyText(train=8, dev=6), name("chat"), method=peft("prompt_tuning", learning_rate=1e-3, num_virtual_tokens=2))
    assert asked(prompt).behind is not None
    assert not prompt._reads_once(asked(prompt))
    assert evaluated(prompt, asked(prompt))[0]["dev_loss"] > 0


def test_a_run_reads_each_prompt_once_and_its_forecast_knows(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Recipe(task=TinyText(train=16, dev=24), model=name("chat"), method=FULL, epochs=1, batch_size=8)
    calls: list[int] = []
    real = Generate.graded
    monkeypatch.setattr(Generate, "graded", lambda self, *given: calls.append(1) or real(self, *given))
    *_, last = train(made)
    assert calls
    work = last.usage["evaluate"].work
    amounts = Forecaster(Study(made, maximize="accuracy")).amounts(made)["evaluate"]
    assert amounts["flops"] == pytest.approx(work.flops, rel=0.2)  # how long answers get is not known before
    monkeypatch.setattr("workbench.forecast.amounts.cache_of", lambda model: None)
    assert Forecaster(Study(made, maximize="accuracy")).amounts(made)["evaluate"]["flops"] > 1.2 * amounts["flops"]
