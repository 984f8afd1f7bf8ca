"""Built-in models whose weights are drawn, and the images and sounds that they are for."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench import Recipe, full, head
from workbench.data import drawn, fingerprints, media, models, vowels
from workbench.data.builtin import MODELS
from workbench.errors import EnvironmentFault
from workbench.study import load
from workbench.tasks import audio_classification, image_classification
from workbench.training import train

pytest.importorskip("torch")
STUDIES = Path(__file__).parents[1] / "studies"


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_weights_are_drawn_the_same_each_time_and_by_no_seed_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    made = []
    for name in ("one", "two"):
        monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / name))
        torch.manual_seed(len(made))
        before = torch.get_rng_state()
        made.append(weights(drawn.folder("ast")))
        assert torch.equal(before, torch.get_rng_state())
        assert [each.name[:3] for each in (tmp_path / name / "models").iterdir()] == ["ast"]  # no draft is left
    assert made[0] == made[1]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(EnvironmentFault, match=r"cannot keep a built-in model in .*set WORKBENCH_CACHE"):
        drawn.folder("ast")


@pytest.mark.parametrize("architecture", drawn.SHAPES)
def test_a_model_is_drawn_without_a_word(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    drawn.folder(architecture)
    assert capfd.readouterr() == ("", "")


def test_kinds_and_fingerprints_of_drawn_models() -> None:
    names = [name for name in MODELS if name.endswith("-scratch")]
    assert {name: models.kind(name) for name in names} == {
        "vit-scratch": "vision",
        "convnext-scratch": "vision",
        "ast-scratch": "audio",
    }
    for name in names:
        assert fingerprints.model(name).startswith(f"drawn {drawn.REVISION} by transformers ")


@pytest.mark.parametrize("model, least", [("convnext-scratch", 25), ("vit-scratch", 15), ("ast-scratch", 50)])
def test_a_head_reads_what_drawn_weights_show(model: str, least: float) -> None:
    if model == "ast-scratch":
        of: Any = audio_classification("vowels", train=256, dev=100, max_seconds=0.6)
    else:
        of = image_classification("digits", train=256, dev=100)
    *_, found = train(Recipe(task=of, model=model, method=head(learning_rate=5e-2), epochs=4, batch_size=16))
    assert found.scores["accuracy"] > least  # by chance 10


def test_a_drawn_model_learns_from_scratch() -> None:
    of = image_classification("digits", train=160, dev=100)
    method = full(learning_rate=3e-3, head_learning_rate=3e-2)
    *_, found = train(Recipe(task=of, model="convnext-scratch", method=method, epochs=4, batch_size=8))
    assert found.scores["accuracy"] > 25


def test_vowels_ring_where_they_were_measured() -> None:
    sides = vowels.load()
    assert {side: len(examples) for side, examples in sides.items()} == {"train": 2400, "dev": 300, "test": 300}
    assert {each["labels"][0] for each in sides["test"]} == {*vowels.FORMANTS}
    samples, rate = media.read("sound", "vowels", sides["train"][0])
    assert (samples.dtype, samples.shape, rate) == (np.float32, (round(vowels.SECONDS * vowels.RATE),), vowels.RATE)
    assert 0.01 < np.abs(samples).max() <= 1
    same, _ = vowels.said(sides["train"][0]["vowel"])
    assert np.array_equal(samples, same)
    spectra: dict[str, list[Any]] = {"heed": [], "hod": []}
    for each in sides["train"]:
        if each["labels"][0] in spectra and len(spectra[each["labels"][0]]) < 40:
            sound = vowels.said(each["vowel"])[0]
            spectra[each["labels"][0]].append(np.abs(np.fft.rfft(sound)) / np.linalg.norm(sound))
    hertz = np.fft.rfftfreq(len(samples), 1 / rate)

    def energy(word: str, low: int, high: int) -> float:
        return float((np.mean(spectra[word], axis=0)[(hertz > low) & (hertz < high)] ** 2).sum())

    # The second resonance of "heed" is at 2,290 Hz and more, that of "hod" at 1,090.
    assert energy("heed", 2100, 2900) > 1.3 * energy("hod", 2100, 2900)
    assert energy("hod", 650, 1400) > 1.3 * energy("heed", 650, 1400)


def test_a_vowel_can_be_sent_to_a_model_that_is_deployed() -> None:
    pytest.importorskip("soundfile")
    of = audio_classification("vowels", train=8, dev=4, max_seconds=0.6)
    example = of.splits().dev[0]
    sent = of.example(of.question(example))
    heard, rate = media.read("sound", "vowels", sent)
    samples, _ = vowels.said(example["vowel"])
    assert rate == vowels.RATE
    np.testing.assert_allclose(heard, samples, atol=2 / 32767)
    assert sent["seconds"] == vowels.SECONDS


@pytest.mark.parametrize("name", ["images", "speech", "recommend"])
def test_the_studies_load_and_take_data_by_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(STUDIES / f"{name}.py").recipe.task.data in ("digits", "vowels", "pycalls")
    monkeypatch.setenv(name.upper(), "somewhere")
    assert load(STUDIES / f"{name}.py").recipe.task.data == "somewhere"
