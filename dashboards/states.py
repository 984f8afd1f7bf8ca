"""What is shown where there is nothing to choose from yet."""

from __future__ import annotations

from collections import Counter

import streamlit as st
from context import Context

from workbench.ledger import alive
from workbench.quantities import dollars, many
from workbench.report.answers import answer


def nothing(c: Context) -> bool:
    """Say why there is no point to show. Return False where there is one."""
    if c.points.found:
        return False
    failed = Counter(f"{r.status}: {r.reason}" if r.reason else r.status for r in c.results if r.status != "complete")
    if c.points.unknown:
        st.warning(answer(c.points))
    elif failed:
        st.warning(f"None of {many(sum(failed.values()), 'run')} came to an end.")
        for reason, count in failed.most_common(8):
            st.markdown(f"- {count} × {reason}")
        if "failures" in c.pages:
            st.page_link(c.pages["failures"], label="Failures, by type and phase")
    elif living := sum(map(alive, c.leases)):
        st.info(f"No run has finished yet; {many(living, 'run')} being made.")
    else:
        st.info("No run has finished yet. `workbench sweep STUDY` makes some: this page shows them as they come.")
    return True


def status(c: Context) -> str:
    """Say in a line where the study stands."""
    # The lease of a worker that died stays in the ledger until
    # another one puts it right, so only the living are counted.
    points, now = c.points, ""
    if living := sum(map(alive, c.leases)):
        now = f"{many(living, 'run')} being made now"
    elif c.ended:
        now = f"the last {c.ended['what']} ended: {c.ended['reason']}"
    finished = many(len(points.found), "point")
    price = f"{c.view.offer.name} at {dollars(float(c.view.offer.usd_per_hour))} an hour ({c.view.offer.date})"
    labels = f"{dollars(c.view.label_usd)} a label"
    return " · ".join(
        part for part in (f"{finished}, {len(points.members)} on the front", f"priced at {price}, {labels}", now) if part
    )
