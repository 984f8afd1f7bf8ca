"""Every model with every method of a study, built without weights before anything is spent."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import labelling, methods
from workbench.data import models
from workbench.data.builtin import MODELS
from workbench.errors import EnvironmentFault, UsageError, did_you_mean
from workbench.forecast import machine
from workbench.forecast.memory import WEIGHT_BYTES, state_bytes
from workbench.forecast.starts import MOST_CORNERS, chosen_methods, combinations, options, parents, starts
from workbench.methods import Method
from workbench.space import Choice, Value, dimensions, is_number, resolve
from workbench.study import Recipe, Study, also, sequences
from workbench.tasks.base import EACH, Task
from workbench.tasks.tables import LabelledTask


@dataclass(frozen=True)
class Plan:
    """What is known of a model with a method before anything is trained.

    Attributes:
        model: What the model is called, with what it learns before (`minilm-l3 + masked_lm`).
        method: The method's name; of what models start from that of the parent.
        settings: The settings of PEFT's configuration that this build had: of a range, its end.
        parameters: All parameters of the wrapped model; None when it cannot be built.
        trainable_parameters: Those that learn; None when it cannot be built.
        state_bytes: Memory of weights, gradients, AdamW's moments, averages and their swap; activations come on top.
        memory_bytes: Memory of the device that would train.
        problem: Why it cannot be trained; empty when nothing is known against it.
        before: Whether it is what others start from, and no pair that is searched.
    """

    model: str
    method: str
    settings: dict[str, Value]
    parameters: int | None = None
    trainable_parameters: int | None = None
    state_bytes: int | None = None
    memory_bytes: int | None = None
    problem: str = ""
    before: bool = False

    @property
    def fits(self) -> bool:
        """Whether nothing is known against training it here."""
        return not self.problem


def find_models(study: Study) -> None:
    """Find every model of the study, before any of its data are read, which takes longer.

    Raises:
        UsageError: A model does not exist.
        EnvironmentFault: A model's configuration cannot be fetched.
    """
    for model in dict.fromkeys(start.architecture for start in starts(study)):
        try:
            models.config(model)
        except (UsageError, EnvironmentFault) as error:
            raise type(error)(_with_what_is_at_hand(str(error), study.recipe.task, model)) from error


def plan(study: Study) -> Iterator[Plan]:
    """Build every model with every method of the study, without weights, and yield what that shows.

    The weights that a model asks for are compared with the headers of its files, its tokeniser with
    its embeddings, and the longest row of the study with what the wrapped model takes.

    Raises as `find_models`.
    """
    find_models(study)
    memory = machine.device_memory_bytes()
    weights = min(options(study.recipe.weights), key=lambda each: -WEIGHT_BYTES[each])  # the largest speaks for all
    known: dict[str, list[tuple[Task, str]]] = {}
    for before in parents(study):
        yield _parent(before, memory)
    for start in starts(study):
        model = start.architecture
        if model not in known:
            known[model] = [(task, _problem_of(model, task)) for task in _heads(study.recipe.task, model)]
        for method in chosen_methods(study.recipe.method, start.model):
            # Of several tasks the one that cannot be, else the largest, speaks for the pair.
            builds = [
                _build(task, model, method, memory, problem or _problem_of_pair(study, task, model, method), weights)
                for task, problem in known[model]
            ]
            found = max(builds, key=lambda build: (build.problem != "", build.state_bytes or 0))
            yield dataclasses.replace(found, model=start.name)


def _parent(recipes: Sequence[Recipe], memory: int) -> Plan:
    """Build what models start from, and see that it can be merged."""
    recipe = recipes[-1]
    task, model, method = recipe.task, recipe.architecture, recipe.method
    found = _build(task, model, method, memory, _problem_of(model, task), recipe.weights)
    problem = found.problem or _problem_of_merging(task, model, method)
    return dataclasses.replace(found, model=recipe.model_name, problem=problem, before=True)


def _problem_of_pair(study: Study, task: Task, model: str, method: Method) -> str:
    """Return why a method cannot be used as the study's recipe says, whatever it does to the model; empty where it can."""
    problem = _problem_of_labels(study.recipe, task, method) or also.problem(task, study.recipe.also, models.kind(model))
    return problem or _problem_of_sequence(study, model, method)


def _problem_of_sequence(study: Study, model: str, method: Method) -> str:
    """Return why a method cannot learn tasks one after the other, by one of the study's strategies; empty where it can by all."""
    merges = False
    for option in options(study.recipe.task):
        holes = {name: hole for name, hole in dimensions(option).items() if not isinstance(hole.space, Choice)}
        rest = {name: hole.space.ends[-1] for name, hole in holes.items()}
        choices = [hole for name, hole in dimensions(option).items() if name not in holes]
        for settings in itertools.islice(combinations(choices, {}), MOST_CORNERS):
            task = resolve(option, {**settings, **{name: end for name, end in rest.items() if holes[name].exists(settings)}})
            if task.predecessor() is None:
                continue
            for weights in options(study.recipe.weights):
                if problem := sequences.problem(task, method, weights):
                    return problem
            if task.combines != EACH and not merges and (problem := _problem_of_merging(task, model, method)):
                return problem
            merges = merges or task.combines != EACH  # which does not depend on the strategy
    return ""


def _problem_of_merging(task: Task, model: str, method: Method) -> str:
    """Return why no recipe can start from what a method makes of a model; empty where one can."""
    for device in ("meta", "cpu"):  # some methods look at numbers, of which the meta device has none
        try:
            methods.merged(method, wrapped(task, model, method, device))
        except UsageError as error:
            problem = str(error)
        else:
            return ""
    return problem


def _with_what_is_at_hand(text: str, task: Any, model: str) -> str:
    """Name the built-in models that can do the task, not all, where a model cannot be fetched."""
    name = model.partition("@")[0]
    all_known = did_you_mean(name, MODELS)
    if name in MODELS or " Known: " not in all_known or all_known not in text:
        return text
    # The first task stands for the others: this is a hint, not the plan.
    first = _longest_form(options(task)[0])
    if isinstance(first, LabelledTask) and not first.labels:
        # Any labels do: to find those of the data takes half a minute.
        first = dataclasses.replace(first, labels=(("a", "a"), ("b", "b")))
    able = []
    for built_in, of in MODELS.items():
        with contextlib.suppress(UsageError, EnvironmentFault):
            # To look into a GGUF file a folder is made of it; all that are read are of language models.
            first.formulation("decoder" if of.is_gguf and of.place else models.kind(built_in))
            able.append(built_in)
    module = type(first).__module__
    what = module.rpartition(".")[2] if module.startswith("workbench.tasks.") else type(first).__name__
    at_hand = f"Built in, for {what} without a network: {', '.join(able)}." if able else f"For {what} no model is built in."
    return f"{text.replace(all_known, '')} {at_hand}"


def check(study: Study) -> list[Plan]:
    """Return the plan of a study, if all of it can be trained.

    Raises:
        UsageError: Some model cannot be trained with some method; the message names each such pair.
    """
    pairs = list(plan(study))
    if told := problems(pairs):
        bad = sum(not p.fits for p in pairs)
        head = f"{bad} of {len(pairs)} pairs of model and method cannot be trained here:"
        raise UsageError("\n".join([head, *told, "Mend or remove them; `workbench plan` shows all pairs."]))
    return pairs


def problems(pairs: Sequence[Plan]) -> list[str]:
    """Return why pairs cannot be trained here: a line for each reason, with the methods and models
    that share it.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for p in pairs:
        if not p.fits:
            alike.setdefault((p.method, p.problem), []).append(p.model)
    shared: dict[tuple[str, str], list[str]] = {}
    for (method, problem), of in alike.items():
        shared.setdefault((", ".join(dict.fromkeys(of)), problem), []).append(method)
    return [f"  {', '.join(dict.fromkeys(methods))} on {of}: {problem}" for (of, problem), methods in shared.items()]


def _problem_of(model: str, task: Task) -> str:
    """Return why a model cannot do a task, whatever the method; empty where it can."""
    try:
        formulation = task.formulation(models.kind(model))
        models.check(model, formulation.auto_class, **formulation.settings)
        bare = models.build(model, formulation.auto_class, device="meta", **formulation.settings)
        processor = models.processor(model)
    except (UsageError, EnvironmentFault) as error:
        return str(error)
    if problem := formulation.problem(processor):
        return problem
    try:
        table = bare.get_input_embeddings().weight  # type: ignore[operator]
    except (AttributeError, NotImplementedError):  # a model without a table of tokens
        return ""
    highest = max(processor.get_vocab().values()) if hasattr(processor, "get_vocab") else 0
    if highest < len(table):
        return ""
    return (
        f"the tokeniser of {model!r} has tokens up to number {highest}, and the model embeddings of {len(table)} tokens (0 to "
        f"{len(table) - 1}). Call resize_token_embeddings({highest + 1}) on the model and save it, or give it its own tokeniser."
    )


def _problem_of_labels(recipe: Recipe, task: Task, method: Method) -> str:
    """Return why the study's ways to need fewer labels are none for a task; empty where they are, and for what learns of none."""
    if not method.labelled:
        return ""
    pairs = itertools.product(options(recipe.acquire), options(recipe.pseudo))
    return next((told for acquire, pseudo in pairs if (told := labelling.problem(task, acquire, pseudo))), "")


def _problem_of_rows(task: Task, model: str, method: Method, built: Any) -> str:
    """Return why the wrapped model cannot take the longest row of the task; empty where it can."""
    from workbench.forecast import passes

    formulation, tokenizer = task.formulation(models.kind(model)), models.processor(model)
    most, objective = formulation.longest_row, formulation.objective
    if "input_ids" in getattr(tokenizer, "model_input_names", ()):
        inputs = passes.sample(tokenizer, most or passes.SHORTEST)
    else:  # what images and sound are for a model only they can tell
        most = 0
        try:
            rows = formulation.encode(task.splits().dev[:1], tokenizer)
        except UsageError as error:
            return str(error)
        inputs = rows.batch([0]) if len(rows) else {}
    if not inputs:
        return ""
    if (failed := passes.failure(built.eval(), objective, inputs)) is None:
        return ""
    if any(p.device.type == "meta" for p in built.parameters()):  # a pass that looks at numbers fails there for no reason
        built = wrapped(task, model, method, "cpu").eval()
        if (failed := passes.failure(built, objective, inputs)) is None:
            return ""
    takes = passes.longest(built, objective, tokenizer, most) if most else 0
    if takes:
        tokens = getattr(next(iter(getattr(built, "peft_config", {}).values()), None), "num_virtual_tokens", None)
        beside = f" beside {tokens} virtual tokens of {method.name!r}" if tokens else ""
        return f"max_length={most} is more than the {takes} tokens that {model!r} takes{beside}. Lower it."
    fault = " ".join(f"{type(failed).__name__}: {failed}".split())
    return f"{model!r} does not take the inputs of this task: {fault} Choose another model or method."


def _build(task: Task, model: str, method: Method, memory: int, problem: str, weights: str) -> Plan:
    settings: dict[str, Value] = {name: value for name, value in method.settings.items() if isinstance(value, Value)}
    if problem:
        return Plan(model, method.name, settings, problem=problem)
    try:
        task.formulation(models.kind(model)).reading(method.read)
    except UsageError as error:
        return Plan(model, method.name, settings, problem=f"{method.name!r}: {error}")
    if method.shots and not task.formulation(models.kind(model)).takes_shots:
        problem = (
            f"{method.name!r} puts examples before questions, which {model!r} does not read. Name those it is for: models=(…)."
        )
        return Plan(model, method.name, settings, problem=problem)
    try:
        built = wrapped(task, model, method)
    except UsageError as error:
        return Plan(model, method.name, settings, problem=str(error))
    total = sum(p.numel() for p in built.parameters())
    tuned = sum(p.numel() for p in built.parameters() if p.requires_grad)
    state = state_bytes(total, tuned, weights)
    if state < memory:
        problem = _problem_of_rows(task, model, method, built)
    else:
        problem = f"needs {state / 2**30:.1f} GiB before activations; the device has {memory / 2**30:.1f} GiB"
    return Plan(model, method.name, settings, total, tuned, state, memory, problem)


def wrapped(task: Task, model: str, method: Method, device: str = "meta") -> Any:
    """The model as the method wraps it: on the meta device, where the method can be applied there.

    Raises:
        UsageError: The method cannot be applied to the model.
    """
    import torch

    formulation = task.formulation(models.kind(model))
    base = models.build(model, formulation.auto_class, device=device, **formulation.settings)
    try:
        with torch.device(device):
            return methods.apply(method, base, auto_class=formulation.auto_class)
    except UsageError as error:
        if device != "meta" or "meta" not in str(error).lower():
            raise
    # Five of PEFT's methods (AdaMSS, BOFT, FRoD, SHiRA, UniLoRA) look at numbers, of which the meta device has none.
    return wrapped(task, model, method, "cpu")


def _heads(task: Any, model: str) -> Iterator[Task]:
    """One task for each kind of head that the study puts on a model: the one with the longest rows.

    Raises:
        UsageError: A task cannot be done by a model of this kind.
    """
    # In the order of their rows' length, so that of one kind of head the longest stays.
    by_form: dict[str, Task] = {}
    for option in sorted((_longest_form(each) for each in options(task)), key=lambda each: getattr(each, "max_length", 0)):
        try:
            by_form[option.formulation(models.kind(model)).auto_class] = option
        except UsageError:  # which is a problem of the pair
            by_form[""] = option
    yield from by_form.values()


def _longest_form(task: Any) -> Task:
    """The task with the longest rows that its holes allow, and the most examples; of other choices the first."""
    holes = dimensions(task)
    settings: dict[str, Value] = {}
    for name, hole in holes.items():
        if hole.exists(settings):
            ends = hole.space.names if isinstance(hole.space, Choice) else hole.space.ends
            settings[name] = max(ends) if all(is_number(end) for end in ends) else ends[0]
    form: Task = resolve(task, settings)
    return form
