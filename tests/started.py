"""What tests of models that start from others share: a tiny encoder that can tell hidden tokens, and a corpus of its words."""

import random
import shutil
from pathlib import Path

from workbench import Recipe, Study, full, prices
from workbench.data import bases, fingerprints
from workbench.ledger import Ledger, default_url
from workbench.sweep import Job, Limits, Observer, sweep
from workbench.testing import FakeMeter, TinyTask

OFFER = prices.find(prices.DEFAULT)


def masked_model(tiny: str, folder: Path) -> str:
    """The tiny encoder, with a token for what is hidden."""
    from transformers import AutoTokenizer

    shutil.copytree(tiny, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.mask_token = "w4"
    tokenizer.save_pretrained(folder)
    return str(folder)


def corpus(file: Path, texts: int = 120) -> str:
    """Texts in which each word says which comes next."""
    rng = random.Random(0)
    starts = [(rng.randrange(10, 50), rng.randrange(6, 28)) for _ in range(texts)]
    file.write_text("\n\n".join(" ".join(f"w{10 + (at + 3 * j) % 50}" for j in range(words)) for at, words in starts))
    return str(file)


def fresh(monkeypatch, cache: Path) -> None:
    """A cache in which nothing is, and nothing that this process remembers of another one."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(cache))
    fingerprints.look_again()
    bases.forget()


def child(model, **changes) -> Recipe:
    """A recipe that takes a moment."""
    known = {"task": TinyTask(train=16, dev=8), "method": full(learning_rate=1e-3), "epochs": 1, "batch_size": 8}
    return Recipe(model=model, **known | changes)


class Quiet:
    """A notebook in which nothing is written."""

    def __getattr__(self, name):
        return lambda *arguments, **named: None


def swept(folder: Path, of: Study, limits: Limits, sampler: str = "optuna:TPESampler", **options):
    """All Results of a sweep, and how it ended."""
    ledger = Ledger.open(of, default_url(folder))
    job = Job(study=of, ledger=ledger, notebook=Quiet(), offer=OFFER, label_usd=0.0, limits=limits, folder=folder / "states",
              observer=Observer(), meter=FakeMeter(), **options)  # fmt: skip
    done = sweep(job, sampler=sampler)
    return ledger.results(), done
