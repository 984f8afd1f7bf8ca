"""What the reader chooses for all pages: study, prices, score and cost. Each choice has its place in the URL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from workbench import prices
from workbench.errors import UsageError, did_you_mean
from workbench.front.objectives import View
from workbench.ledger import LedgerSnapshot
from workbench.report.axes import AXES, axes
from workbench.result import Result


def study(names: Sequence[str], wanted: str | None) -> str:
    """Return the study that is shown: the one chosen here, else the one that the command named, else the newest."""
    asked = st.query_params.get("study")
    if asked and asked not in names:
        raise UsageError(f"there is no study {asked!r} in this ledger.{did_you_mean(asked, names)}")
    newest = list(reversed(names))
    default = newest.index(wanted) if wanted in newest else 0
    if len(newest) == 1:
        return newest[0]
    return str(st.sidebar.selectbox("Study", newest, index=default, key="study", bind="query-params"))


def view(reading: LedgerSnapshot, version: tuple[Any, ...]) -> tuple[View, str]:
    """Return the prices and objectives and the cost axis chosen. What needs all Results is cached by version and price."""
    description = reading.description
    with st.sidebar:
        offer = _offer(description)
        label_usd = _label_usd(description)
        own = View.of(description, offer, label_usd)
        metric = _metric(reading.results, own)
        # Which costs are known depends on the Results and the prices
        # alone. Asking 10,000 runs at each move of a slider would be felt.
        key = (*version, offer.id, label_usd)
        cost = _cost(_axes(key, reading.results, own))
    most = _most(key, cost, reading.results, own) if cost != own.minimize[0] else 0.0
    return objectives(own, metric, cost, most), cost


def objectives(own: View, metric: str, cost: str, most: float) -> View:
    """Return the study's view with another score, or with another cost in the place of its own.

    A study knows the reference points of its own objectives only. That of another cost is ten times the most that a point
    costs.
    """
    if metric != own.maximize:
        # What the commonest answer scores is known of the study's own score alone.
        grading = {**own.grading, "constant_score": None}
        own = replace(own, maximize=metric, reference={**own.reference, metric: 0.0}, grading=grading)
    if cost == own.minimize[0]:
        return own
    return replace(own, minimize=(cost,), reference={cost: 10.0 * most, **own.reference})


@st.cache_data(show_spinner=False, max_entries=32)
# Streamlit hashes all arguments but those that begin with an underscore:
# Results would take longer to hash than to look at, and `key` stands for them.
def _axes(key: tuple[Any, ...], _results: Sequence[Result], _own: View) -> list[str]:
    return axes(_results, _own)


@st.cache_data(show_spinner=False, max_entries=32)
def _most(key: tuple[Any, ...], cost: str, _results: Sequence[Result], _own: View) -> float:
    return max((_own.cost(r, cost) or 0.0 for r in _results if r.status == "complete"), default=1.0)


def _offer(description: Mapping[str, Any]) -> prices.Offer:
    """Return the offer at which compute is priced."""
    default = prices.offer_of(None, description)
    offers = {offer.name: offer for offer in sorted(prices.load(), key=lambda o: (o.commitment != "owned", o.name))}
    # Offers of one name are one choice, and the default must be the offer that the commands use.
    offers |= {default.name: default}
    names = list(offers)
    name = st.selectbox(
        "Price of compute",
        names,
        index=names.index(default.name),
        key="platform",
        bind="query-params",
        help="All runs are priced anew: as measured on the same device, carried over by stated ratios to another.",
    )
    return offers[name]


def _label_usd(description: Mapping[str, Any]) -> float:
    return float(
        st.number_input(
            "Price of a label, US$",
            min_value=0.0,
            value=prices.label_usd_of(None, description),
            step=0.01,
            format="%.4g",
            key="label_usd",
            bind="query-params",
            help="What one labelled example costs. D is this times the distinct labels that reached the loss.",
        )
    )


def _metric(results: Sequence[Result], own: View) -> str:
    """Return the score that is looked at. Losses are not offered, since less is better there."""
    names = [
        own.maximize,
        *(n for n in dict.fromkeys(n for r in results for n in r.scores) if n != own.maximize and "loss" not in n),
    ]
    if len(names) == 1:
        return names[0]
    return str(st.selectbox("Quality", names, key="metric", bind="query-params"))


def _cost(known: Sequence[str]) -> str:
    """Return the cost that is looked at. The URL holds its title, which is what the widget binds."""
    titles = {AXES[name].title: name for name in known}
    return titles[str(st.selectbox("Cost", list(titles), key="cost", bind="query-params"))]
