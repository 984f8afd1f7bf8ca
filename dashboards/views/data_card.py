"""The page Data: the card of the study's data, as `workbench data` prints it, computed when a button is pressed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from context import Context
from parts import COUNT
from words import plain

from workbench.errors import WorkbenchError
from workbench.quality import Card, cards
from workbench.quality import words as card_words
from workbench.study import load

STAGES = 3
"""What is told while a card is made: reading, counting, embedding."""


def show(c: Context) -> None:
    """Show the page."""
    st.subheader("Data", anchor=False)
    path = Path(str(c.description.get("path") or ""))
    if not path.is_file():
        st.info(plain(f"The study's file {path} is not on this machine. `workbench data STUDY` prints the card where it is."))
        return
    key = (str(path), path.stat().st_mtime_ns)
    known = _known()
    again = key in known
    st.caption(
        "Sizes, lengths in tokens, balance, near-duplicates, and labels that look wrong. Nothing is trained but a regression on "
        "embeddings, and nothing is written; the file of the study is run on this machine, and its data are read."
    )
    if st.button("Look at the data again" if again else "Look at the data", key="data_card_look"):
        made = _made(path)
        if made is not None:
            known[key] = made
    for card in known.get(key, ()):
        _show(card)


@st.cache_resource(show_spinner=False, max_entries=1)
def _known() -> dict[tuple[str, int], Sequence[Card]]:
    """Cards that were made since the server began, for all readers."""
    return {}


def _made(path: Path) -> list[Card] | None:
    """The cards of a study, with a bar that says how far it is; None where they cannot be made, which the page says."""
    bar, done = st.progress(0.0, "Running the study's file …"), 0

    def told(text: str) -> None:
        nonlocal done
        bar.progress(min(0.95, done / (STAGES + 1)), plain(text))
        done = done % STAGES + 1

    try:
        return list(cards(load(_from_here(path)), told))
    except WorkbenchError as error:
        st.error(plain(str(error)))
        return None
    finally:
        bar.empty()


def _from_here(path: Path) -> Path:
    """The path as `workbench data` would be given it: places in a study are those of the folder in which the server was begun."""
    return Path(os.path.relpath(path))


def _show(card: Card) -> None:
    st.markdown(f"##### {plain(card_words.title(card))}")
    columns = st.columns(len(card.splits) + 2)
    for column, (split, count) in zip(columns, card.splits.items(), strict=False):
        column.metric(f"{split} examples", f"{count:,}")
    across = sum(card.repeats.across.values()) if card.repeats else None
    columns[-2].metric("Repeated across splits", "unknown" if across is None else f"{across:,}")
    share = card.noise.share if card.noise else None
    columns[-1].metric("Labels that look wrong", "unknown" if share is None else f"{share:.1%}")
    for line in card_words.warnings(card):
        st.warning(plain(line))
    _part("Tokens of an example", [], card_words.length_rows(card))
    for counts, what in ((card.classes, "class"), (card.groups, "group")):
        _part(f"Examples of each {what}", [], card_words.count_rows(counts, what))
    _part("Near-duplicates", card_words.repeats_text(card), card_words.pair_rows(card))
    _part("Label noise", card_words.noise_text(card), card_words.suspect_rows(card))
    for line in card_words.missing(card):
        st.caption(plain(line))


def _part(title: str, said: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Show a heading, sentences, and rows; nothing at all where there are neither."""
    if not said and not rows:
        return
    st.markdown(f"**{title}**")
    for line in said:
        st.markdown(plain(line))
    if rows:
        numbers = {
            name: st.column_config.NumberColumn(format=COUNT) for name, value in rows[0].items() if not isinstance(value, str)
        }
        st.dataframe(rows, hide_index=True, column_config=numbers)
