"""The page Prices: all runs at every offer of the price book, and the cheapest place for a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import states
import streamlit as st
from context import Context
from parts import MONEY, chart, table
from words import plain

from workbench import figures, prices
from workbench.quantities import duration
from workbench.report.other_offers import Elsewhere, elsewhere, elsewhere_text
from workbench.report.text import describe

SHOWN = 15
MONIES = dict.fromkeys(("US$ an hour", "US$", "from", "to"), MONEY)


def show(c: Context) -> None:
    """Show the page."""
    st.subheader("Prices", anchor=False)
    scores = [r.scores[c.view.maximize] for r in c.results if r.status == "complete" and c.view.maximize in r.scores]
    if not scores:
        states.nothing(c)
        return
    # The sentence stands above the target that it answers, so its place is taken first.
    place = st.container()
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        target = _target(c.view.maximize, max(scores))
    spot = right.checkbox("Spot prices too", key="prices_spot", bind="query-params", help="They end at any time.")
    found = _found(c.key, c, target, spot)
    place.markdown(plain(elsewhere_text(found, c.view, target)))
    if not found:
        return
    shown = _shown(found, c.view.offer.id)
    chart(figures.elsewhere(shown, c.view.offer.id), elsewhere_text(found, c.view, target), "prices_figure")
    if len(found) > len(shown):
        st.caption(f"The {len(shown)} cheapest of {len(found)} offers; all of them are in the table.")
    table("All offers, their prices' source and date", [_row(each) for each in found], MONIES, expanded=True)
    _explain(c, found)


def _target(metric: str, best: float) -> float:
    """Return the least score, at first nine tenths of the best. The range stays while a sweep finds better ones."""
    most = 1.0 if best <= 1 else 100.0 if best <= 100 else best
    return float(
        st.slider(
            f"At least this {metric}",
            min_value=0.0,
            max_value=most,
            value=round(0.9 * best / most, 2) * most,
            step=most / 100,
            key="prices_target",
            bind="query-params",
            help="Offers are compared by the cheapest model that reaches it.",
        )
    )


@st.cache_resource(max_entries=32, show_spinner="Pricing every run at every offer …")
def _found(key: tuple[Any, ...], _c: Context, target: float, spot: bool) -> Sequence[Elsewhere]:
    offers = {offer.id: offer for offer in (*prices.load(), _c.view.offer) if spot or offer.commitment != "spot"}
    return elsewhere(_c.results, _c.view, list(offers.values()), target)


def _shown(found: Sequence[Elsewhere], here: str) -> list[Elsewhere]:
    """Return the cheapest offers, and the offer that the page is at."""
    return [each for i, each in enumerate(found) if i < SHOWN or each.offer.id == here]


def _row(each: Elsewhere) -> dict[str, Any]:
    offer = each.offer
    return {
        "offer": offer.name,
        "GPU": offer.gpu or "none",
        "US$ an hour": float(offer.usd_per_hour),
        "US$": each.usd.value,
        "from": each.usd.low,
        "to": each.usd.high,
        "basis": each.usd.basis,
        "time": duration(each.seconds.value),
        "date": offer.date,
        "source": offer.source,
        "price is": offer.confidence,
        "fits": {True: "yes", False: "no", None: "unknown"}[each.fits],
        "trial": each.point.trial,
        "model": describe(each.point),
    }


def _explain(c: Context, found: Sequence[Elsewhere]) -> None:
    # The offer of this page need not be one of the book's.
    left_out = len({offer.id for offer in (*prices.load(), c.view.offer)}) - len(found)
    notes = sorted({each.usd.note for each in found if each.usd.note})
    text = "US$ are those of the GPUs that a run holds, by the second: rounding and whole machines are not in them."
    if notes:
        text += f" Carried over, never run there: {notes[0]}{f', and {len(notes) - 1} more such rules' if len(notes) > 1 else ''}."
    if left_out > 0:
        text += f" {left_out} offers are left out: spot, or nothing is known of these runs there, or they do not fit."
    st.caption(plain(text))
