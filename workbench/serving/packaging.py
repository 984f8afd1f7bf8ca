"""A model of the front as a folder that other software loads: PEFT's adapter, a whole model as Hugging
Face has it, or one in ONNX. What was written is loaded again and graded before it counts.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import training
from workbench.data import adapters, fingerprints, hub, models
from workbench.errors import Refused, UsageError
from workbench.front.serving import Form
from workbench.methods import zero_shot
from workbench.serving import card
from workbench.serving.bundle import pinned
from workbench.serving.loading import plain, same
from workbench.serving.regrading import check_score, tolerance
from workbench.study import sequences
from workbench.training import parent_store

if TYPE_CHECKING:
    from workbench.serving.evidence import Evidence
    from workbench.study import Recipe
    from workbench.tasks import Task

ADAPTER, MERGED, ONNX, INT8 = FORMS = "adapter", "merged", "onnx", "int8"
"""What a folder may hold: PEFT's adapter beside a reference to its model, or one whole model, as
Hugging Face has it, in ONNX, or in ONNX with weights of eight bits.
"""

INT8_POINTS = 1.0
"""By how many points the score of a model in eight bits may move, where an example of the dev set is
less: rounding weights is no mistake, but one's price.
"""

CARD = "README.md"
"""The model card's file."""

ONNX_FILE = "model.onnx"
"""The file of a model in ONNX."""

BASE = "base"
"""The folder inside an adapter's with its model, where no hub and no other folder has that."""


@dataclass(frozen=True)
class Packaged:
    """A folder that was written.

    Attributes:
        folder: Where it is.
        form: One of `FORMS`.
        bytes: How large its files are.
        score: The study's score on the dev set, of what was loaded from there.
        predictions_per_second: Of that grading, in batches.
        latency_seconds: Median of one prediction alone.
        served: In ONNX: as it is to be compared with the original in serving.
    """

    folder: Path
    form: str
    bytes: int
    score: float
    predictions_per_second: float
    latency_seconds: float
    served: Form | None = None


def package(recipe: Recipe, weights: Path | None, known: Evidence, to: Path, form: str, most: float | None = None) -> Packaged:
    """Write a model into a folder.

    Args:
        recipe: What was trained.
        weights: Its tuned weights; None of a model that is only asked.
        known: What is known of it, for the model card.
        to: The folder. It must not be there yet, or be empty.
        form: One of `FORMS`.
        most: By how much the score may move; None: as `most_of` says.

    Raises:
        UsageError: The method has no such form, or there is something in the folder.
        Refused: Loaded from there the model has another score. Nothing is left of it then.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to} is there already. Name a folder that is new, or empty.")
    to.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        with hub.quiet():
            if form in (ONNX, INT8):
                served, score, rate, latency = _export(recipe, weights, known, draft, form, most)
            else:
                served, score, rate, latency = None, *_write_and_grade(recipe, weights, known, draft, form, most)
        made = Packaged(to, form, _size(draft), score, rate, latency, served)
        (draft / CARD).write_text(card.text(known, made, recipe), encoding="utf-8")
        if to.exists():
            to.rmdir()
        draft.chmod(0o755)  # as any folder; that of a draft is its owner's alone
        draft.replace(to)
        return made
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def most_of(form: str, task: Task, metric: str) -> float:
    """By how much a score may move in a form unless told otherwise: by one example of the dev set, and by `INT8_POINTS` at
    least in eight bits.
    """
    one = tolerance(task, metric)
    return max(one, INT8_POINTS) if form == INT8 else one


def export(recipe: Recipe, weights: Path | None, known: Evidence, to: Path, form: str, most: float | None = None) -> Form:
    """Write a model's file of ONNX, as it is packaged and deployed.

    Args:
        recipe: As `package`.
        weights: As `package`.
        known: As `package`.
        to: The file.
        form: `onnx` or `int8`.
        most: As `package`.

    Raises:
        UsageError: The model has no such form.
        Refused: It has another score.
        EnvironmentFault: A package that is needed is not installed.
    """
    found = training.export(recipe, weights, to, eight_bits=form == INT8)
    score = float(found.grade.scores[known.metric])
    check_score(known.metric, score, known.score, most_of(form, recipe.task, known.metric) if most is None else most)
    grade, original = found.grade, found.original
    changed = [not same(plain(a), plain(b)) for a, b in zip(grade.predictions, original.predictions, strict=True)]
    return Form(
        form,
        score,
        to.stat().st_size,
        grade.predictions_per_second,
        grade.latency_seconds,
        original.predictions_per_second,
        original.latency_seconds,
        sum(changed) / max(1, len(changed)),
    )


def _export(
    recipe: Recipe, weights: Path | None, known: Evidence, folder: Path, form: str, most: float | None
) -> tuple[Form, float, float, float]:
    made = export(recipe, weights, known, folder / ONNX_FILE, form, most)
    processor = models.processor(recipe.architecture)
    processor.save_pretrained(folder)
    labels = {str(number): name for number, name in recipe.formulation.settings.get("id2label", {}).items()}
    about = {"architecture": recipe.formulation.auto_class, "id2label": labels}
    (folder / "config.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    return made, made.score, made.predictions_per_second, made.latency_seconds


def _write_and_grade(
    recipe: Recipe, weights: Path | None, known: Evidence, folder: Path, form: str, most: float | None
) -> tuple[float, float, float]:
    # Whatever held the model's own weights: what is given away is float32, of which anything can be made.
    _write(dataclasses.replace(recipe, weights="float32"), weights, folder, form)
    found = training.grade(_again(recipe, folder), None)
    score = float(found.scores[known.metric])
    try:
        check_score(known.metric, score, known.score, most_of(form, recipe.task, known.metric) if most is None else most)
    except Refused as error:
        raise Refused(f"{error} {_advice(recipe, form)}".strip()) from None
    return score, found.predictions_per_second, found.latency_seconds


def _write(recipe: Recipe, weights: Path | None, folder: Path, form: str) -> None:
    model: Any = training.tuned_model(recipe, weights) if weights is not None else training.asked_model(recipe)
    is_peft = hasattr(model, "get_base_model")
    if recipe.method.fits or recipe.method.kind == "adapter":
        raise UsageError(
            f"{recipe.method.name} makes a model that only workbench computes: it is no folder that other software loads. "
            "`workbench deploy` serves it."
        )
    if problem := sequences.of_parts(recipe.task):
        raise UsageError(problem)
    if form == ADAPTER:
        if not is_peft:
            why = "the adapters are merged" if recipe.task.combines else f"{recipe.method.name} is no method of PEFT"
            raise UsageError(f"{why}: there is no adapter to give away. Take --as {MERGED}.")
        _write_adapter(recipe, model, folder)
    else:
        if is_peft and next(iter(model.peft_config.values())).is_prompt_learning:
            raise UsageError(
                f"{recipe.method.name} puts tokens in front of the input, which cannot be merged. Take --as {ADAPTER}."
            )
        whole = model.merge_and_unload() if is_peft else model
        whole.save_pretrained(folder)
    models.processor(recipe.architecture).save_pretrained(folder)


def _write_adapter(recipe: Recipe, model: Any, folder: Path) -> None:
    """Write an adapter in PEFT's own format, with the name of its model in it; and that model beside it, if no name leads to it."""
    adapters.library()  # PEFT without what it logs
    model.save_pretrained(folder)
    of = parent_store.kept_for_good(recipe)
    name, _, revision = pinned(of).partition("@")
    if fingerprints.is_built_in(of):
        formulation = recipe.formulation
        base: Any = models.build(of, formulation.auto_class, seed=recipe.seed, **formulation.settings)
        base.save_pretrained(folder / BASE)
        models.processor(of).save_pretrained(folder / BASE)
        name, revision = BASE, ""
    path = folder / adapters.CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": name, "revision": revision or None}
    # "all-linear" names the head too, which is saved as a whole and has no adapter: a reader would miss one there.
    if isinstance(targets := config.get("target_modules"), list):
        saved = config.get("modules_to_save") or ()
        config["target_modules"] = sorted(each for each in targets if each.rpartition(".")[2] not in saved)
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _again(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe of the model in a folder: it is asked as it was, and nothing is trained."""
    method = zero_shot(read=recipe.method.read) if recipe.method.labelled else recipe.method
    return dataclasses.replace(recipe.asked_of(str(folder.resolve())), method=method, weights="float32")


def _advice(recipe: Recipe, form: str) -> str:
    if recipe.weights != "float32":
        return (
            f"It was measured with its own weights in {recipe.weights}, and this is float32: --tolerance says how far it may move."
        )
    return f"--as {MERGED} holds all of it." if form == ADAPTER else ""


def _size(folder: Path) -> int:
    """Bytes of all files but the cards: PEFT writes one of its own, which ours takes the place of."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != CARD)
