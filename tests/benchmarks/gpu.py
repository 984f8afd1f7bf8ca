"""All that only a GPU can show, in one command under nine minutes: what `gpu_parts.py` lists, each part by itself.

A part runs in a process of its own under a limit of time. One that fails is recorded with its error and with what it had found
until then, and the rest goes on; the record is written after each. `--again` makes those that failed, or were left out.

    python tests/benchmarks/gpu.py [--out results/gpu.json] [--encoder minilm-l3] [--parts energy,engine] [--minutes 8.5]
    python tests/benchmarks/gpu.py --dry             # tries the code in minutes on a CPU; measures nothing
    python tests/benchmarks/gpu.py --against OTHER   # carries the runs of another card's record to the card of `--out`
    python tests/benchmarks/gpu.py --pack FOLDER     # what a machine without a network needs

It needs torch (2.11 or newer), transformers (5.17 or newer), PEFT, accelerate, pandas, psutil, nvidia-ml-py, scikit-learn and
what these bring, but neither Optuna nor MLflow. `qlora` and the 8-bit optimiser of `choices` need bitsandbytes too. For a machine
that has these and no network, `--pack .gpu` here, and there, in a copy of the repository:

    PYTHONPATH=. python3 tests/benchmarks/gpu.py --encoder .gpu/minilm-l3 --out OUT/gpu.json

The encoder's folder takes 35 MB (half precision) and the wheel of bitsandbytes 43 MB. Where both do not fit, they go one at a
time: with the wheel alone

    python3 -m pip install --no-index --no-deps --target /tmp/site .gpu/*.whl
    PYTHONPATH=.:/tmp/site python3 tests/benchmarks/gpu.py --parts qlora --out OUT/gpu.json

adds its part to the record that is there. The sweep itself is not run on the card: a run that lacks memory is shown to end as a
result of the loop, and that a sweep goes on after it is tested without a card.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from gpu_parts import CHILDREN, DRY, PARTS, Place, Size, _against, computing, kept, offer_of

BEGAN = time.monotonic()
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy", "nvidia-ml-py", "bitsandbytes", "triton")


def pack(folder: Path, encoder: str) -> None:
    """Write what a machine without a network lacks into a folder: the encoder in half precision, and bitsandbytes' wheel."""
    import torch

    from workbench.data import models

    place = folder / encoder
    models.build(encoder, "AutoModel", dtype=torch.float16).save_pretrained(place)
    models.tokenizer(encoder).save_pretrained(place)
    wanted = f"bitsandbytes=={metadata.version('bitsandbytes')}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    subprocess.run([*command, wanted], check=True)
    size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    print(f"{folder}: {size / 1e6:.0f} MB")


def measured(name: str, seconds: float, folder: Path, words: list[str]) -> dict[str, Any]:
    """What a part gives, run in a process of its own; an error where it fails or takes too long."""
    began = time.monotonic()
    # A session of its own: parts start processes too, which must not outlive them on the card.
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", name, "--folder", str(folder), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, told = process.communicate(timeout=seconds)
        found = (
            json.loads(out.splitlines()[-1]) if process.returncode == 0 else {"error": told.strip()[-2000:] or "it said nothing"}
        )
    except subprocess.TimeoutExpired:
        found = {"error": f"it was not done after {seconds:.0f} s"}
    except (IndexError, ValueError) as error:
        found = {"error": f"it printed no record: {error}"}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    if "error" in found:
        with contextlib.suppress(OSError, ValueError):
            found["so_far"] = json.loads(kept(folder, name).read_text(encoding="utf-8"))
    return {"seconds": time.monotonic() - began, **found}


def machine() -> dict[str, Any]:
    """The machine and the versions on it. What every part imports is read from the disk here: that is slow the first time."""
    import torch

    with contextlib.suppress(ImportError):
        import peft  # noqa: F401
    from workbench.meter import Meter, host

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    with Meter(sample_interval_seconds=None) as meter:
        gpus, driver, absence = [dataclasses.asdict(each) for each in meter.devices], meter.description["gpu_driver"], None
        absence = meter.description["gpu_absence"]
    return {
        "gpus": gpus,
        "driver": driver,
        "gpu_absence": absence,
        "cuda": torch.version.cuda,
        "cpu": host.cpu_model(),
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "load_average": os.getloadavg(),
        "versions": versions,
    }


def between_cards(own: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The runs of another card's record, carried to the card of this one, against what they took here."""
    from workbench.prices import carry

    here, there = own["parts"]["scaling"], other["parts"]["scaling"]
    found: dict[str, Any] = {"from": there["device"], "to": here["device"]}
    for name, run in here["recipes"].items():
        phases = {n: u for n, u in _phases(there["recipes"][name]).items() if n in ("train", "evaluate")}
        moved = carry(phases, there["device"], offer_of(here["device"]))
        found[name] = None if moved is None else _against(moved.seconds, computing(run).seconds)
    return found


def _phases(run: dict[str, Any]) -> dict[str, Any]:
    from workbench.usage import Usage

    return {name: Usage.from_json(each) for name, each in run["phases"].items()}


def main() -> None:
    """Measure all parts, or those that are named, and write the record."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=RESULTS / "gpu.json")
    options.add_argument("--encoder", default="minilm-l3", help="a built-in model, or a folder")
    options.add_argument("--parts", default=",".join(PARTS), help="which, by name; others in the record stay as they are")
    options.add_argument("--minutes", type=float, default=8.5, help="for everything; what is not begun by then is left out")
    options.add_argument("--again", action="store_true", help="only parts that the record lacks, or that failed")
    options.add_argument("--dry", action="store_true", help="a trial of the code on a CPU")
    options.add_argument("--against", type=Path, help="the record of another card")
    options.add_argument("--pack", type=Path, help="write what a machine without a network lacks into this folder")
    for hidden in ("--child", "--folder", "--size"):
        options.add_argument(hidden, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        size = Size(**{n: tuple(v) if isinstance(v, list) else v for n, v in json.loads(chosen.size).items()})
        part = CHILDREN[chosen.child] if chosen.child in CHILDREN else PARTS[chosen.child][0]
        print("\n" + json.dumps(part(Place(Path(chosen.folder), chosen.encoder, chosen.child), size)))
        return
    if chosen.pack:
        pack(chosen.pack, chosen.encoder)
        return
    record = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.is_file() else {"what": __doc__, "parts": {}}
    if chosen.against:
        record["between_cards"] = between_cards(record, json.loads(chosen.against.read_text(encoding="utf-8")))
        _write(chosen.out, record)
        return
    size = DRY if chosen.dry else Size()
    record |= {"dry": chosen.dry, "machine": machine(), "size": dataclasses.asdict(size)}
    if not chosen.dry and not record["machine"]["gpus"]:
        sys.exit(f"There is no GPU here ({record['machine']['gpu_absence']}). --dry tries the code.")
    if (place := Path(chosen.encoder)).is_dir():
        chosen.encoder = str(place.resolve())
    end = BEGAN + 60 * chosen.minutes
    folder = Path(tempfile.mkdtemp())
    try:
        words = ["--encoder", chosen.encoder, "--size", json.dumps(dataclasses.asdict(size))]
        for name in chosen.parts.split(","):
            if chosen.again and "error" not in record["parts"].get(name, {"error": "it was never made"}):
                continue
            left = end - time.monotonic()
            limit = PARTS[name][1] * (5 if chosen.dry else 1)  # processors need longer to import and to start
            found = measured(name, min(limit, left), folder, words) if left > 5 else {"error": "no time was left for it"}
            record["parts"][name] = found
            told = f"error: {found['error'].splitlines()[-1]}" if "error" in found else "done"
            print(f"{name}: {told}, {found.get('seconds', 0.0):.0f} s", file=sys.stderr, flush=True)
            _write(chosen.out, record)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({name: found.get("error", "done") for name, found in record["parts"].items()}, indent=1))


def _write(out: Path, record: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
