"""The built-in data set: answers at their offsets, nothing on two sides, the same every time."""

import collections
import json
import subprocess
import sys

import pytest

from workbench.data import docstrings, licences, pydocs
from workbench.data.docstrings import Documented, Entry
from workbench.data.duplicates import shingles, words
from workbench.data.forms import BUILT_IN
from workbench.errors import EnvironmentFault

SMALL = ("networkx",)


@pytest.fixture(scope="module")
def sides():
    return pydocs.build(SMALL)


@pytest.fixture
def small_cache(tmp_path, monkeypatch, sides):
    """The data set of one package, built at once, in a cache of its own."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(pydocs, "build", lambda packages: sides)
    monkeypatch.setattr(pydocs, "PACKAGES", {"networkx": "networkx"})
    return tmp_path


def check_answers(sides):
    ids = [example["id"] for examples in sides.values() for example in examples]
    assert len(set(ids)) == len(ids)
    for examples in sides.values():
        for example in examples:
            (text,), (start,) = example["answers"]["text"], example["answers"]["answer_start"]
            assert example["context"][start : start + len(text)] == text
            assert text == text.strip() != ""
            assert len(text.split()) <= pydocs.ANSWER_WORDS


def check_no_leak(sides):
    """No context, no entry that bears an answer, and no docstring stands on two sides."""
    owner: dict[object, str] = {}
    for side, examples in sides.items():
        for example in examples:
            path, _name, _kind = example["id"].rsplit("/", 2)
            start = example["answers"]["answer_start"][0]
            entry = next(line for line, end in lines(example["context"]) if start < end)
            facts = [("object", path), ("context", *words(example["context"])), ("entry", *words(entry))]
            for fact in facts:
                assert owner.setdefault(fact, side) == side, (fact, side, example["id"])


def lines(context):
    end = 0
    for line in context.split("\n"):
        end += len(line) + 1
        yield line, end


def test_answers_are_at_their_offsets(sides):
    check_answers(sides)


def test_nothing_is_on_two_sides(sides):
    check_no_leak(sides)


@pytest.mark.slow
def test_no_docstring_nearly_repeats_one_of_another_side(sides):
    side_of = {example["id"].rsplit("/", 2)[0]: side for side, examples in sides.items() for example in examples}
    texts = collections.defaultdict(list)
    for each in docstrings.documented("networkx"):
        if each.path in side_of:
            texts[side_of[each.path]].append(shingles(" ".join(f"{e.name} {e.type} {e.text}" for e in each.entries)))
    held_out = texts["dev"] + texts["test"]
    assert len(held_out) > 50
    near = [1 for a in texts["train"] for b in held_out if len(a & b) >= 0.85 * len(a | b)]
    assert not near


def test_every_kind_is_asked_and_a_context_has_distractors(sides):
    kinds = collections.Counter(example["id"].rsplit("/", 1)[1] for example in sides["train"])
    assert set(kinds) == set(pydocs.KINDS)
    alone = [example for example in sides["train"] if "\n" not in example["context"]]
    assert len(alone) < 0.4 * len(sides["train"])


@pytest.mark.slow
def test_the_same_under_another_hash_seed(sides):
    code = f"import json; from workbench.data import pydocs; print(json.dumps(pydocs.build({SMALL})))"
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)}, capture_output=True
    )
    assert json.loads(run.stdout) == sides


def test_a_default_is_asked_at_the_default_and_not_at_an_equal_word_before_it():
    entry = Entry("Parameters", "axis", "{0 or 'index', 1 or 'columns'}, default 0", "Axis to sum. Zero is rows.")
    about = Documented("p.f", "f", "", (entry, Entry("Returns", "", "int", "The sum of all things.")))
    asked = {question.kind: question.example() for question in pydocs._questions(about)}
    assert asked["default"]["context"][: asked["default"]["answers"]["answer_start"][0]].endswith("default ")
    assert asked["type"]["answers"]["text"] == ["{0 or 'index', 1 or 'columns'}"]
    assert asked["meaning"]["answers"]["text"] == ["Axis to sum"]
    assert asked["returns"]["question"] == "What does `f` return?"
    assert asked["returns"]["answers"]["text"] == ["The sum of all things"]


@pytest.mark.parametrize(
    ("kind", "text", "default"),
    [
        ("int, default 5", "", "5"),
        ("bool, optional (default=True)", "", "True"),
        ("float, default: 1e-3", "", "1e-3"),
        ("str, default 'two words'", "", "two words"),
        ("group, defaults to torch.distributed.WORLD", "", "torch.distributed.WORLD"),
        ("int, optional", "How many there are. Default is 5.", "5"),
        ("int, optional", "How many there are. Default: ``(2, 2)``", "(2, 2)"),
        ("dict", "What to draw. Defaults to {'a': 1}.", "{'a': 1}"),
        ("int", "By default the whole array is taken.", ""),
        ("str", "A character, default ' ' is meant.", ""),
    ],
)
def test_defaults_are_found_in_types_and_descriptions(kind, text, default):
    entry = Entry("Parameters", "p", kind, docstrings.plain([text]))
    start, answer = pydocs._default(entry)
    assert answer == default
    assert pydocs._render(entry)[start : start + len(answer)] == answer


def test_built_once_and_then_read(small_cache, sides, monkeypatch):
    assert pydocs.load() == sides
    monkeypatch.setattr(pydocs, "build", lambda packages: pytest.fail("built twice"))
    assert pydocs.load() == sides


@pytest.mark.parametrize(
    "harm", [lambda content: b"", lambda content: content[:5000], lambda content: content.replace(b"What", b"That", 1)]
)
def test_a_broken_cache_file_is_built_again(small_cache, sides, harm):
    pydocs.load()
    (file,) = small_cache.rglob("pydocs-*.json")
    whole = file.read_bytes()
    file.write_bytes(harm(whole))
    assert pydocs.load() == sides
    assert file.read_bytes() == whole
    assert len(list(file.parent.iterdir())) == 1  # no temporary file stays


def test_another_version_of_a_package_is_another_file(small_cache, monkeypatch):
    monkeypatch.setattr(pydocs, "build", lambda packages: {"train": [], "dev": [], "test": []})
    for version in ("1.0", "1.1"):
        monkeypatch.setattr(pydocs, "versions", lambda version=version: {"networkx": version})
        pydocs.load()
    assert len(list(small_cache.rglob("pydocs-*.json"))) == 2


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(pydocs, "build", lambda packages: {})
    with pytest.raises(EnvironmentFault, match="WORKBENCH_CACHE"):
        pydocs.load()


def test_built_in_data_tell_what_they_are_made_of_under_which_licences():
    told = licences.of_data("pydocs")
    for module in pydocs.versions():
        licence = licences.of_package(pydocs.PACKAGES[module])
        assert licence != "unknown"
        assert f"{pydocs.PACKAGES[module]} ({licence})" in told
    assert all("unknown" not in licences.of_data(name) for name in BUILT_IN)
    assert licences.of_data("my.csv") == licences.of_package("no-such-package") == "unknown"


def test_no_package_at_all_says_what_to_install(monkeypatch):
    monkeypatch.setattr(pydocs, "versions", dict)
    with pytest.raises(EnvironmentFault, match="scikit-learn"):
        pydocs.load()


@pytest.mark.slow
def test_the_whole_data_set():
    sides = pydocs.load()
    total = sum(map(len, sides.values()))
    if set(pydocs.versions()) != set(pydocs.PACKAGES):
        pytest.skip("not every package is installed: pip install workbench[pydocs]")
    assert total >= 20_000
    assert 0.75 < len(sides["train"]) / total < 0.85
    assert min(len(sides["dev"]), len(sides["test"])) >= 1_500
    check_answers(sides)
    check_no_leak(sides)
    kinds = collections.Counter(example["id"].rsplit("/", 1)[1] for examples in sides.values() for example in examples)
    assert max(kinds.values()) <= pydocs.PER_KIND
    assert min(kinds[kind] for kind in ("type", "default", "meaning", "returns")) > 0.1 * total

    from workbench.data.models import tokenizer

    pairs = [(example["question"], example["context"]) for example in sides["dev"]]
    lengths = sorted(len(ids) for ids in tokenizer("minilm-l6")(*map(list, zip(*pairs, strict=True)))["input_ids"])
    assert lengths[len(lengths) // 2] < 110
    assert lengths[int(0.999 * len(lengths))] <= 160
