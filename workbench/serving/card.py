"""The model card of a folder that is given away, with its costs and emissions in the form that
model hubs read.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from workbench.data import models
from workbench.prices import JOULES_PER_KWH
from workbench.quantities import dollars, duration, many
from workbench.serving.evidence import UNKNOWN, Evidence

if TYPE_CHECKING:
    from workbench.serving.packaging import Packaged
    from workbench.study import Recipe


def text(known: Evidence, made: Packaged, recipe: Recipe) -> str:
    """The card: a head of metadata, and what is known in words.

    Args:
        known: What is known of the model.
        made: The folder.
        recipe: What was trained.
    """
    head = "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in metadata(known, made).items())
    return f"---\n{head}\n---\n\n{_body(known, made, recipe)}"


def changed_text(share: float | None) -> str:
    """How many answers a form changes, a clause."""
    return "not compared" if share is None else f"{100 * share:.1f} % of the dev set's answers are others than in torch"


def metadata(known: Evidence, made: Packaged) -> dict[str, Any]:
    """The head of the card: `license`, `base_model`, `co2_eq_emissions` and others, as the model hub names them.

    What is unknown is left out.
    """
    found: dict[str, Any] = {
        "license": None if known.licence_model == UNKNOWN else known.licence_model.lower().replace(" ", "-"),
        "base_model": known.model,
        "library_name": {"adapter": "peft", "merged": "transformers"}.get(made.form, "onnx"),
        "tags": ["workbench", known.method],
        "metrics": [known.metric],
    }
    if known.grams_co2e is not None:
        found["co2_eq_emissions"] = {
            "emissions": known.grams_co2e,  # grams
            "source": "joules as measured or estimated by workbench, by the location-based average of the grid",
            "training_type": "fine-tuning",
            "geographical_location": known.country,
            "hardware_used": known.hardware,
        }
    return {name: value for name, value in found.items() if value is not None}


def _body(known: Evidence, made: Packaged, recipe: Recipe) -> str:
    score = f"{known.metric} {known.score:.2f} on the dev set as the study measured it, {made.score:.2f} loaded from this folder"
    usd = known.usd_per_1000
    if usd is not None and made.served is not None:
        usd /= made.served.speedup  # what is in the folder, not what the sweep had
    rows = {
        "score": score,
        "confirmed": _confirmed(known),
        "cost to make": f"{dollars(known.usd)} ({known.offer}), labels included" if known.usd is not None else UNKNOWN,
        "cost of 1,000 predictions": dollars(usd) if usd is not None else UNKNOWN,
        "time to make": duration(known.seconds) if known.seconds is not None else UNKNOWN,
        "energy": f"{known.energy_j / JOULES_PER_KWH:.3g} kWh" if known.energy_j is not None else UNKNOWN,
        "emissions": f"{known.grams_co2e:.3g} g CO2e ({known.country})" if known.grams_co2e is not None else UNKNOWN,
        "size": f"{made.bytes / 2**20:,.1f} MiB",
        "data": f"{known.data}, content {known.data_digest}; licence {known.licence_data}",
        "base model": f"{known.model}; licence {known.licence_model}",
    }
    rows["speed here"] = f"{made.predictions_per_second:,.0f} predictions/s, {made.latency_seconds * 1000:.1f} ms for one"
    if made.served is not None:
        rows["form"] = f"{made.form}, {made.served.speedup:.2f} times as fast as in torch on the same CPUs just before"
        rows["answers"] = changed_text(made.served.answers_changed)
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    settings = json.dumps(recipe.to_json(), indent=1, ensure_ascii=False, default=str)
    return (
        f"# {known.method} on {known.model}\n\n"
        f"In this folder it is loaded by\n\n```python\n{loading(made.form, recipe)}\n```\n\n"
        f"Made from {many(known.labels, 'labelled example')} in {many(known.epochs, 'epoch')}, trial {known.trial} of the study "
        f"`{known.study}`.\n\n| | |\n|---|---|\n{table}\n\n## Recipe\n\n```json\n{settings}\n```\n"
    )


def loading(form: str, recipe: Recipe) -> str:
    """Lines of Python that load a folder from inside it, without workbench.

    Args:
        form: What it holds, one of `packaging.FORMS`.
        recipe: What was trained.
    """
    kind, auto_class = models.kind(recipe.architecture), recipe.formulation.auto_class
    # A sound's processor has a tokeniser or has none, and no one class of transformers loads both.
    sound = type(models.processor(recipe.architecture)).__name__ if kind == "audio" else ""
    name, reader = ("processor", sound or "AutoImageProcessor") if kind in ("audio", "vision") else ("tokenizer", "AutoTokenizer")
    last = f'{name} = {reader}.from_pretrained(".")'
    names = ", ".join(sorted((auto_class, reader)))
    if form == "adapter":
        settings = recipe.formulation.settings
        classes = settings.get("num_labels") or len(settings.get("id2label", ()))
        more = f", num_labels={classes}" if classes else ""
        return (
            f"from peft import PeftConfig, PeftModel\nfrom transformers import {names}\n\n"
            f'about = PeftConfig.from_pretrained(".")\n'
            f'base = {auto_class}.from_pretrained(about.base_model_name_or_path, revision=about.revision or "main"{more})\n'
            f'model = PeftModel.from_pretrained(base, ".")\n{last}'
        )
    if form == "merged":
        return f'from transformers import {names}\n\nmodel = {auto_class}.from_pretrained(".")\n{last}'
    return (
        f"from onnxruntime import InferenceSession\nfrom transformers import {reader}\n\n"
        f'model = InferenceSession("model.onnx")  # config.json names its classes, if it has some\n{last}'
    )


def scores_text(known: Evidence) -> str:
    """Write what a model scores: `accuracy 57.5 on the dev set, 65.0 on the test split (67.5 over 3 new seeds)`."""
    text = f"{known.metric} {known.score:.1f} on the dev set"
    if known.test is None:
        return text
    seeds = "" if known.test_mean is None else f" ({known.test_mean:.1f} over {many(known.seeds, 'new seed')})"
    return f"{text}, {known.test:.1f} on the test split{seeds}"


def _confirmed(known: Evidence) -> str:
    if not known.confirmed:
        return "no: the score was part of the search, which keeps lucky ones"
    test = f"{known.metric} {known.test:.2f} on the held-out test split"
    if known.test_low is not None and known.test_high is not None:
        test += f" (new seeds {known.test_mean:.2f}, 95 % interval {known.test_low:.2f} to {known.test_high:.2f})"
    if known.mean is None:
        return test
    band = "" if known.low is None or known.high is None else f" (95 % interval {known.low:.2f} to {known.high:.2f})"
    return f"{test}; mean over {known.seeds} new seeds {known.mean:.2f}{band}"
