"""Judges a ledger's Results by the inputs of the study as they are now, or were when it was swept last."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from workbench.errors import UsageError, WorkbenchError
from workbench.result import Result, inputs
from workbench.study import Study


class Judge:
    """Says which inputs of a Result have changed.

    Args:
        study: The study as it is loaded now; None where only the ledger is at hand, which has noted what its last sweep knew.

    Attributes:
        known: Fingerprints (`inputs.Known`): what the study says, and of the rest what was noted.
        problem: Why an input cannot be looked at now, in words: then the note is believed. Empty where all can.
    """

    def __init__(self, study: Study | None = None) -> None:
        self._study = study
        self._now: dict[str, dict[str, str]] = {kind: {} for kind in (*inputs.SEEN, "runs")}
        self.known: dict[str, dict[str, str]] = {kind: {} for kind in self._now}
        self._asked: set[tuple[str, ...]] = set()
        self._noted: Mapping[str, Mapping[str, str]] = {}
        self._foreign = False
        self._said: dict[int, tuple[str, ...]] = {}
        self.problem = ""

    def hear(self, noted: Mapping[str, Any], *, foreign: bool) -> None:
        """Take in what the ledger has noted; the Results of a `foreign` one, which was imported, are never outdated."""
        if (noted, foreign) != (self._noted, self._foreign):
            self._noted, self._foreign = noted, foreign
            self.known = {kind: {**noted.get(kind, {}), **self._now[kind]} for kind in self._now}
            self._said.clear()

    def changed(self, result: Result) -> tuple[str, ...]:
        """Which inputs of a Result have changed, out of `inputs.KINDS`."""
        number = result.number
        if self._foreign:
            return ()
        if number is None or number not in self._said:
            self._look(result)
            kinds = inputs.changed(result, self.known)
            if number is None or result.status == "running":
                return kinds
            self._said[number] = kinds
        return self._said[number]

    def since_noted(self, results: list[Result]) -> list[str]:
        """Which inputs are now other than the ledger's last sweep knew them."""
        if self._study is None or self._foreign:
            return []
        differ = {kind for r in results for kind in set(inputs.changed(r, self._noted)) ^ set(self.changed(r))}
        return [kind for kind in inputs.KINDS if kind in differ]

    def _look(self, result: Result) -> None:
        """See what the inputs of a Result's recipe are now."""
        keys = {kind: inputs.key(kind, result.recipe) for kind in inputs.SEEN}
        about = (keys["data"], keys["model"], keys["parents"], keys["also"]) if result.inputs else (result.run_id,)
        if self._study is None or about in self._asked:
            return
        self._asked.add(about)
        with contextlib.suppress(UsageError):  # settings of no recipe of this study's
            recipe = self._study.resolve(result.settings)
            try:
                fingerprints = recipe.inputs
            except WorkbenchError as error:  # its data are gone, or are none any more
                self.problem = str(error)
                return
            for kind in inputs.SEEN:
                self._learn(kind, keys[kind], str(fingerprints.get(kind, "")))
            # Results of before fingerprints: whether their run is still the same can only be told by its id.
            if not result.inputs:
                same = replace(recipe, seed=result.seed).run_id == result.run_id
                self._learn("runs", result.run_id, "" if same else "+".join(inputs.without_fingerprints(result, self.known)))

    def _learn(self, kind: str, key: str, fingerprint: str) -> None:
        self._now[kind][key] = self.known[kind][key] = fingerprint
