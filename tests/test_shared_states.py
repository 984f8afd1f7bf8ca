"""Files that machines share, and a sweep that goes on on another machine."""

import functools
import json
import os
import signal
import threading
from dataclasses import replace
from decimal import Decimal

import fsspec
import pytest
import started
from test_sweep import OFFER, WHOLE, Bench, finite, interrupt_at

from workbench import masked_lm, prices, process, training
from workbench.errors import EnvironmentFault, UsageError
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.result import UsagePart, offer_record, spending
from workbench.sweep import interruptions, runner
from workbench.sweep.checkpoint_store import CheckpointStore
from workbench.testing import FakeMeter
from workbench.training import SharedFiles, parents, shared_files, shared_parents
from workbench.training.tuning import Tuning
from workbench.usage import add_phases


@pytest.fixture(params=["file", "memory"])
def address(request, tmp_path):
    """Of an empty folder: on a disk, and in a store that has no rename."""
    yield f"file://{tmp_path / 'shared'}" if request.param == "file" else f"memory://{tmp_path.name}"
    if request.param == "memory":
        fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def file(folder, content, name="mine.safetensors"):
    path = folder / name
    path.write_bytes(content)
    return path


def test_what_is_written_is_read_on_another_machine_and_the_newest_counts(address, tmp_path):
    shared = SharedFiles(address)
    assert (shared.record("states/a"), shared.names("states"), shared.fetch("states/a", tmp_path / "x")) == (None, set(), False)
    shared.write("states/a", file(tmp_path, b"one"), {"step": 1})
    shared.write("states/b", file(tmp_path, b"other"))
    shared.write("states/a", file(tmp_path, b"three"), {"step": 3})
    other = SharedFiles(address)
    assert other.names("states") == {"a", "b"}
    assert other.record("states/a")["step"] == 3
    assert other.fetch("states/a", tmp_path / "deep" / "got.safetensors")
    assert (tmp_path / "deep" / "got.safetensors").read_bytes() == b"three"
    fs, root = fsspec.core.url_to_fs(address)
    assert len(fs.ls(f"{root}/states")) == 4, "the file before is gone"
    assert other.drop("states/a")
    assert not other.drop("states/a")
    assert other.names("states") == {"b"}
    assert len(fs.ls(f"{root}/states")) == 2


def test_what_is_not_what_its_record_says_is_not_taken(address, tmp_path):
    shared = SharedFiles(address)
    shared.write("states/a", file(tmp_path, b"whole"))
    fs, root = fsspec.core.url_to_fs(address)
    content = f"{root}/states/{shared.record('states/a')['file']}"
    fs.pipe_file(content, b"whol")
    assert not shared.fetch("states/a", tmp_path / "got")
    assert not list(tmp_path.glob("got*"))
    fs.rm_file(content)
    assert not shared.fetch("states/a", tmp_path / "got")
    fs.pipe_file(f"{root}/states/a.json", b'{"file": "a.')  # its writer was killed, where that is not atomic
    assert shared.record("states/a") is None
    shared.write("states/a", file(tmp_path, b"again"))
    assert shared.fetch("states/a", tmp_path / "got")


def test_a_reader_that_meets_a_newer_file_between_record_and_file_takes_that(address, tmp_path, monkeypatch):
    shared, seen = SharedFiles(address), []
    shared.write("states/a", file(tmp_path, b"old"), {"step": 1})
    record = SharedFiles.record

    def overtaken(self, name):
        known = record(self, name)
        if not seen:
            seen.append(known)
            monkeypatch.setattr(SharedFiles, "record", record)
            SharedFiles(address).write("states/a", file(tmp_path, b"new"), {"step": 2})
        return known

    monkeypatch.setattr(SharedFiles, "record", overtaken)
    assert shared.fetch("states/a", tmp_path / "got")
    assert (seen[0]["step"], (tmp_path / "got").read_bytes()) == (1, b"new")


def test_the_oldest_go_and_so_does_what_a_kill_has_left(address, tmp_path, monkeypatch):
    shared = SharedFiles(address, most_bytes=1000)
    fs, root = fsspec.core.url_to_fs(address)
    for name in "abc":
        shared.write(f"states/{name}", file(tmp_path, name.encode() * 400))
    assert "c" in shared.names("states")
    assert "a" not in shared.names("states")
    fs.pipe_file(f"{root}/states/z.0123456789abcdef.safetensors", b"never pointed to")
    shared.write("states/d", file(tmp_path, b"d"))
    assert fs.exists(f"{root}/states/z.0123456789abcdef.safetensors"), "its record may be about to come"
    monkeypatch.setattr(shared_files, "ORPHAN_SECONDS", -1.0)
    shared.write("states/e", file(tmp_path, b"e"))
    assert not fs.exists(f"{root}/states/z.0123456789abcdef.safetensors")
    assert shared.fetch("states/e", tmp_path / "got")
    assert shared.fetch("states/d", tmp_path / "got")


@pytest.mark.parametrize("address", ["/shared/folder", "nosuch://x", "s3:bucket", ""])
def test_no_address_is_refused_in_words(address):
    with pytest.raises(UsageError, match="no address of files that machines share"):
        SharedFiles(address)


def test_a_package_that_lacks_is_named_and_a_password_is_not(monkeypatch):
    def missing(address):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(EnvironmentFault, match="Install s3fs") as said:
        SharedFiles("s3://key:secret@bucket/x")
    assert "secret" not in str(said.value)


class Away:
    """Shared files whose network is gone."""

    shown = "s3://bucket"

    def __getattr__(self, name):
        def fails(*arguments):
            raise OSError("no route to host")

        return fails


def test_a_store_that_is_away_ends_nothing_and_is_told_of(tmp_path):
    import torch

    notes = []
    store = CheckpointStore(tmp_path, notes.append, Away())
    state = training.ResumeState("run", 1.0, 4, 0, {}, {"w": torch.ones(2)})
    store.save_state(state)
    assert store.state("run").step == 4, "it is on this machine all the same"
    assert store.kept() == {"run"}
    assert store.weights("point") is None
    assert len(notes) == 4
    assert all("no route to host" in note for note in notes)


# A machine each


class Machine(Bench):
    """A machine of a sweep: a folder of its own, and the one database and address that all share."""

    def __init__(self, study_file, root, name, shared=None):
        super().__init__(study_file, root)
        self.name, self._shared = name, shared

    @property
    def states(self):
        return self.folder / self.name / "states"

    def job(self, limits, **options):
        shared = SharedFiles(f"{self._shared}/{self.study.name}") if self._shared else None
        return super().job(limits, states=shared, **options)

    def work(self, monkeypatch, limits=None, **options):
        with monkeypatch.context() as patch:
            patch.setattr(process, "host", lambda: f"{self.name}/boot/ns")
            return self.sweep(limits, sampler=WHOLE, **options)


def scores(results):
    return [(r.recipe_id, r.epochs, dict(r.scores)) for r in results if r.status == "complete"]


@pytest.mark.slow
@pytest.mark.parametrize("share", [True, False])
def test_a_sweep_begun_on_one_machine_goes_on_on_another_bit_for_bit(study_file, tmp_path, monkeypatch, share):
    shared = f"file://{tmp_path / 'shared'}" if share else None
    finite(Bench(study_file, tmp_path), "full(learning_rate=1e-3)", "4")
    one, two = (Machine(study_file, tmp_path, name, shared) for name in ("one", "two"))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, signal.SIGTERM)
        assert one.work(monkeypatch).interrupted
    resumed, train = [], training.train
    monkeypatch.setattr(
        training, "train", lambda recipe, resume, **kw: resumed.append(resume and resume.epochs) or train(recipe, resume, **kw)
    )
    after = two.work(monkeypatch).results
    assert resumed == [1.0 if share else None]
    assert [r.status for r in after] == ["complete", "interrupted", "complete", "complete"]
    (tmp_path / "straight").mkdir()
    straight = Bench(study_file, tmp_path / "straight").sweep(sampler=WHOLE).results
    assert scores(after) == scores(straight)
    anew = after[2].spent["train"].work.steps >= after[2].usage["train"].work.steps
    assert anew != share, "without its state the first stretch is paid for again"
    if share:
        assert not any("could not" in note for note in two.ear.notes)
        kept = [json.loads(p.read_text()) for p in (tmp_path / "shared").rglob("states/*.json")]
        assert [each["epochs"] for each in kept] == [4]
        points = {p.stem for p in (tmp_path / "shared").rglob("weights/*.json")}
        assert points == {r.recipe_id for r in pareto_front(after, View.of(two.ledger.description, OFFER, 0.0))}
        store = CheckpointStore(two.states, lambda text: None, SharedFiles(f"{shared}/{two.study.name}"))
        assert all(store.weights(point) for point in points), "whichever machine made them"


def test_a_run_whose_state_is_on_another_machine_is_not_at_hand(tmp_path):
    import torch

    address = f"file://{tmp_path / 'shared'}"
    state = training.ResumeState("run", 1.0, 4, 0, {}, {"w": torch.ones(2)})
    store = lambda name, shared: CheckpointStore(tmp_path / name, lambda text: None, shared)  # noqa: E731
    store("one", None).save_state(state)
    assert (store("one", None).kept(), store("two", None).kept()) == ({"run"}, set())
    store("one", SharedFiles(address)).save_state(state)
    two = store("two", SharedFiles(address))
    assert two.kept() == {"run"}
    assert torch.equal(two.state("run").tensors["w"], state.tensors["w"])
    store("one", SharedFiles(address)).save_state(training.ResumeState("run", 2.0, 8, 0, {}, {"w": torch.zeros(2)}))
    assert two.state("run").step == 8, "the newer one, though an older one lies here"
    (tmp_path / "two" / "prefixes" / "run.safetensors").unlink()
    assert two.state("run").step == 8


@pytest.mark.slow
@pytest.mark.parametrize("by_its_cloud", [False, True])
def test_a_machine_that_is_taken_away_with_notice_loses_no_step(study_file, tmp_path, monkeypatch, by_its_cloud):
    """SIGTERM, or its cloud's word, between checkpoints: the step at hand is finished, and another machine makes the next one."""
    shared = f"file://{tmp_path / 'shared'}"
    finite(Bench(study_file, tmp_path), 'peft("lora", learning_rate=1e-3, r=2, lora_dropout=0.1)', "4")
    one, two = (Machine(study_file, tmp_path, name, shared) for name in ("one", "two"))
    made, make_step = [], Tuning.make_step

    def step(self, *arguments):
        made.append(self.step)
        if len(made) == 11:  # of 16, with checkpoints after 4, 8 and 16
            if by_its_cloud:
                taken.set()
                assert handled.wait(10.0)
            else:
                os.kill(os.getpid(), signal.SIGTERM)
        return make_step(self, *arguments)

    def notice():
        if not taken.is_set():
            raise OSError("no answer")  # as where there is none yet
        return "AWS: terminate at 10:00"

    def handling(self, *arguments):
        handle(self, *arguments)
        handled.set()

    taken, handled, handle = threading.Event(), threading.Event(), interruptions.Interruptions._handle
    monkeypatch.setattr(interruptions.Interruptions, "_handle", handling)
    monkeypatch.setattr(Tuning, "make_step", step)
    monkeypatch.setattr(runner, "notice", functools.partial(interruptions.notice, seconds=0.01))
    outcome = one.work(monkeypatch, **({"notice": notice} if by_its_cloud else {}))
    assert outcome.interrupted
    assert [(r.status, r.epochs) for r in outcome.results] == [("complete", 1), ("complete", 2), ("interrupted", 4)]
    after = two.work(monkeypatch).results
    assert made == list(range(16)), "none is made twice"
    (tmp_path / "straight").mkdir()
    straight = Bench(study_file, tmp_path / "straight").sweep(sampler=WHOLE).results
    assert scores(after) == scores(straight)
    assert after[-1].usage["train"].work == straight[-1].usage["train"].work, "a point's cost is cold"


CHEAP = prices.Offer("desk", "cpu", "", 0, "", "on_demand", Decimal("0.36"), "a test", "2026-01-01")
DEAR = prices.Offer("rack", "cpu", "", 0, "", "on_demand", Decimal("3.60"), "a test", "2026-01-01")
"""A hundredth of a cent a second, and a tenth."""


@pytest.mark.slow
def test_a_run_begun_on_one_offer_and_finished_on_another_is_paid_for_at_both(study_file, tmp_path, monkeypatch):
    shared = f"file://{tmp_path / 'shared'}"
    finite(Bench(study_file, tmp_path), "full(learning_rate=1e-3)", "4")
    one, two = (Machine(study_file, tmp_path, name, shared) for name in ("one", "two"))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, signal.SIGTERM)
        first = one.work(monkeypatch, offer=CHEAP).results
    after = two.work(monkeypatch, offer=DEAR).results
    assert [r.offer["platform"] for r in after] == ["desk", "desk", "rack", "rack"]
    began, last = after[0], after[-1]
    assert not began.elsewhere
    own, there = last.parts
    assert there.offer["platform"] == "desk"
    # All that the first checkpoint took but its evaluation, which no longer point has.
    assert there.cold.seconds == pytest.approx(began.cold.seconds - began.usage["evaluate"].seconds)
    assert own.cold.seconds + there.cold.seconds == pytest.approx(last.cold.seconds)
    paid = View.of(two.ledger.description, CHEAP, 0.0)
    paid = replace(paid, own=True)
    assert paid.cost(last, "usd") == pytest.approx(there.cold.seconds * 0.0001 + own.cold.seconds * 0.001)
    assert replace(paid, offer=DEAR).cost(last, "usd") == pytest.approx(paid.cost(last, "usd"))
    consumed = [(r.consumed.seconds, 0.0001 if r.offer["platform"] == "desk" else 0.001) for r in after]
    assert spending(after, OFFER, 0.0).usd == pytest.approx(sum(seconds * rate for seconds, rate in consumed))
    assert len(first) == 2
    # Back on the first machine: what it did is its own again.
    store = CheckpointStore(one.states, lambda text: None, SharedFiles(f"{shared}/{one.study.name}"), machine_of(CHEAP))
    assert [part.offer["platform"] for part in store.state(last.run_id).elsewhere] == ["rack"]
    state = CheckpointStore(two.states, lambda text: None, None, machine_of(DEAR)).state(last.run_id)
    assert [part.offer["platform"] for part in state.elsewhere] == ["desk"]


def machine_of(offer):
    return UsagePart(offer_record(offer))


@pytest.mark.slow
def test_a_model_that_runs_start_from_is_made_by_one_machine_and_paid_for_once(tmp_path, tiny, monkeypatch):
    address = f"file://{tmp_path / 'shared'}"
    monkeypatch.setattr(parents, "_failed", {})
    model = started.masked_model(tiny, tmp_path / "m")
    how = masked_lm(started.corpus(tmp_path / "corpus.txt"), steps=8, batch_size=8, max_length=24, learning_rate=1e-3)
    recipe, notes = started.child(model, pretrain=how), []

    def made(cache, offer):
        started.fresh(monkeypatch, tmp_path / cache)
        with shared_parents.sharing(SharedFiles(address), machine_of(offer), notes.append):
            within_reach = shared_parents.is_within_reach(recipe.parent)
            last, spent = None, {}
            for last in training.train(recipe, meter=FakeMeter()):
                spent = add_phases(spent, last.spent)
            return replace(last, spent=spent), within_reach

    one, before = made("one", CHEAP)
    two, after = made("two", DEAR)
    assert (before, after) == (False, True)
    assert one.scores == two.scores, "bit for bit the same model"
    assert (one.spent["pretrain"].work.steps, two.spent["pretrain"].work.steps) == (8, 0)
    assert two.spent["pretrain"].seconds < one.spent["pretrain"].seconds
    assert one.usage["pretrain"] == two.usage["pretrain"], "in full in the cost of each"
    assert one.elsewhere == ()
    ((part,),) = [two.elsewhere]
    assert (part.offer["platform"], part.usage["pretrain"]) == ("desk", one.usage["pretrain"])
    files = SharedFiles(address)
    (name,) = shared_parents.kept(files, [recipe.parent])
    content = tmp_path / "shared" / "parents" / files.record(name)["file"]
    content.write_bytes(content.read_bytes()[:-1000])  # half of it arrived
    three, _ = made("three", DEAR)
    assert three.spent["pretrain"].work.steps == 8, "what is not what its record says is made again"
    assert three.elsewhere == ()
    assert not notes
    assert not list((tmp_path / "two").rglob("*.tmp"))


@pytest.mark.slow
def test_shared_models_that_cannot_be_read_are_made_here(tmp_path, tiny, monkeypatch):
    model, notes = started.masked_model(tiny, tmp_path / "m"), []
    how = masked_lm(started.corpus(tmp_path / "corpus.txt"), steps=8, batch_size=8, max_length=24, learning_rate=1e-3)
    started.fresh(monkeypatch, tmp_path / "cache")
    with shared_parents.sharing(Away(), machine_of(CHEAP), notes.append):
        recipe = started.child(model, pretrain=how)
        assert not shared_parents.is_within_reach(recipe.parent)
        (*_, last) = training.train(recipe, meter=FakeMeter())
    assert last.usage["pretrain"].work.steps == 8
    assert all("no route to host" in note for note in notes)
    assert notes
