"""How a study comes into a storage: whole or not at all, with what its older forms found."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench import prices
from workbench.errors import UsageError
from workbench.ledger import trials
from workbench.ledger.faults import shown
from workbench.prices import Offer
from workbench.result import Result
from workbench.space import Value
from workbench.study import Study

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

RESULT, STUDY = "workbench:result", "workbench:study"
"""Keys of the attributes that hold a Result, and what was noted of a study."""

CONSTRAINTS = "constraints"
"""Where Optuna looks for them."""

_DRAFT = "draft of "


_NOTED: Mapping[str, type | tuple[type, ...]] = {
    "maximize": str,
    "minimize": list,
    "label_usd": (int, float),
    "platform": str,
    "reference": dict,
}
"""What is noted of every study, by name and type: what lacks it is another program's."""


def studies(storage: RDBStorage) -> dict[str, int]:
    """Names and ids of all studies of the workbench, oldest first. Others may keep theirs in the same storage."""
    return {name: study_id for name, (study_id, lacks) in _all(storage).items() if not lacks}


def others(storage: RDBStorage) -> dict[str, str]:
    """What the studies of other programs in the storage lack, by name."""
    return {name: lacks for name, (_, lacks) in _all(storage).items() if lacks}


def own(storage: RDBStorage, name: str, url: str) -> int:
    """The id of the study with this name, which is there. Raises UsageError where it is another program's."""
    foreign = others(storage)
    if name in foreign:
        raise UsageError(foreign_text(name, url, foreign[name]))
    return studies(storage)[name]


def foreign_text(name: str, url: str, lacks: str) -> str:
    """Say that a study is another program's."""
    what = f"{name!r} in {shown(url)} is not a study of the workbench: it has {lacks}."
    return f"{what} Name another study, or another store with --storage."


def _all(storage: RDBStorage) -> dict[str, tuple[int, str]]:
    import sqlalchemy as sql

    query = sql.text(
        "SELECT s.study_name, s.study_id, a.value_json FROM studies s "
        "LEFT JOIN study_user_attributes a ON a.study_id = s.study_id AND a.key = :key ORDER BY s.study_id"
    )
    with storage.engine.connect() as connection:  # Optuna would also read every attribute of every study, one a run
        rows = connection.execute(query, {"key": STUDY}).all()
    return {name: (study_id, _lacking(text)) for name, study_id, text in rows if not name.startswith(_DRAFT)}


def _lacking(text: str | None) -> str:
    """What a study's description lacks to be one of the workbench's; empty where it lacks nothing."""
    if text is None:
        return f"no attribute {STUDY!r}"
    try:
        noted = json.loads(text)
    except ValueError:
        noted = None
    if not isinstance(noted, dict):
        return f"no description in its attribute {STUDY!r}"
    missing = [name for name, kind in _NOTED.items() if not isinstance(noted.get(name), kind)]
    return f"no {missing[0]!r} in its attribute {STUDY!r}" if missing else ""


def create(
    storage: RDBStorage, name: str, description: Mapping[str, Any], fill: Callable[[int], None] = lambda study_id: None
) -> None:
    """Write the study under another name, then rename it: whatever dies or collides, it is there whole or not at all.

    Where there is a study of that name already, nothing is changed.
    """
    import sqlalchemy as sql
    from optuna.study import StudyDirection

    costs = description["minimize"]
    directions = [StudyDirection.MAXIMIZE] + [StudyDirection.MINIMIZE] * len(costs)
    # Under a draft's name: a worker killed while copying 10,000 Results would leave a study that looks whole.
    study_id = storage.create_new_study(directions, f"{_DRAFT}{name} {uuid.uuid4().hex[:8]}")
    storage.set_study_user_attr(study_id, STUDY, dict(description))
    storage.set_study_system_attr(study_id, "study:metric_names", [description["maximize"], *costs])
    fill(study_id)
    # The name is unique in the database: of several workers that make the study at once, one renames and the others
    # throw their drafts away.
    rename = sql.text("UPDATE studies SET study_name = :name WHERE study_id = :study")
    try:
        with storage.engine.begin() as connection:
            connection.execute(rename, {"name": name, "study": study_id})
    except sql.exc.IntegrityError:  # another worker was quicker
        storage.delete_study(study_id)


def take_over(storage: RDBStorage, study_id: int, study: Study, older: Mapping[str, Sequence[Result]]) -> None:
    """Copy the Results of older forms of the study, by name, that lie in its space: nothing is paid for twice.

    Replicates come with the point that they tell of.
    """
    offer = prices.find(study.platform)
    firsts: dict[str, int] = {}  # the first trial of each run
    seen: set[str] = set()
    settings_of: dict[str, dict[str, Value]] = {}  # settings by recipe id
    for name, results in older.items():
        for result in sorted(results, key=lambda r: r.replicate_of is not None):
            if result.recipe_id in seen or result.status not in ("complete", "infeasible"):
                continue
            settings = settings_of.get(result.replicate_of) if result.replicate_of else trials.settings_in(study, result)
            if settings is None or (result.scores and study.maximize not in result.scores):
                continue
            # Numbers are those that the copied trials will have: they are created in this order, in a study that nobody sees yet.
            number = len(seen)
            seen.add(result.recipe_id)
            settings_of[result.recipe_id] = settings
            # Taken over, not run here: what it cost was spent in the older study's sweep.
            source = {**result.provenance, "taken_over_from": name}
            trial = firsts.setdefault(result.run_id, number)
            copied = replace(result, settings=settings, trial=trial, spent={}, provenance=source)
            storage.create_new_trial(study_id, finished(copied, study, offer, **trials.parameters(study, settings)))


def finished(result: Result, objectives: Study | trials.Objectives, offer: Offer, **parameters: Any) -> FrozenTrial:
    """The trial of a Result that was finished before this ledger knew of it."""
    from optuna.trial import create_trial

    state, values = trials.outcome(result, objectives, offer)
    return create_trial(
        state=state,
        values=values,
        user_attrs={RESULT: result.to_json(compact=True)},
        system_attrs={CONSTRAINTS: trials.INFEASIBLE if result.status == "infeasible" else trials.FEASIBLE},
        **parameters,
    )
