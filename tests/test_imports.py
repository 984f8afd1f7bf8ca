"""Results that others published: read, priced, and never written twice."""

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import prices
from workbench.errors import DataError, EnvironmentFault, UsageError
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.imports import peft_comparison
from workbench.imports.fields import Fields
from workbench.ledger import ImportedLedger, Ledger, default_url
from workbench.result import Result, by_run, cost, spent_usd

REAL = os.environ.get("WORKBENCH_DATA")
REAL_FOLDER = Path(REAL or "") / "peft_results" / "MetaMathQA"
real_data = pytest.mark.skipif(
    not REAL or not REAL_FOLDER.is_dir(), reason="WORKBENCH_DATA names no folder that holds peft_results/MetaMathQA"
)

RECORD = {
    "run_info": {
        "created_at": "2026-07-15T07:00:00+00:00",
        "total_time": 130.0,
        "experiment_name": "lora/tiny-rank8",
        "peft_branch": "main",
        "train_config": {
            "model_id": "maker/tiny",
            "dtype": "bfloat16",
            "max_steps": 50,
            "batch_size": 4,
            "seed": 3,
            "optimizer_type": "AdamW",
            "optimizer_kwargs": {"lr": 2e-4, "weight_decay": 0.1},
        },
        "peft_config": {"peft_type": "LORA", "peft_version": "0.19", "r": 8, "use_rslora": True, "target_modules": ["q", "v"]},
        "error_msg": "",
    },
    "train_info": {
        "train_time": 100.0,
        "accelerator_memory_max": 5_000_000_000,
        "num_trainable_params": 4096,
        "status": "success",
        "metrics": [
            {"step": 25, "valid accuracy": 0.25, "train loss": 1.5, "train samples": 100, "eval time": 10.0},
            {"step": 50, "valid accuracy": 0.5, "train loss": 1.25, "train samples": 200, "eval time": 15.0},
            {"step": 50, "test accuracy": 0.4, "train loss": 1.25, "train samples": 200, "train total tokens": 9000},
        ],
    },
    "meta_info": {
        "model_info": {"sha": "abc"},
        "dataset_info": {"metamath": {"sha": "def"}, "gsm8k": None},
        "package_info": {"peft-version": "0.19.2", "peft-commit-hash": "fed", "torch-version": "2.13", "torch-commit-hash": None},
        "system_info": {"system": "Linux", "accelerator": "NVIDIA L40S"},
    },
}
"""A result file as PEFT writes it, without what nobody reads; its figures are made up."""

RUNS = {
    "slow-good": (300.0, 0.6),
    "quick-poor": (100.0, 0.2),
    "middle": (200.0, 0.5),
    "middle-worse": (200.0, 0.45),
    "slow-poor": (350.0, 0.1),
    "nothing-learnt": (90.0, 0.0),
}
FRONT = ["nothing-learnt", "quick-poor", "middle", "slow-good"]


def record(**places):
    """The record with other values: `train_info__status="failed"`; a value of None removes the entry."""
    made = copy.deepcopy(RECORD)
    for path, value in places.items():
        *way, last = path.split("__")
        place = made
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return made


def run(name, seconds, accuracy, **places):
    metrics = RECORD["train_info"]["metrics"]
    figures = {
        "run_info__experiment_name": name,
        "run_info__total_time": seconds + 30,
        "train_info__train_time": seconds,
        "train_info__metrics": [*metrics[:-1], {**metrics[-1], "test accuracy": accuracy}],
    }
    return record(**figures | places)


@pytest.fixture
def folder(tmp_path):
    """The task's folder with six runs that are done, and four quick ones that have no metric."""
    results = tmp_path / "MetaMathQA" / "results"
    results.mkdir(parents=True)
    (tmp_path / "MetaMathQA" / "default_training_params.json").write_text("{}")
    (results / ".gitkeep").write_text("")
    untested = RECORD["train_info"]["metrics"][:-1]
    files = {name: run(name, *figures) for name, figures in RUNS.items()} | {
        "memory": run(
            "memory", 1.0, 0.99, train_info__status="canceled", run_info__error_msg="CUDA out of memory.\nTried to allocate 2 GiB"
        ),
        "stopped": run("stopped", 1.0, 0.99, train_info__status="canceled", run_info__error_msg="manually canceled"),
        "untested": run("untested", 1.0, 0.99, train_info__metrics=untested),
        "no-number": run("no-number", 1.0, float("nan")),
    }
    for name, content in files.items():
        (results / f"{name}.json").write_text(json.dumps(content))
    return tmp_path / "MetaMathQA"


@pytest.fixture
def url(tmp_path):
    return default_url(tmp_path)


def imported(folder, url):
    """The ledger after an import, and what was new in it."""
    found = peft_comparison.read(folder)
    ledger = ImportedLedger.open_imported(found.name, found.description, url)
    return ledger, ledger.add(found.results)


def experiment(result):
    return result.settings[f"{result.method}.experiment"]


def front(ledger, platform=None):
    description = ledger.description
    view = View.of(description, prices.find(platform or description["platform"]), description["label_usd"])
    return [experiment(r) for r in pareto_front(ledger.results(), view)]


def test_a_file_becomes_a_result_with_all_that_it_tells(folder):
    for path in (folder / "results").glob("*.json"):
        path.unlink()
    (folder / "results" / "one.json").write_text(json.dumps(RECORD))
    (one,) = peft_comparison.read(folder).results
    assert (one.status, one.reason, one.method, one.model, one.seed, one.epochs) == ("complete", "", "lora", "maker/tiny", 3, 1.0)
    assert one.scores == {"accuracy": 40.0, "dev_accuracy": 50.0, "train_loss": 1.25}
    assert (one.labels, one.step, one.examples, one.tokens, one.trainable_parameters) == (200, 50, 200, 9000, 4096)
    assert one.settings == {"method": "lora", "lora.experiment": "lora/tiny-rank8", "lora.learning_rate": 2e-4, "lora.r": 8}
    assert one.recipe["method"]["settings"] == {"r": 8, "use_rslora": True, "target_modules": ["q", "v"]}
    assert one.recipe["task"] == {
        "type": "peft-comparison",
        "data": "MetaMathQA",
        "train": 200,
        "revisions": {"metamath": "def", "gsm8k": None},
    }
    train = one.usage["train"]
    assert (train.seconds, train.gpu_seconds, train.gpu_peak_memory_bytes) == (100.0, 100.0, 5_000_000_000)
    assert (train.cpu_seconds, train.cpu_energy_j, train.gpu_board_energy_j, train.peak_memory_bytes) == (None,) * 4
    assert (train.work.steps, train.work.examples, train.work.tokens, train.work.flops) == (50, 200, 9000, None)
    assert "train_time" in train.sources["seconds"]
    assert {phase: usage.seconds for phase, usage in one.spent.items()} == {"train": 100.0, "evaluate": 25.0, "load": 5.0}
    assert one.finished - one.started == one.consumed.seconds == 130.0
    assert one.started == 1784098800.0  # 2026-07-15 07:00 UTC
    assert one.provenance["versions"] == {"peft": "0.19.2", "torch": "2.13"}
    assert one.provenance["device"]["gpus"] == [{"name": "NVIDIA L40S"}]
    assert one.provenance["file"] == "one.json"
    assert len(one.provenance["sha256"]) == 64
    assert Result.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_full_tuning_and_files_of_older_forms_are_read(folder):
    older = record(
        run_info__peft_config=None,
        run_info__error_msg=None,
        train_info__accelerator_memory_max=None,
        train_info__cuda_memory_max=7,
        train_info__num_trainable_params=None,
        meta_info__system_info={"gpu": "NVIDIA L40S"},
    )
    (folder / "results" / "older.json").write_text(json.dumps(older), encoding="utf-8-sig")
    found = next(r for r in peft_comparison.read(folder).results if r.provenance["file"] == "older.json")
    assert (found.method, found.trainable_parameters, found.cold.gpu_peak_memory_bytes) == ("full", None, 7)
    assert found.recipe["method"]["settings"] == {}


def test_what_training_found_out_is_no_setting_of_adalora(folder):
    config = {"peft_type": "ADALORA", "r": 8, "rank_pattern": {"layer": [True]}}
    (folder / "results" / "ada.json").write_text(json.dumps(record(run_info__peft_config=config)))
    found = next(r for r in peft_comparison.read(folder).results if r.provenance["file"] == "ada.json")
    assert found.recipe["method"]["settings"] == {"r": 8}


def test_the_front_is_of_training_time_and_accuracy_and_holds_no_run_without_a_metric(folder, url):
    ledger, new = imported(folder, url)
    assert len(new) == len(ledger.results()) == 10
    assert front(ledger) == FRONT
    state = {experiment(r): (r.status, r.reason) for r in ledger.results() if r.status != "complete"}
    assert state == {
        "memory": ("infeasible", "out_of_memory: CUDA out of memory. Tried to allocate 2 GiB"),
        "stopped": ("interrupted", "canceled: manually canceled"),
        "untested": ("interrupted", "success: the file has no test accuracy"),
        "no-number": ("interrupted", "success: the file has no test accuracy"),
    }
    assert not any(r.scores or r.usage for r in ledger.results() if r.status != "complete")
    assert all(r.consumed.seconds == r.finished - r.started for r in ledger.results())  # what failed was paid for too


def test_cost_is_seconds_at_the_price_of_any_offer(folder, url):
    ledger, _ = imported(folder, url)
    middle = next(r for r in ledger.results() if experiment(r) == "middle")
    for platform in ("aws:g6e.xlarge", "nebius:gpu-l40s-a_1gpu-8vcpu-32gb", "vast:1x-L40S-32-65536"):
        offer = prices.find(platform)
        assert offer.gpu == "L40S"
        assert cost(middle, "usd", offer, 0.0) == pytest.approx(200 / 3600 * float(offer.usd_per_hour))
        assert front(ledger, platform) == FRONT
    offer = prices.find("aws:g6e.xlarge")
    everything = sum(seconds + 30 for seconds, _ in RUNS.values()) + 4 * 31  # the whole of each process, failed ones too
    assert spent_usd(ledger.results(), offer, 0.0) == pytest.approx(everything / 3600 * float(offer.usd_per_hour))


def test_importing_again_adds_what_is_new_or_changed_and_nothing_else(folder, url):
    first, _ = imported(folder, url)
    before = [r.to_json() for r in first.results()]
    again, new = imported(folder / "results", url)
    assert new == []
    assert [r.to_json() for r in again.results()] == before
    (folder / "results" / "new.json").write_text(json.dumps(run("new", 10.0, 0.7)))
    (folder / "results" / "middle.json").write_text(json.dumps(run("middle", 199.0, 0.5)))
    (folder / "results" / "copy.json").write_bytes((folder / "results" / "new.json").read_bytes())
    ledger, new = imported(folder, url)
    assert sorted(map(experiment, new)) == ["middle", "new"]
    assert [r.to_json() for r in ledger.results()][: len(before)] == before
    numbers = [r.number for r in ledger.results()]
    assert numbers == [r.trial for r in ledger.results()] == list(range(12))
    assert Ledger.names(url) == [ledger.name]
    assert len(by_run(ledger.results())) == 12


def test_a_study_of_another_name_is_another_study(folder, url):
    one = peft_comparison.read(folder)
    other = peft_comparison.read(folder, name="mine", platform="vast:1x-L40S-32-65536")
    for found in (one, other):
        assert len(ImportedLedger.open_imported(found.name, found.description, url).add(found.results)) == 10
    assert Ledger.find("mine", url).description["platform"].startswith("vast:")
    assert Ledger.find("peft-comparison", url).description["platform"].startswith("aws:g6e.xlarge")


BROKEN = {
    "no JSON": ("{", r"broken\.json is no JSON: .* line 1 column 2"),
    "no text": (b"\xff\xfe\x00{", r"broken\.json is no JSON"),
    "empty": ("", r"broken\.json is no JSON: .* line 1 column 1"),
    "deep": ("[" * 100_000, r"broken\.json is no JSON"),
    "a list": ("[]", r"broken\.json is not a result .* its content is no JSON object"),
    "another kind": ("{}", r"broken\.json is not a result .* meta_info\.dataset_info is missing"),
    "another task": (
        record(meta_info__dataset_info={"cats": {"sha": "1"}}),
        r"dataset_info\.metamath is missing: only .*MetaMathQA",
    ),
    "no time": (record(train_info__train_time=None), r"train_info\.train_time is missing"),
    "time as text": (record(train_info__train_time="1 h"), r"train_info\.train_time is no number, at least 0: '1 h'"),
    "time below 0": (record(train_info__train_time=-1.0), r"train_info\.train_time is no number, at least 0: -1\.0"),
    "time unknown": (record(train_info__train_time=float("nan")), r"train_info\.train_time is no number"),
    "time without end": (record(train_info__train_time=10**400), r"train_info\.train_time is no number, at least 0: 1000"),
    "yes as time": (record(train_info__train_time=True), r"train_info\.train_time is no number"),
    "percent": (run("x", 1.0, 45.0), r"train_info\.metrics\[2\]\.test accuracy is no number from 0 to 1: 45\.0"),
    "metrics": (record(train_info__metrics={}), r"train_info\.metrics is no list"),
    "a metric": (record(train_info__metrics=[1]), r"train_info\.metrics\[0\] is no JSON object"),
    "half a step": (record(train_info__metrics=[{"step": 0.5}]), r"metrics\[0\]\.step is no whole number: 0\.5"),
    "when": (record(run_info__created_at="yesterday"), r"run_info\.created_at is no time: 'yesterday'"),
    "no rate": (record(run_info__train_config__optimizer_kwargs={}), r"train_config\.optimizer_kwargs\.lr is missing"),
    "settings": (record(run_info__peft_config=[1]), r"run_info\.peft_config\.peft_type is missing"),
    "name": (record(run_info__experiment_name=7), r"run_info\.experiment_name is no text: 7"),
}


@pytest.mark.parametrize("content, message", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named_with_the_place_before_anything_is_written(folder, url, content, message):
    data = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else json.dumps(content).encode()
    (folder / "results" / "broken.json").write_bytes(data)
    with pytest.raises(DataError, match=message):
        imported(folder, url)
    assert not Path(url.removeprefix("sqlite:///")).exists()


def test_folders_that_hold_no_results_are_told(folder, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        peft_comparison.read(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is a file"):
        peft_comparison.read(folder / "results" / "middle.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds no \.json file"):
        peft_comparison.read(tmp_path / "empty")


@pytest.mark.parametrize("name", ["", "a b", "../x", "study.py", "-x", "draft of x"])
def test_a_name_that_no_command_could_ask_for_is_refused(folder, name):
    with pytest.raises(UsageError, match="--name"):
        peft_comparison.read(folder, name=name)


def test_another_gpu_needs_a_price_of_its_own(folder):
    (folder / "results" / "other.json").write_text(json.dumps(record(meta_info__system_info={"accelerator": "NVIDIA H100"})))
    with pytest.raises(UsageError, match=r"made on NVIDIA H100, NVIDIA L40S, .* --platform"):
        peft_comparison.read(folder)
    with pytest.raises(UsageError, match=r"made on NVIDIA H100, and 'vast:1x-L40S"):
        peft_comparison.read(folder, platform="vast:1x-L40S-32-65536")
    (folder / "results" / "other.json").unlink()
    with pytest.raises(UsageError, match=r"made on NVIDIA L40S, and 'vast:1x-RTX_3090"):
        peft_comparison.read(folder, platform="vast")
    assert len(peft_comparison.read(folder, platform="vast:1x-L40S-32-65536").results) == 10
    with pytest.raises(UsageError, match="no offer is called 'nowhere'"):
        peft_comparison.read(folder, platform="nowhere")


plain = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(plain, st.sampled_from(["a", "b", "a.b", "a.b.c"]))
def test_whatever_stands_in_a_file_is_read_or_refused(content, path):
    try:
        fields = Fields("file", content, "a thing")
    except DataError:
        assert not isinstance(content, dict)
        return
    readings = [fields.text, fields.number, fields.count, fields.objects, fields.inside, fields.measured]
    for read in [*readings, lambda path: fields.count_or(path, None), lambda path: fields.text_or(path, "")]:
        refusal, value = "", None
        try:
            value = read(path)
        except DataError as error:
            refusal = str(error)
        assert not refusal or path in refusal
        assert not isinstance(value, float) or math.isfinite(value)


def test_every_reader_works_on_an_imported_study(folder, command, tmp_path):
    code, out, err = command("import", "peft-comparison", folder, "--name", "theirs")
    assert (code, out) == (0, "")
    assert "10 runs read, 6 of them complete; 10 new in the study theirs-" in err
    code, out, err = command("import", "peft-comparison", folder / "results", "--name", "theirs")
    assert "; 0 new in" in err
    code, out, _ = command("front", "theirs")
    assert code == 0
    rows = out.splitlines()
    assert [name for row in rows[1:5] for name in RUNS if f"experiment={name}," in row] == FRONT
    assert "The best is lora (experiment=slow-good, lr=2e-4, r=8) on maker/tiny, 200 labels, 1 epoch: accuracy 60.0" in out
    code, out, _ = command("front", "theirs", "--json", "--platform", "vast:1x-L40S-32-65536", "--html", "front.html")
    printed = json.loads(out)
    assert code == 0
    assert [p["usd"] for p in printed["points"] if p["on_front"]] == pytest.approx(
        [p["seconds"] / 3600 * 0.6 for p in printed["points"] if p["on_front"]]
    )
    assert "slow-good" in (tmp_path / "front.html").read_text(encoding="utf-8")
    code, out, _ = command("runs", "theirs")
    assert code == 0
    assert all(f"experiment={name}," in out for name in [*RUNS, "memory", "stopped"])
    assert "infeasible (out_of_memory)" in out
    entries = json.loads(command("runs", "theirs", "--json")[1])
    assert [e["trial"] for e in entries] == list(range(10))
    trial = next(e["trial"] for e in entries if e["scores"].get("accuracy") == 60.0)
    code, out, _ = command("run", trial, "--study", "theirs")
    assert code == 0
    assert "experiment=slow-good" in out
    assert "unknown: not measured by the huggingface/peft method comparison" in out
    assert (
        json.loads(command("run", trial, "--study", "theirs", "--json")[1])["results"][0]["provenance"]["file"] == "slow-good.json"
    )
    stopped = next(e["trial"] for e in entries if e["reason"].endswith("manually canceled"))
    assert "interrupted: canceled: manually canceled" in command("run", stopped)[1]


def test_bad_input_ends_with_one_sentence_and_no_ledger(folder, command, tmp_path):
    (folder / "results" / "broken.json").write_text("{")
    for words, said in {
        ("import", "peft-comparison", "nowhere"): "nowhere does not exist",
        ("import", "peft-comparison", str(folder)): "broken.json is no JSON",
        ("import", "elsewhere", str(folder)): "'elsewhere' is not 'peft-comparison'",
        ("import",): "Missing argument",
        ("import", "peft-comparison", str(folder), "--storage", "no url"): "is not a database URL",
    }.items():
        code, out, err = command(*words)
        assert (code, out) == (2, "")
        assert said in err
    assert not (tmp_path / "optuna.db").exists()


def test_a_store_that_cannot_be_written_is_the_environments_fault(folder, tmp_path):
    (tmp_path / "optuna.db").write_text("something else " * 100)
    with pytest.raises(EnvironmentFault, match="not a database"):
        imported(folder, default_url(tmp_path))


@pytest.mark.slow
def test_two_imports_at_once_write_each_run_once(folder, url, tmp_path):
    script = Path(sys.executable).with_name("workbench")
    words = [script, "import", "peft-comparison", folder]
    both = [subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(Ledger.find(None, url).results()) == 10


@pytest.mark.slow
@real_data
def test_the_front_of_the_real_comparison_is_the_published_one(url):
    ledger, new = imported(REAL_FOLDER, url)
    assert len(new) == 63
    published = [
        "prefixtuning/llama-3.2-3B-tokens50-init_prefix-lr_0.005",
        "miss/llama-3.2-3B-default",
        "lora/llama-3.2-3B-rank64-rslora",
        "lily/llama-3.2-3B-rank140-mlp-a2-b2-s8.0",
    ]
    assert front(ledger) == published
    # Direct on the same GPU, scaled on another; a desktop without one tells nothing.
    for platform in ("nebius:gpu-l40s-a_1gpu-8vcpu-32gb", "crusoe:l40s-48gb (per GPU)", "lambda:gpu_1x_h100_pcie"):
        assert front(ledger, platform) == published
    assert front(ledger, "local") == []
    assert imported(REAL_FOLDER / "results", url)[1] == []


@real_data
def test_the_front_of_the_real_comparison_is_what_the_files_say(url):
    """By the definition, on the files themselves; their app rounds train_time to seconds, which changes nothing here."""
    ledger, _ = imported(REAL_FOLDER, url)
    files = [json.loads(path.read_bytes()) for path in sorted((REAL_FOLDER / "results").glob("*.json"))]
    for rounded in (lambda seconds: seconds, round):
        points = [
            (
                rounded(f["train_info"]["train_time"]),
                -f["train_info"]["metrics"][-1]["test accuracy"],
                f["run_info"]["experiment_name"],
            )
            for f in files
            if f["train_info"]["status"] == "success"
        ]
        members = [p for p in points if not any(q[:2] != p[:2] and q[0] <= p[0] and q[1] <= p[1] for q in points)]
        assert front(ledger) == [name for _, _, name in sorted(members)]
