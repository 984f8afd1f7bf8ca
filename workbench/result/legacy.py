"""Records of earlier versions, made whole: the one place that knows how Results were written
before.

Stored Results are read for ever. What a later version records explicitly is worked out here from
what an earlier one wrote in its place, so that everything else finds it where it is now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.result.causes import Cause


def upgraded(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A Result's record with what its version did not write yet."""
    known = dict(record)
    if "cause" not in known:
        known["cause"] = cause_of(str(known.get("status")), str(known.get("reason", "")))
    if "name" in known.get("offer", {}):
        known["offer"] = _offer(known["offer"], known.get("provenance", {}))
    return known


def cause_of(status: str, reason: str) -> Cause | None:
    """What the wording of a reason told before causes were recorded; None of a Result that did not
    end badly, or does not say why.

    Reasons began with a word and a colon. Of a stop the rest told who had asked for it.
    """
    if status not in ("infeasible", "interrupted") or not reason:
        return None
    word, _, detail = reason.partition(":")
    if word.strip() != "stopped":
        return Cause(word.strip())
    by = {"by a person": Cause.STOPPED_BY_PERSON, "by SIGTERM": Cause.STOPPED_BY_SIGNAL}
    return by.get(detail.strip(), Cause.STOPPED_BY_BUDGET)


def _offer(offer: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """An offer's record: platform and instance stood in its name alone, and one GPU was meant where
    the machine had any.
    """
    platform, _, rest = str(offer.get("name", "")).partition(":")
    gpus = (provenance.get("device") or {}).get("gpus") or ()
    # Unpacked last: what the record says itself goes before what is read out of its name.
    return {"platform": platform, "instance": rest.partition(":")[0], "gpus": 1 if gpus else 0, **offer}
