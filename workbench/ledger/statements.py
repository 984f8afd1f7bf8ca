"""Writes trials into Optuna's tables, each in one transaction of a few statements.

Through Optuna's own interface a lease is 29 statements, 20 of them while the study's row is locked, which bounds how many
workers one ledger bears. What is written is the same: Optuna, and all that reads its storages, sees trials like any others.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.ledger.create import CONSTRAINTS, RESULT

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import TrialState
    from sqlalchemy import Connection, Engine

LEASE = "workbench:lease"
"""Key of the attribute that holds a lease's record, as it was when the lease was taken."""

BEAT = "workbench:beat"
"""Key of the attribute that holds what a worker said of itself last: the part of a lease's record that changes."""

TOKEN = "workbench:token"  # noqa: S105  key of the attempt that a trial was made by

Params = Mapping[str, tuple[Any, "BaseDistribution"]]
"""Parameters of a trial: value and distribution by name."""


def insert_lease(engine: Engine, study_id: int, records: Mapping[str, Any], params: Params) -> tuple[int, int]:
    """Make a RUNNING trial; its id and number.

    Args:
        engine: The database's.
        study_id: Optuna's id of the study.
        records: The trial's attributes.
        params: Its parameters.
    """
    import sqlalchemy as sql
    from optuna.storages._rdb import models
    from optuna.trial import TrialState

    trials = models.TrialModel.__table__
    last = sql.select(trials.c.number).where(trials.c.study_id == study_id).order_by(trials.c.trial_id.desc()).limit(1)
    # In a subquery of its own: MySQL refuses one on the table that is written.
    number = sql.func.coalesce(sql.select(last.subquery().c.number + 1).scalar_subquery(), 0)
    new = {"number": number, "study_id": study_id, "state": TrialState.RUNNING, "datetime_start": _now()}
    with engine.begin() as connection:
        if engine.name == "postgresql":  # a worker that is frozen here holds all others up for no longer
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '10s'")
        if engine.name != "sqlite":  # there the first write takes the file
            # As Optuna does: numbers are given one after another. It is held for four more statements.
            studies = models.StudyModel.__table__
            connection.execute(sql.select(studies.c.study_id).where(studies.c.study_id == study_id).with_for_update())
        made = connection.execute(sql.insert(trials).values(new))
        assert made.inserted_primary_key is not None
        trial_id = int(made.inserted_primary_key[0])
        _insert_attributes(connection, models.TrialUserAttributeModel, trial_id, records)
        _insert_params(connection, trial_id, params)
        given = connection.execute(sql.select(trials.c.number).where(trials.c.trial_id == trial_id)).scalar_one()
    return trial_id, int(given)


def close_trial(
    engine: Engine,
    trial_id: int,
    state: TrialState,
    *,
    values: Sequence[float] | None = None,
    result: Mapping[str, Any] | None = None,
    constraints: Sequence[float] | None = None,
    params: Params | None = None,
) -> bool:
    """End a RUNNING trial with all that is known of it; whether it was one.

    The lease's record goes with it: the Result says all that it did.
    """
    import sqlalchemy as sql
    from optuna.storages._rdb import models

    trials, attributes = models.TrialModel.__table__, models.TrialUserAttributeModel.__table__
    running = (trials.c.trial_id == trial_id) & (trials.c.state == "RUNNING")
    with engine.begin() as connection:
        # First, and only where it runs: of two that end the same trial, one does, and the other sees that it came late.
        ended = connection.execute(sql.update(trials).where(running).values(state=state, datetime_complete=_now()))
        if not ended.rowcount:
            return False
        gone = (attributes.c.trial_id == trial_id) & attributes.c.key.in_((RESULT, LEASE, BEAT))
        connection.execute(sql.delete(attributes).where(gone))
        if result is not None:
            _insert_attributes(connection, models.TrialUserAttributeModel, trial_id, {RESULT: result})
        if constraints is not None:
            own = models.TrialSystemAttributeModel.__table__
            connection.execute(sql.delete(own).where((own.c.trial_id == trial_id) & (own.c.key == CONSTRAINTS)))
            _insert_attributes(connection, models.TrialSystemAttributeModel, trial_id, {CONSTRAINTS: constraints})
        if values:
            stored = [models.TrialValueModel.value_to_stored_repr(value) for value in values]
            rows = [
                {"trial_id": trial_id, "objective": i, "value": value, "value_type": kind} for i, (value, kind) in enumerate(stored)
            ]
            connection.execute(sql.insert(models.TrialValueModel.__table__).values(rows))
        _insert_params(connection, trial_id, params or {})
    return True


def update_beat(engine: Engine, trial_id: int, record: Mapping[str, Any]) -> bool:
    """Write what a worker says of itself; whether its trial still runs."""
    import sqlalchemy as sql
    from optuna.storages._rdb import models

    trials, attributes = models.TrialModel.__table__, models.TrialUserAttributeModel.__table__
    running = sql.exists().where((trials.c.trial_id == trial_id) & (trials.c.state == "RUNNING"))
    own = (attributes.c.trial_id == trial_id) & (attributes.c.key == BEAT)
    with engine.begin() as connection:
        written = connection.execute(sql.update(attributes).where(own & running).values(value_json=json.dumps(record)))
    return bool(written.rowcount)


def incompatible(engine: Engine, study_id: int, params: Params) -> str:
    """Why parameters cannot stand beside those of trials that the study holds, in Optuna's words; empty where they can."""
    import sqlalchemy as sql
    from optuna.distributions import check_distribution_compatibility, json_to_distribution
    from optuna.storages._rdb import models

    trials, stored = models.TrialModel.__table__, models.TrialParamModel.__table__
    if not params:
        return ""
    first = [
        sql.select(stored.c.param_name, stored.c.distribution_json)
        .join(trials, trials.c.trial_id == stored.c.trial_id)
        .where((trials.c.study_id == study_id) & (stored.c.param_name == name))
        .limit(1)
        .subquery()
        for name in params
    ]
    with engine.connect() as connection:
        rows = connection.execute(sql.union_all(*(sql.select(each) for each in first))).all()
    for name, text in rows:
        try:
            check_distribution_compatibility(json_to_distribution(text), params[name][1])
        except ValueError as error:
            return str(error)
    return ""


def _insert_attributes(connection: Connection, model: Any, trial_id: int, records: Mapping[str, Any]) -> None:
    import sqlalchemy as sql

    rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(value)} for key, value in records.items()]
    connection.execute(sql.insert(model.__table__).values(rows))


def _insert_params(connection: Connection, trial_id: int, params: Params) -> None:
    import sqlalchemy as sql
    from optuna.distributions import distribution_to_json
    from optuna.storages._rdb import models

    if not params:
        return
    rows = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": space.to_internal_repr(value),
            "distribution_json": distribution_to_json(space),
        }
        for name, (value, space) in params.items()
    ]
    connection.execute(sql.insert(models.TrialParamModel.__table__).values(rows))


def _now() -> datetime.datetime:
    """As Optuna keeps times: those of Greenwich, without saying so."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
