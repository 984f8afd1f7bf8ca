"""Takes samples that hold a certain example out of MLflow's artifacts, where these are files here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from workbench.tracking import store


def drop_samples(uri: str, runs: Iterable[str], holds: Callable[[Mapping[str, Any]], bool]) -> tuple[int, list[str]]:
    """Write the files of samples anew without some samples.

    Args:
        uri: MLflow's store.
        runs: MLflow's ids of runs.
        holds: Whether a sample, `{"example", "prediction"}`, is to go.

    Returns:
        How many samples went; and where artifacts are that cannot be reached from here, or why they
        cannot, a line each.
    """
    gone, beyond = 0, dict[str, None]()
    try:
        client = store.connect(uri)
    except Exception as error:  # whatever the store, its driver or MLflow raise
        return 0, [f"{uri}: {next(iter(str(error).splitlines()), type(error).__name__)}"]
    for run in runs:
        try:
            place = str(client.get_run(run).info.artifact_uri)
        except Exception:  # deleted there
            beyond[f"run {run} of {uri}, which is not there any more"] = None
            continue
        folder = _folder(place)
        if folder is None:
            beyond[place.rsplit(run, 1)[0]] = None
            continue
        for file in sorted((folder / "samples").glob("*.json")):
            gone += _without(file, holds)
    return gone, list(beyond)


def _folder(uri: str) -> Path | None:
    """The folder of artifacts on this machine; None where they are elsewhere."""
    parts = urlparse(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") and parts.netloc in ("", "localhost") else None


def _without(file: Path, holds: Callable[[Mapping[str, Any]], bool]) -> int:
    samples = json.loads(file.read_text(encoding="utf-8")).get("samples", [])
    kept = [sample for sample in samples if not holds(sample)]
    if len(kept) < len(samples):
        file.write_text(json.dumps({"samples": kept}), encoding="utf-8")
    return len(samples) - len(kept)
