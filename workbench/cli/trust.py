"""Models of a registry, fetched: whether code that goes with one is run is for whoever asks to say, where others wrote it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from workbench.cli.printing import messages
from workbench.errors import Refused
from workbench.serving import bundle, requirements
from workbench.serving.registry import Registry, Version

F = TypeVar("F", bound=Callable[..., Any])


def trust_option(command: F) -> F:
    """Declare `--trust-code`."""
    text = "Run the study's file that goes with a model of a task of its own, also from a registry that is not on this machine."
    return click.option("--trust-code", is_flag=True, help=text)(command)


def fetched(store: Registry, version: Version, folder: Path, *, trusted: bool) -> Path:
    """Fetch a version into a folder, and return where MLflow loads it from. Where loading it runs code that goes with it, that is
    told, and so is which packages are not those that it was deployed with.

    Raises:
        DataError: It is no model that workbench deployed.
        Refused: Its code is from another machine, and is not trusted.
    """
    model = store.fetch(version, folder)
    if differing := requirements.others(model):
        text = f"Version {version.number} of {version.name} was deployed with other packages, by which answers may differ: "
        messages.print(f"{text}{', '.join(differing)}.", style="yellow", markup=False)
    if bundle.runs_study(bundle.inside(model)):
        named = f"version {version.number} of {version.name}"
        if not (trusted or store.is_here(version)):
            raise Refused(
                f"{named} brings code, the file of its study, and the registry is not on this machine: whoever may write there "
                f"would run programs here. Read {bundle.STUDY} of the model; --trust-code says that you trust all who write there."
            )
        text = f"Loading {named} runs the file of its study that goes with it, of which its task is a class."
        messages.print(text, style="dim", markup=False)
    return model
