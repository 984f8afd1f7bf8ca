"""The page Data: what `workbench data` prints, once a button is pressed."""

import json
from pathlib import Path

import made
import pytest

from workbench.quality import cards, words
from workbench.study import load


@pytest.fixture
def study(tmp_path: Path, tiny: str) -> Path:
    rows = [{"text": f"w{4 + i % 50} w{4 + 3 * i % 50} w{4 + 7 * i % 50} {i}", "label": "ab"[i % 2]} for i in range(80)]
    rows += [{**row, "text": f"{row['text']}!"} for row in rows[:5]]
    for row in rows[:40]:
        row["text"] += " ask me@example.org for $5 or $6"
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "s.py").write_text(
        "from workbench import Recipe, Study, full\nfrom workbench.tasks import classification\n"
        "task = classification('d.jsonl', train=32, redact='email')\n"
        f"study = Study(Recipe(task=task, model={tiny!r}, method=full(learning_rate=1e-3), epochs=1), maximize='accuracy')\n"
    )
    return tmp_path / "s.py"


def shown(test) -> str:
    assert not test.exception, test.exception
    return "\n".join(e.value for e in [*test.markdown, *test.warning, *test.caption, *test.info, *test.error]).replace("\\", "")


def test_the_card_is_made_when_asked_for_and_says_what_the_command_says(page, study: Path, tmp_path: Path) -> None:
    url = made.write(tmp_path, made.runs(3), path=str(study))
    test = page(url, "data_card")
    assert "Near-duplicates" not in shown(test), "nothing is computed unasked"
    test.button(key="data_card_look").click().run()
    (card,) = cards(load(study))
    said = shown(test)
    for line in (
        words.title(card),
        *words.warnings(card),
        *words.repeats_text(card),
        *words.noise_text(card),
        *words.missing(card),
    ):
        assert line in said
    assert "Redacted in " in said
    assert [m.value for m in test.metric][:3] == [str(count) for count in card.splits.values()]
    tables = [frame.value.to_dict("records") for frame in test.dataframe]
    for rows in (words.length_rows(card), words.count_rows(card.classes, "class"), words.pair_rows(card)):
        assert rows in tables
    assert test.button(key="data_card_look").label == "Look at the data"
    again = page(url, "data_card")
    assert again.button(key="data_card_look").label == "Look at the data again"
    assert words.title(card) in shown(again), "what was made is kept for the next reader"


def test_what_cannot_be_read_is_said(page, study: Path, tmp_path: Path) -> None:
    url = made.write(tmp_path, made.runs(3), path=str(study))
    (tmp_path / "d.jsonl").unlink()
    test = page(url, "data_card").button(key="data_card_look").click().run()
    assert "d.jsonl" in test.error[0].value
    study.unlink()
    assert "is not on this machine" in shown(page(url, "data_card"))
