"""The ledger of Results that others published: no file of a study is behind it, and it cannot be swept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench import prices
from workbench.ledger import trials
from workbench.ledger.create import create, finished, own, studies
from workbench.ledger.faults import mapped
from workbench.ledger.leases import new_token
from workbench.ledger.ledger import Ledger
from workbench.ledger.patience import OPENING_SECONDS, Patience
from workbench.ledger.statements import TOKEN
from workbench.ledger.store import open_storage
from workbench.result import Result

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class ImportedLedger(Ledger):
    """All Results of one publication in one storage."""

    @classmethod
    def open_imported(cls, name: str, description: Mapping[str, Any], url: str) -> ImportedLedger:
        """The ledger, made if it is not there yet.

        Args:
            name: Its full name in the store: a stem, a dash and a digest, as that of a study.
            description: Noted when it is made: `question`, `maximize`, `minimize`, `label_usd`, `platform`, `reference`.
            url: The database.

        Raises:
            UsageError: Another program's study has its name there.
            EnvironmentFault: The storage cannot be opened or written; `Away` where that may pass.
        """

        def opened() -> ImportedLedger:
            storage = open_storage(url, create=True)
            with mapped(url):
                if name not in studies(storage):
                    create(storage, name, {"path": None, **description, "created": time.time(), "schema": 1})
                return cls(storage, own(storage, name, url), name, patience)

        patience = Patience(OPENING_SECONDS)
        return patience.tried(opened)

    def add(self, results: Sequence[Result]) -> list[Result]:
        """Write Results that others finished, each a run of its own, into it.

        A run that it holds already is left out, so that the same import twice adds nothing.

        Returns:
            Those that are new, as they were written.
        """
        with self._alone():  # or two imports add the same
            run_ids = {r.run_id for r in self.results()}
            new = {r.run_id: r for r in results if r.run_id not in run_ids}
            description = self.description
            objectives = trials.Objectives(description["maximize"], tuple(description["minimize"]))
            offer = prices.find(description["platform"])
            for result in new.values():
                trial = finished(result, objectives, offer)
                self._imported(trial, new_token())
            return [r for r in self.results() if r.run_id in new]

    def _imported(self, template: FrozenTrial, token: str) -> None:
        """Write a trial like the template."""
        template.user_attrs[TOKEN] = token

        def make() -> tuple[int, int]:
            try:
                self._storage.create_new_trial(self._study_id, template)
            except ValueError as error:  # Optuna compares distributions with those of the trials before
                raise self._mixed(str(error)) from error
            (mine, *more) = self._made_by(token, 0)
            for trial_id, _ in more:  # Optuna itself repeats a call that may have succeeded: one too many was made
                self._drop(trial_id)
            return mine

        self._made(make, token, 0)
