"""What is deployed and asked in tests of serving: a task and a method for every kind of model, each tiny."""

import json
import urllib.error
import urllib.request
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import started
from safetensors.torch import save_file

from workbench import Recipe, Study, few_shot, full, item_item, knn, logistic, peft, zero_shot
from workbench.sweep import Limits, recipe_of
from workbench.tasks import (
    audio_classification,
    classification,
    continual,
    image_classification,
    language_modelling,
    monitoring,
    question_answering,
    ranking,
    recommendation,
    retrieval,
    speech_recognition,
    support,
    text_generation,
    token_classification,
    translation,
)
from workbench.testing import tiny_audio, tiny_decoder, tiny_model, tiny_seq2seq, tiny_vision
from workbench.training import train


def tiny_masker(folder: Path) -> str:
    """A tiny encoder whose tokeniser has a token for what is hidden."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model(folder))
    tokenizer.mask_token = "w63"
    tokenizer.save_pretrained(folder)
    return str(folder)


MODELS: dict[str, Callable[[Path], str]] = {
    "encoder": tiny_model,
    "masker": tiny_masker,
    "decoder": tiny_decoder,
    "seq2seq": tiny_seq2seq,
    "vision": tiny_vision,
    "audio": tiny_audio,
}
FULL = full(learning_rate=3e-3)
LORA = peft("lora", learning_rate=1e-2, r=2, target_modules="all-linear")
WORDS = [f"w{i}" for i in range(4, 40)]


def rows(folder: Path, name: str, made: Sequence[dict[str, Any]]) -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return str(folder / name)


def sentence(i: int, length: int = 6) -> str:
    return " ".join(WORDS[(7 * i + k * (i % 5 + 1)) % len(WORDS)] for k in range(length + i % 4))


def classes(folder: Path) -> Any:
    data = rows(folder, "texts.jsonl", [{"text": sentence(i), "label": ("no", "yes", "maybe")[i % 3]} for i in range(60)])
    return classification(data, train=24, dev=8, max_length=32)


def topics(folder: Path) -> Any:
    made = [{"text": sentence(i), "label": ("no", "yes")[i % 2], "group": "ab"[i // 2 % 2]} for i in range(80)]
    return monitoring(rows(folder, "topics.jsonl", made), train=24, dev=16, max_length=32, watched="no", topics=True)


def pairs(folder: Path) -> Any:
    made = [{"one": sentence(i), "two": sentence(i + 1), "label": ("no", "yes")[i % 2]} for i in range(60)]
    return classification(rows(folder, "pairs.jsonl", made), train=24, dev=8, max_length=32, text=("one", "two"))


def several(folder: Path) -> Any:
    made = [{"text": sentence(i), "labels": [name for k, name in enumerate("abc") if i >> k & 1]} for i in range(60)]
    return classification(rows(folder, "several.jsonl", made), train=24, dev=8, label="labels", several=True, max_length=32)


def answers(folder: Path) -> Any:
    made = []
    for i in range(60):
        context = sentence(i, 12)
        word = context.split()[i % 5]
        found = {"text": [word], "answer_start": [context.index(word)]} if i % 4 else {"text": [], "answer_start": []}
        made.append({"question": sentence(i, 2), "context": context, "answers": found})
    return question_answering(rows(folder, "qa.jsonl", made), train=24, dev=8, max_length=32, stride=4, max_answer_tokens=8)


def tags(folder: Path) -> Any:
    made = [
        {"tokens": sentence(i).split(), "tags": ["B-x" if k % 3 == i % 3 else "O" for k in range(6 + i % 4)]} for i in range(60)
    ]
    return token_classification(rows(folder, "tags.jsonl", made), train=24, dev=8, max_length=16, stride=2, max_new_tokens=8)


def short(folder: Path) -> Any:
    """Classes whose questions leave room for examples before them."""
    made = [{"text": WORDS[i % 36], "label": ("no", "yes", "maybe")[i % 3]} for i in range(36)]
    return classification(rows(folder, "short.jsonl", made), train=12, dev=6, max_length=32, instruction="?")


def replies(folder: Path) -> Any:
    made = [{"prompt": sentence(i, 3), "completion": sentence(i, 1)} for i in range(60)]
    return text_generation(rows(folder, "replies.jsonl", made), train=24, dev=6, max_new_tokens=6)


def languages(folder: Path) -> Any:
    made = [{"en": sentence(i, 3), "de": sentence(i, 1)} for i in range(60)]
    return translation(
        rows(folder, "languages.jsonl", made),
        source="en",
        target="de",
        languages=("English", "German"),
        train=24,
        dev=6,
        max_new_tokens=6,
    )


def texts(folder: Path) -> Any:
    return language_modelling(
        rows(folder, "lines.jsonl", [{"text": sentence(i, 20)} for i in range(60)]), train=24, dev=6, max_length=16
    )


def documents(folder: Path, task: Any = retrieval, **more: Any) -> Any:
    made = [{"query": sentence(i, 2), "positive": f"{sentence(i, 9)} {WORDS[i % 36]}"} for i in range(60)]
    return task(rows(folder, "search.jsonl", made), train=24, dev=6, max_length=16, **more)


def candidates(folder: Path) -> Any:
    return documents(folder, ranking, candidates=4, negatives=2)


def neighbours(folder: Path) -> Any:
    return documents(folder, ranking, candidates=4, negatives=2, encoder="bi-encoder")


def items(folder: Path) -> Any:
    (folder / "shop").mkdir()
    had = [f"u{u},i{(u + 3 * t) % 12},{t}" for u in range(20) for t in range(5)]
    (folder / "shop" / "interactions.csv").write_text("user,item,time\n" + "\n".join(had) + "\n")
    (folder / "shop" / "items.csv").write_text("id,text\n" + "".join(f"i{i},{sentence(i, 3)}\n" for i in range(12)))
    return recommendation(str(folder / "shop"), train=20, dev=8, max_length=16)


def learned_in_turn(folder: Path) -> Any:
    """Two tasks, of other classes each."""
    made = [
        rows(folder, f"part-{n}.jsonl", [{"text": sentence(i + n), "label": f"{'ab'[i % 2]}{n}"} for i in range(40)])
        for n in (0, 1)
    ]
    return continual([classification(data, train=16, dev=6, max_length=32) for data in made], strategy="replay", memory=4)


def answered_before(folder: Path) -> Any:
    made = [{"question": sentence(i, 4), "answer": f"{WORDS[i % 6]} it is" if i % 5 else ""} for i in range(60)]
    return support(rows(folder, "asked.jsonl", made), train=24, dev=6, max_length=16)


def digits(folder: Path) -> Any:
    return image_classification("digits", train=24, dev=8)


def sounds(folder: Path) -> Path:
    pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for i in range(24):
        path = folder / "sounds" / ("low", "high")[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(rng.integers(-9000, 9000, 3200 + 400 * (i % 3), np.int16).tobytes())
    return folder / "sounds"


def heard(folder: Path) -> Any:
    return audio_classification(str(sounds(folder)), train=8, dev=4, test=4, max_seconds=0.25)


def spoken(folder: Path) -> Any:
    found = sorted(sounds(folder).glob("*/*.wav"))
    table = folder / "sounds" / "said.csv"
    lines = [
        f"{path.relative_to(folder / 'sounds')},{'ab'[i % 2]} c {'xyz'[i % 3]} {i % 7 * 'd' or 'e'}" for i, path in enumerate(found)
    ]
    table.write_text("audio,text\n" + "\n".join(lines) + "\n")
    return speech_recognition(str(table), train=8, dev=4, test=4, max_seconds=1.0)


def in_turn(strategy: str) -> Callable[[Path], Any]:
    """Two tasks, one learned after the other."""

    def made(folder: Path) -> Any:
        halves = [
            rows(folder, f"half{k}.jsonl", [{"text": sentence(i + k), "label": "nyma"[2 * k + i % 2]} for i in range(60)])
            for k in range(2)
        ]
        return continual([classification(each, train=24, dev=6, max_length=32) for each in halves], strategy=strategy, epochs=1)

    return made


KINDS: dict[str, tuple[str, Callable[[Path], Any], Any]] = {
    "classes": ("encoder", classes, FULL),
    "classes by an adapter": ("encoder", pairs, LORA),
    "several classes": ("encoder", several, FULL),
    "tasks in turn": ("encoder", in_turn("plain"), FULL),
    "tasks with adapters": ("encoder", in_turn("adapter_per_task"), LORA),
    "tasks merged": ("encoder", in_turn("merge"), LORA),
    "classes by neighbours": ("encoder", classes, knn(neighbours=3)),
    "classes by a regression": ("encoder", classes, logistic()),
    "topics with labels": ("encoder", topics, logistic()),
    "spans": ("encoder", answers, FULL),
    "entities": ("encoder", tags, LORA),
    "embeddings": ("encoder", documents, FULL),
    "pairs": ("encoder", candidates, FULL),
    "pairs by embeddings": ("encoder", neighbours, FULL),
    "masked words": ("masker", texts, FULL),
    "next words": ("decoder", texts, LORA),
    "written classes": ("decoder", classes, LORA),
    "chosen classes": ("decoder", classes, zero_shot(read="mutual_information")),
    "nearest examples": ("decoder", short, few_shot(shots=2, choose="nearest")),
    "first examples": ("decoder", replies, few_shot(shots=2)),
    "written answers": ("decoder", answers, LORA),
    "written entities": ("seq2seq", tags, FULL),
    "yes or no": ("decoder", candidates, LORA),
    "a translation": ("seq2seq", languages, LORA),
    "items": ("encoder", items, FULL),
    "items by counts": ("counts", items, item_item()),
    "classes learned in turn": ("encoder", learned_in_turn, FULL),
    "past answers": ("encoder", answered_before, FULL),
    "images": ("vision", digits, FULL),
    "sounds": ("audio", heard, FULL),
    "speech": ("audio", spoken, FULL),
}
EMBEDDED = {name for name, (of, _, _) in KINDS.items() if of in ("encoder", "masker", "vision", "audio")}
"""Kinds of models whose embeddings are known."""
SLOW = {
    "classes learned in turn", "first examples", "next words", "pairs", "several classes", "speech", "written answers",
    "written entities",
}  # fmt: skip


def made(folder: Path, task: Any, model: str, method: Any, seed: int = 0) -> tuple[Recipe, Any, Path | None]:
    """The recipe, its last checkpoint, and its weights as a sweep keeps them."""
    recipe = Recipe(task=task, model=model, method=method, epochs=1, batch_size=8, seed=seed)
    *_, last = train(recipe)
    if not recipe.method.labelled:
        return recipe, last, None
    save_file(last.weights(), folder / "kept.safetensors")
    return recipe, last, folder / "kept.safetensors"


def swept(folder: Path, task: Any, model: str, method: Any) -> tuple[Recipe, list[Any], Path | None]:
    """As `made`, by a sweep: the recipe, what `--log-samples` puts on record of all its examples, and its weights."""
    study = Study(Recipe(task=task, model=model, method=method, epochs=1, batch_size=8), maximize=task.metrics[0], trials=1)
    results, _ = started.swept(folder, study, Limits(trials=1), log_samples=1000)
    files = [folder / "states" / "weights" / f"{each.recipe_id}.safetensors" for each in results]
    # Weights are kept of the front alone.
    chosen, weights = next((r, file) for r, file in zip(results, files, strict=True) if file.exists() or not method.labelled)
    samples = json.loads(json.dumps(chosen.to_json()))["samples"]
    return recipe_of(study, chosen), samples, weights if method.labelled else None


def ask(port: int, body: Any) -> tuple[int, Any]:
    """The status and the answer of a server on this machine; a body that is no bytes is written as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def alike(found: Any, expected: Any) -> bool:
    """Whether two predictions say the same, numbers to five digits."""
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(alike(found[name], expected[name]) for name in expected)
    if isinstance(expected, float):
        return bool(np.isclose(found, expected, rtol=1e-4, atol=1e-5))
    return bool(found == expected)
