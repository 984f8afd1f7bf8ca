"""`workbench up`: files that start a sweep's workers on rented or scheduled machines."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench import prices
from workbench.cli import complete
from workbench.cli.forecasting import forecaster_of, most_runs
from workbench.cli.options import Whole, gathered, setting
from workbench.cli.printing import messages, print_text, say_next, waiting, writing
from workbench.cli.shared_options import states_option, storage_option
from workbench.errors import Refused, UsageError
from workbench.forecast import rank, typical
from workbench.prices import label_usd_of
from workbench.settings import stated
from workbench.study import load
from workbench.sweep import machine_files
from workbench.sweep.machine_files import Machines

if TYPE_CHECKING:
    from workbench.prices import Offer
    from workbench.study import Study


@dataclass(frozen=True, kw_only=True)
class UpOptions:
    """The arguments and options of `workbench up`."""

    study: str
    machines: int
    platform: str | None
    spot: bool
    out: Path
    install: str | None
    image: str
    storage: str | None
    states: str | None


@click.command()
@click.argument("study", shell_complete=complete.study_files)
@click.option("--machines", type=Whole(1, 1000), default=1, show_default=True, metavar="N", help="How many.")
@setting("--platform", metavar="NAME", shell_complete=complete.platforms, help="Their offer. [default: the cheapest that fits]")
@click.option("--spot", is_flag=True, help="Look among spot offers too: they end at any time.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(), metavar="FOLDER", help="Where to. [default: here]")
@click.option(
    "--install",
    metavar="COMMAND",
    help=f"Installs the workbench on a fresh machine. [default: pip installs {machine_files.WHEEL} from the study's folder]",
)
@click.option(
    "--image",
    default=f"workbench:{metadata.version('workbench')}",
    show_default=True,
    metavar="NAME",
    help="A container image that holds it, which you have built.",
)
@storage_option
@states_option
@gathered(UpOptions)
def up(asked: UpOptions) -> None:
    """Write what starts workers for the file STUDY on other machines: for SkyPilot, Kubernetes and Slurm. Nothing is started.

    The machines are those of the cheapest offer that `workbench platforms` finds, or of --platform. Each runs `workbench worker` on
    the ledger of --storage, which is a server that all of them reach. Passwords are in no file: PGPASSFILE names where they are.
    """
    machine_files.check(asked.study, asked.storage or "", asked.states)  # before anything is loaded
    loaded = load(asked.study)
    stem = Path(asked.study).stem
    offer = _offer(asked, loaded)
    machines = Machines(
        study=asked.study,
        name=stem,
        offer=offer,
        count=asked.machines,
        storage=asked.storage or "",
        states=asked.states,
        install=asked.install or machine_files.INSTALL,
        image=asked.image,
        folder=asked.out,
    )
    texts = _texts(machines)
    there = [name for name in texts if (asked.out / name).exists()]
    if there:
        raise Refused(f"{asked.out / there[0]} is there already. Delete it, or name another folder by --out.")
    with writing(asked.out):
        asked.out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (asked.out / name).write_text(text, encoding="utf-8")
    messages.print(machines.head, markup=False)
    for name in texts:
        print_text(str(asked.out / name))
    if asked.install is None and f"{stem}.sky.yaml" in texts and not Path(machine_files.WHEEL).exists():
        messages.print(
            f"The workbench is on no package index: machines that SkyPilot starts install {machine_files.WHEEL}, which is not in "
            "this folder yet. Make it by `pip wheel --no-deps --wheel-dir . SOURCE`, SOURCE being the folder of the workbench's "
            "source, or name another command by --install.",
            style="yellow",
            markup=False,
        )
    if asked.states is None and asked.machines > 1:
        messages.print("Without --states a run that one machine leaves is begun anew on another.", style="yellow", markup=False)
    say_next(f"read them, then, in this folder, `{machines.start(next(iter(texts)))}`")


def _offer(asked: UpOptions, study: Study) -> Offer:
    """The offer of the machines. Raises UsageError where none is known to be cheapest."""
    if asked.platform is not None:
        return prices.find(asked.platform)
    rented = [o for o in prices.load() if o.commitment != "owned" and (asked.spot or o.commitment != "spot")]
    with waiting("Reading the data, building models without weights …"):
        runs = most_runs(study, stated("trials", None, study)) or 16
        ranked = rank(typical(forecaster_of(study, asked.storage)), runs, rented, label_usd_of(None, study))
    found = next((each.offer for each in ranked if each.fits and each.taken), None)
    if found is None:
        raise UsageError(
            f"no offer is known to fit: its time or memory is unknown. `workbench plan {asked.study} --calibrate` measures them; "
            "or name one by --platform."
        )
    return found


def _texts(machines: Machines) -> dict[str, str]:
    """The files, by name."""
    found: dict[str, str] = {}
    stem = machines.name
    task = machine_files.sky(machines)
    if task is not None:
        found[f"{stem}.sky.yaml"] = _yaml(machines, machines.started(f"{stem}.sky.yaml"), task)
    job = machine_files.kubernetes(machines)
    needs = (
        machines.started(f"{stem}.k8s.yaml"),
        f"It needs an image {machines.image}, built by you, with the workbench and its extra postgresql,",
        f"a volume claim {machine_files.STUDY_CLAIM} with the study's folder, and a secret {machine_files.SECRET}",
        "whose key pgpass holds PostgreSQL's password file: kubectl create secret generic "
        f"{machine_files.SECRET} --from-file=pgpass=$HOME/.pgpass",
    )
    found[f"{stem}.k8s.yaml"] = _yaml(machines, "\n# ".join(needs), job)
    found[f"{stem}.slurm"] = machine_files.slurm(machines)
    return found


def _yaml(machines: Machines, how: str, record: dict[str, Any]) -> str:
    import yaml

    return f"# {machines.head}\n# {how}\n{yaml.safe_dump(record, sort_keys=False, width=120)}"
