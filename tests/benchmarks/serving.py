"""What serving takes: latency, requests a second and US$ for 1,000 predictions under load on loopback, of one model in torch
(float32), in ONNX and in eight bits, beside a naive server of the same model (`naive_server.py`).

Two models are made, LoRA on minilm-l2: `opinions`, of short texts, and `questions`, of long rows. They learn for up to a minute
each, so that equal answers are more than the commonest one. Each is served in turn by `workbench.serving`, a request being one row;
clients wait for an answer before they send the next row. `answers` is the share of the dev set's rows that are answered as by the
naive server. Then, of the short texts in eight bits: the watch's cost, by pairs of seconds with and without; memory over 10,000
requests; three adapters on one base beside one; and kill -9 under load. With 60 seconds of each load it takes some 40 minutes, in
its shortest form (`--seconds 1 --pairs 2 --requests 400 --epochs 1`) some five.

    python tests/benchmarks/serving.py [--seconds 60] [--pairs 30] [--requests 10000] [--tasks opinions questions]
        [--parts load watch memory adapters killed] [--epochs N] [--out results/serving.json]
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from safetensors.torch import save_file
from servers import free_port

from workbench import Recipe, peft, prices
from workbench.serving import bundle, packaging, registry, server
from workbench.serving.evidence import Evidence
from workbench.serving.loading import same
from workbench.serving.regrading import regrade
from workbench.serving.requests import Limits
from workbench.tasks import classification, question_answering
from workbench.training import train

CONCURRENCIES = (1, 8, 64)
PARTS = ("load", "watch", "memory", "adapters", "killed")
LORA = {"learning_rate": 2e-3, "r": 8, "lora_alpha": 32, "target_modules": "all-linear"}
TASKS = {
    "opinions": lambda: classification("opinions", train=1024, dev=256, max_length=64),
    "questions": lambda: question_answering("pydocs", train=1024, dev=256),
}
EPOCHS = {"opinions": 6, "questions": 2}
HERE = Path(__file__).parent


class Made(NamedTuple):
    """A model in all forms: folders that MLflow loads, by name, and the folder of the merged one."""

    task: Any
    rows: list[dict[str, Any]]
    folders: dict[str, Path]
    merged: Path
    bundle: Path
    scores: dict[str, float]
    bytes: dict[str, int]


def made(
    folder: Path, name: str, epochs: int, seed: int = 0, forms: Sequence[str] = ("onnx", "int8"), *, merged: bool = True
) -> Made:
    """Train a model and write it in all forms."""
    task = TASKS[name]()
    recipe = Recipe(task=task, model="minilm-l2", method=peft("lora", **LORA), epochs=epochs, batch_size=8, seed=seed)
    *_, last = train(recipe)
    kept = folder / "kept.safetensors"
    save_file(last.weights(), kept)
    metric = task.metrics[0]
    known = evidence_of(recipe, metric, float(last.scores[metric]))
    bundle.write(folder / "torch-bundle", recipe, kept, None, known.to_json())
    registry.save(folder / "torch", folder / "torch-bundle", recipe)
    folders, scores = {"torch": folder / "torch"}, {"torch": known.score}
    sizes = {"torch": sum(p.stat().st_size for p in (folder / "torch-bundle").iterdir())}
    if merged:
        found = packaging.package(recipe, kept, known, folder / "merged", "merged")
        scores["naive"], sizes["naive"] = found.score, found.bytes
    for form in forms:
        file = folder / f"{form}.onnx"
        noted = packaging.export(recipe, kept, known, file, form, most=5.0)
        bundle.write(folder / f"{form}-bundle", recipe, file, None, {})
        registry.save(folder / form, folder / f"{form}-bundle", recipe)
        # As `deploy` does, so that the watch counts words too.
        known_dev = regrade(folder / form, task, metric, noted.score, 5.0)
        place = bundle.inside(folder / form) / bundle.REFERENCE
        place.write_text(json.dumps(known_dev.to_json()), encoding="utf-8")
        folders[form], scores[form], sizes[form] = folder / form, noted.score, noted.bytes
    rows = [task.question(example) for example in task.splits().dev]
    return Made(task, rows, folders, folder / "merged", folder / "torch-bundle", scores, sizes)


def evidence_of(recipe: Recipe, metric: str, score: float) -> Evidence:
    unknown: dict[str, Any] = {field.name: None for field in dataclasses.fields(Evidence)}
    words = dict.fromkeys(("study", "offer", "country", "hardware", "data", "data_digest"), "benchmark")
    known = {"recipe_id": recipe.id, "model": recipe.model, "method": "lora", "epochs": float(recipe.epochs), "labels": 1024}
    known |= {"seeds": 0, "metric": metric, "score": score, "licence_model": "unknown", "form": "torch"}
    return Evidence(**unknown | words | known)


@contextlib.contextmanager
def serving(folder: Path | Sequence[tuple[str, Path]], **options: Any) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server of ours: its port and process."""
    port = free_port()
    several = folder if isinstance(folder, Sequence) else [("model", folder)]
    served = [server.Served(name, each, {"model": name, "version": 1, "model_id": name}, None) for name, each in several]
    limits = options.pop("limits", Limits(queue=256))
    logs = options.pop("log", None)
    served = [each if logs is None else each._replace(log=logs / f"{each.name}.jsonl") for each in served]
    page = server.start(served, server.Options(port=port, limits=limits, **options))
    try:
        assert page.ready()
        yield port, page.process
    finally:
        page.process.terminate()
        page.process.wait()


@contextlib.contextmanager
def naive(of: Made) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    process = subprocess.Popen([sys.executable, str(HERE / "naive_server.py"), str(of.merged), str(of.bundle), str(port)])
    try:
        while not answers(port):
            assert process.poll() is None
            time.sleep(0.3)
        yield port, process
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Load


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> tuple[int, bytes]:
    head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    status, length = int((await reader.readline()).split()[1]), 0
    while (line := await reader.readline()) not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return status, await reader.readexactly(length)


class Load(NamedTuple):
    """What was answered: seconds of each request, and the answers' bodies in the order in which they came."""

    seconds: list[float]
    wall: float
    statuses: dict[int, int]


async def _load(port: int, bodies: Sequence[bytes], concurrency: int, seconds: float, requests: int | None) -> Load:
    taken, statuses, began, sent = list[float](), dict[int, int](), time.perf_counter(), 0

    async def client(first: int) -> None:
        nonlocal sent
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        place = first
        while time.perf_counter() - began < seconds and (requests is None or sent < requests):
            sent += 1
            at = time.perf_counter()
            status, _ = await _ask(reader, writer, bodies[place % len(bodies)])
            taken.append(time.perf_counter() - at)
            statuses[status] = statuses.get(status, 0) + 1
            place += concurrency
        writer.close()

    await asyncio.gather(*(client(i) for i in range(concurrency)))
    return Load(taken, time.perf_counter() - began, statuses)


def load(port: int, bodies: Sequence[bytes], concurrency: int, seconds: float, requests: int | None = None) -> Load:
    return asyncio.run(_load(port, bodies, concurrency, seconds, requests))


def all_answers(port: int, bodies: Sequence[bytes]) -> list[Any]:
    async def ask() -> list[Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        found = [json.loads((await _ask(reader, writer, body))[1])["predictions"][0] for body in bodies]
        writer.close()
        return found

    return asyncio.run(ask())


def bodies_of(rows: Sequence[dict[str, Any]], **more: Any) -> list[bytes]:
    return [json.dumps({"dataframe_records": [row | more]}).encode() for row in rows]


def summary(found: Load, offer: Any) -> dict[str, Any]:
    ordered = sorted(found.seconds)
    at = {f"p{q}_ms": round(1000 * ordered[min(len(ordered) - 1, q * len(ordered) // 100)], 2) for q in (50, 95, 99)}
    rate = len(ordered) / found.wall
    assert set(found.statuses) == {200}, found.statuses
    usd = None if offer is None else round(prices.serving_usd_per_1000(offer, rate) or 0.0, 8)
    return {**at, "requests_per_second": round(rate, 2), "requests": len(ordered), "usd_per_1000": usd}


def resident(process: subprocess.Popen[bytes]) -> int:
    return int(psutil.Process(process.pid).memory_full_info().uss)


# What is measured


def measure(of: Made, seconds: float, *, alone: bool) -> dict[str, Any]:
    offer, bodies = prices.find("local"), bodies_of(of.rows)
    kinds: dict[str, Any] = {"naive": lambda: naive(of)}
    kinds |= {name: lambda folder=folder: serving(folder) for name, folder in of.folders.items()}
    if alone:  # what answering those who wait together is worth
        kinds["torch, one by one"] = lambda: serving(of.folders["torch"], limits=Limits(queue=256, together=1))
    found, right = dict[str, Any](), None
    for name, start in kinds.items():
        with start() as (port, process):
            said = all_answers(port, bodies)
            right = right or said  # of the naive server, which is first
            cells = {str(n): summary(load(port, bodies, n, seconds), offer) for n in CONCURRENCIES}
            equal = statistics.mean(same(a, b) for a, b in zip(said, right, strict=True))
            found[name] = {"answers": round(equal, 4), "resident_bytes": resident(process), "load": cells}
        found[name] |= {"score": of.scores.get(name), "bytes": of.bytes.get(name)}
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    best = {
        name: {n: round(each["load"][n]["requests_per_second"] / found["naive"]["load"][n]["requests_per_second"], 3)
               for n in each["load"]}
        for name, each in found.items()
    }  # fmt: skip
    return {"servers": found, "over_naive": best, "offer": offer.name}


def watch_cost(of: Made, folder: Path, pairs: int, seconds: float) -> dict[str, Any]:
    """The watch off and on, in turn, on two servers of the same model."""
    bodies, ratios = bodies_of(of.rows), []
    with serving(of.folders["int8"]) as (without, _), serving(of.folders["int8"], log=folder / "watch") as (with_it, _):
        for port in (without, with_it):
            load(port, bodies, 8, 2.0)
        for i in range(pairs):
            order = (without, with_it) if i % 2 else (with_it, without)
            rates = {port: len((one := load(port, bodies, 8, seconds)).seconds) / one.wall for port in order}
            ratios.append(rates[without] / rates[with_it] - 1)
    return {
        "pairs": pairs,
        "seconds": seconds,
        "median_cost": round(statistics.median(ratios), 4),
        "costs": [round(r, 4) for r in ratios],
    }


def memory(of: Made, folder: Path, requests: int) -> dict[str, Any]:
    bodies = bodies_of(of.rows)
    with serving(of.folders["int8"], log=folder / "memory") as (port, process):
        load(port, bodies, 8, 600, requests // 10)
        known = [resident(process)]
        for _ in range(4):
            load(port, bodies, 8, 600, requests // 4)
            known.append(resident(process))
    return {"requests": requests, "uss_bytes": known, "growth": round(known[-1] / known[0] - 1, 4)}


def adapters(folder: Path, name: str, seconds: float) -> dict[str, Any]:
    """One adapter, and three on the same base: memory, and requests to one beside requests that change the model each time."""
    several = [(f"m{seed}", made(subfolder(folder, f"a{seed}"), name, 1, seed, (), merged=False)) for seed in range(3)]
    rows, found = several[0][1].rows, dict[str, Any]()
    with serving(several[0][1].folders["torch"]) as (port, process):
        load(port, bodies_of(rows), 1, 2.0)
        found["one_bytes"] = resident(process)
    with serving([(key, each.folders["torch"]) for key, each in several]) as (port, process):
        one = bodies_of(rows, model="m0")
        changing = [json.dumps({"dataframe_records": [row | {"model": f"m{i % 3}"}]}).encode() for i, row in enumerate(rows * 3)]
        load(port, changing, 1, 3.0)
        found["three_bytes"] = resident(process)
        ratios = []
        for i in range(6):
            order = [("one", one), ("changing", changing)]
            took = {key: statistics.median(load(port, bodies, 1, seconds).seconds) for key, bodies in order[:: 1 if i % 2 else -1]}
            ratios.append(took["changing"] / took["one"] - 1)
    found["memory_ratio"] = round(found["three_bytes"] / found["one_bytes"], 3)
    return found | {"switching_cost": round(statistics.median(ratios), 4), "costs": [round(r, 4) for r in ratios]}


def killed(of: Made, folder: Path) -> dict[str, Any]:
    """How many answers had gone out when the server was killed under load, and how many lines the log has of them."""
    log = folder / "killed"
    answered = set[str]()

    async def client(port: int, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError, ValueError, IndexError, asyncio.IncompleteReadError):
            for i in range(10**6):
                known = f"{number}-{i}"
                row = of.rows[i % len(of.rows)] | {"id": known}
                status, _ = await _ask(reader, writer, json.dumps({"dataframe_records": [row]}).encode())
                answered.update([known] if status == 200 else [])

    async def all_of_them(port: int, pid: int) -> None:
        clients = [asyncio.create_task(client(port, n)) for n in range(8)]
        await asyncio.sleep(3)
        os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*clients)

    with serving(of.folders["int8"], log=log) as (port, process):
        asyncio.run(all_of_them(port, process.pid))
    lines = [json.loads(line) for line in (log / "model.jsonl").read_text().splitlines()]
    logged = {known for line in lines for known in line.get("ids", []) if known}
    return {"answered": len(answered), "lost_lines": len(answered - logged)}


def table_of(record: dict[str, Any]) -> str:
    """The table of `tests/benchmarks/README.md`."""
    lines = [
        "| data | server | answers equal | requests a second at 1, 8, 64 clients | p50, p95, p99 at 8, ms "
        "| US$ for 1,000 at 64 | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, measured in record["tasks"].items():
        for name, each in measured["servers"].items():
            load = each["load"]
            rates = ", ".join(f"{load[str(count)]['requests_per_second']:,.0f}" for count in record["concurrencies"])
            times = ", ".join(f"{load['8'][f'{q}_ms']:.0f}" for q in ("p50", "p95", "p99"))
            size = f"{each['resident_bytes'] / 1e6:,.0f}"
            equal = "" if name == "naive" else f"{100 * each['answers']:.1f} %"
            lines.append(f"| {task} | {name} | {equal} | {rates} | {times} | ${load['64']['usd_per_1000']:.6f} | {size} |")
    return "\n".join(lines)


def subfolder(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60.0, help="of each load")
    options.add_argument("--pairs", type=int, default=30, help="of seconds with the watch and without")
    options.add_argument("--epochs", type=int, help="for which the models learn, in place of their own number")
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--tasks", nargs="+", default=[*TASKS], choices=TASKS)
    options.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    options.add_argument("--out", type=Path, default=HERE / "results" / "serving.json")
    options.add_argument("--table", action="store_true", help="print the table for README.md of the record")
    asked = options.parse_args()
    if asked.table:
        print(table_of(json.loads(asked.out.read_text(encoding="utf-8"))))
        return
    began = time.time()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found: dict[str, Any] = {"tasks": {}}
        for name in asked.tasks:
            of = made(subfolder(folder, name), name, asked.epochs or EPOCHS[name])
            if "load" in asked.parts:
                found["tasks"][name] = measure(of, asked.seconds, alone=name == asked.tasks[0])
            if name == asked.tasks[0]:
                parts = {
                    "watch": lambda: watch_cost(of, folder, asked.pairs, min(3.0, asked.seconds)),  # noqa: B023  called now
                    "memory": lambda: memory(of, folder, asked.requests),  # noqa: B023
                    "adapters": lambda: adapters(folder, name, min(2.0, asked.seconds)),  # noqa: B023
                    "killed": lambda: killed(of, folder),  # noqa: B023
                }
                for part, run in parts.items():
                    if part in asked.parts:
                        found[part] = run()
                        print(part, json.dumps(found[part]), file=sys.stderr, flush=True)
    names = ("torch", "transformers", "mlflow", "onnxruntime", "onnx", "peft", "fastapi", "uvicorn")
    found["machine"] = {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count()}
    found["versions"] = {name: metadata.version(name) for name in names} | {"python": platform.python_version()}
    found |= {"seconds": asked.seconds, "concurrencies": CONCURRENCIES, "took_seconds": round(time.time() - began, 1)}
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: found.get(key) for key in ("watch", "memory", "adapters", "killed", "took_seconds")}))


if __name__ == "__main__":
    main()
