"""`workbench status`: what runs now, and how the sweep stands."""

from __future__ import annotations

import dataclasses
import time

import click

from workbench.cli import complete
from workbench.cli.printing import print_json, print_text, reading, say_next
from workbench.cli.shared_options import json_option, price_options, storage_option
from workbench.cli.studies import limit_flags, open_ledger, study_path, tell_changes, typed_name, view_of
from workbench.report.progress import Settled, progress


@click.command()
@click.argument("study", required=False, shell_complete=complete.studies)
@price_options
@storage_option
@json_option
def status(study: str | None, platform: str | None, label_usd: float | None, storage: str | None, as_json: bool) -> None:
    """Show how the sweep of STUDY (a study file, or its name) stands.

    Who works at what, on which machine at what price, what is spent of which budget and how fast, how long it will go on,
    and why it ended.
    """
    with reading():
        ledger = open_ledger(study, storage)
        now = time.time()
        known = ledger.heard(ledger.read(), now)
        description = known.description
        view = view_of(ledger.description, platform, label_usd)
        found = progress(
            Settled.of(known.results, view),
            [record for _, record in known.leases],
            known.ended,
            view,
            now=now,
            limits=description.get("limits"),
            sharing=description.get("sharing", ()),
        )
    if as_json:
        workers = [
            {"pid": w.pid, "host": w.host, "alive": w.lives, "trial": w.making.trial, "run_id": w.making.run_id}
            | {"method": w.making.method, "model": w.making.model, "settings": dict(w.making.settings), "seed": w.making.seed}
            | {"seconds": w.seconds, "silent_seconds": w.silent_seconds}
            for w in found.workers
        ]
        told = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
        of = [machine.to_json() for machine in found.machines]
        spent, bounds = dataclasses.asdict(found.spent), [dataclasses.asdict(b) for b in found.bounds]
        print_json({"study": ledger.name} | told | {"spent": spent, "bounds": bounds, "workers": workers, "machines": of})
        return
    if description.get("question"):
        print_text(description["question"])
    name, path = typed_name(ledger, study), study_path(ledger)
    said = found.sentences()
    for sentence in said if path else [f"{ledger.name} was imported: no sweep works on it.", *said[1:]]:
        print_text(sentence)
    tell_changes(ledger)
    left = found.state == "ended" and found.what == "sweep" and bool(known.ended and known.ended.get("interrupted"))
    if path and (left or found.state in ("broken", "new")):
        say_next(f"`workbench sweep {path}{limit_flags(found.limits)}`")
    elif path and found.state == "ended" and not found.points:
        say_next(f"`workbench sweep {path}` with a higher limit than{limit_flags(found.limits) or ' the last'}")
    else:
        say_next(f"`workbench front {name}`")
