"""Scores equal the published rules, restated here from the papers' scripts in their own, slower words."""

import collections
import random
import re
import string
import sys
import unicodedata

import pytest

from workbench.errors import UsageError
from workbench.tasks.squad_score import ARTICLES, squad_score

# The rules of SQuAD v2's evaluation.


def squad_normal(answer):
    answer = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer).split())


def squad_f1(gold, given):
    gold, given = squad_normal(gold).split(), squad_normal(given).split()
    if not gold or not given:
        return int(gold == given)
    same = sum((collections.Counter(gold) & collections.Counter(given)).values())
    if not same:
        return 0
    precision, recall = same / len(given), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def squad_rules(predictions, golds):
    exact = f1 = 0
    for given, texts in zip(predictions, golds, strict=True):
        texts = [each for each in texts if squad_normal(each)] or [""]
        exact += max(int(squad_normal(each) == squad_normal(given)) for each in texts)
        f1 += max(squad_f1(each, given) for each in texts)
    return {"exact_match": 100 * exact / len(golds), "f1": 100 * f1 / len(golds)}


# The rules of MLQA's evaluation: as SQuAD v1.1, with the language's articles, Unicode's punctuation, mixed segmentation.

PUNCTUATION = {chr(i) for i in range(sys.maxunicode) if unicodedata.category(chr(i))[0] == "P"} | set(string.punctuation)
MLQA_ARTICLES = {
    "de": "ein eine einen einem eines einer der die das den dem des",
    "es": "un una unos unas el la los las",
    "vi": "của là cái chiếc những",
}


def mlqa_tokens(answer, language):
    answer = "".join(c for c in answer.lower() if c not in PUNCTUATION)
    if language in MLQA_ARTICLES:
        answer = re.sub(r"\b(" + "|".join(MLQA_ARTICLES[language].split()) + r")\b", " ", answer)
    if language == "ar":
        answer = re.sub(r"\sال^|ال", " ", answer)
    if language != "zh":
        return answer.split()
    tokens, run = [], ""
    for character in answer:
        if re.search("[\u4e00-\u9fa5]", character):
            tokens += [*run.split(), character]
            run = ""
        else:
            run += character
    return tokens + run.split()


def mlqa_rules(predictions, golds, language):
    exact = f1 = 0
    for given, texts in zip(predictions, golds, strict=True):
        a = mlqa_tokens(given, language)
        scores = []
        for each in texts:
            b = mlqa_tokens(each, language)
            same = sum((collections.Counter(a) & collections.Counter(b)).values())
            scores.append((a == b, 2 * same / (len(a) + len(b)) if same else 0))
        exact += max(score[0] for score in scores)
        f1 += max(score[1] for score in scores)
    return {"exact_match": 100 * exact / len(golds), "f1": 100 * f1 / len(golds)}


ENGLISH = [  # prediction, gold answers, exact match, F1
    ("The Aare", ["Aare"], 100, 100),  # articles and case
    ("in 1912!", ["1912", "in 1912"], 100, 100),  # punctuation, and the best of several
    ("the last keeper, Mr. Bayard", ["Bayard", "Mr Bayard"], 0, 200 * 2 / 6),
    ("coffee", ["“coffee”"], 0, 0),  # only ASCII's punctuation is left out
    ("tea soup", ["tea, soup"], 100, 100),
    ("no-one", ["noone"], 100, 100),
    ("tea tea tea", ["tea"], 0, 50),  # counted as often as it stands in both
    ("", [], 100, 100),  # no answer where there is none
    ("something", [], 0, 0),
    ("", ["something"], 0, 0),
    ("the", [], 100, 100),  # nothing is left of it: no answer
    ("", ["the"], 100, 100),
    ("", ["the", "cat"], 0, 0),  # a gold answer that nothing is left of does not count beside another
    ("a  b\tc", ["b c"], 100, 100),
]


@pytest.mark.parametrize(("given", "golds", "exact", "f1"), ENGLISH)
def test_each_rule_of_squad(given, golds, exact, f1):
    assert squad_score([given], [golds]) == pytest.approx({"exact_match": exact, "f1": f1}, abs=1e-4)
    assert squad_rules([given], [golds]) == pytest.approx({"exact_match": exact, "f1": f1})


def test_many_random_answers_score_as_the_published_rules_say():
    rng = random.Random(0)
    words = ["the", "a", "an", "An", "cat", "Cat.", "(dog)", "«dog»", "3.5", "x_y", "don't", "über", "-", "  "]

    def answer():
        return " ".join(rng.choices(words, k=rng.randint(0, 5)))

    predictions = [answer() for _ in range(400)]
    golds = [[answer() for _ in range(rng.randint(0, 3))] for _ in range(400)]
    assert squad_score(predictions, golds) == pytest.approx(squad_rules(predictions, golds), abs=1e-3)


@pytest.mark.parametrize(
    ("language", "given", "golds", "exact", "f1"),
    [
        ("de", "Die Aare", ["Aare"], 100, 100),
        ("de", "der „Kaffee“", ["Kaffee"], 100, 100),  # all punctuation of Unicode
        ("de", "the Kaffee", ["Kaffee"], 0, 200 * 1 / 3),  # no English articles
        ("de", "einen Tee – und Suppe", ["Tee und Suppe", "Suppe"], 100, 100),
        ("zh", "黑豹队", ["黑豹"], 0, 80),  # by character
        ("zh", "308 分，", ["308分"], 100, 100),
        ("zh", "NFL 美式足球", ["美式足球（NFL）"], 0, 100),
        ("es", "La Habana", ["habana"], 100, 100),
        ("ar", "القاهرة", ["قاهرة"], 100, 100),
        ("vi", "những ngôi nhà", ["ngôi nhà"], 100, 100),
        ("hi", "दिल्ली।", ["दिल्ली"], 100, 100),
    ],
)
def test_each_rule_of_mlqa(language, given, golds, exact, f1):
    assert squad_score([given], [golds], language) == pytest.approx({"exact_match": exact, "f1": f1})
    assert mlqa_rules([given], [golds], language) == pytest.approx({"exact_match": exact, "f1": f1})


@pytest.mark.parametrize("language", sorted(set(ARTICLES) - {"en"}))
def test_no_answer_in_every_language(language):
    assert squad_score(["", "x", ""], [[], [], ["x"]], language) == pytest.approx({"exact_match": 100 / 3, "f1": 100 / 3})


@pytest.mark.parametrize("language", ["de", "zh", "es", "vi"])
def test_many_random_answers_score_as_mlqa_says(language):
    rng = random.Random(1)
    words = ["die", "der", "el", "las", "là", "Tee", "Tee.", "„Tee“", "黑豹", "队", "，", "NFL", "308分", "của"]

    def answer():
        return rng.choice(["", " "]).join(rng.choices(words, k=rng.randint(1, 5))) + "x"

    predictions = [answer() for _ in range(300)]
    golds = [[answer() for _ in range(rng.randint(1, 3))] for _ in range(300)]
    assert squad_score(predictions, golds, language) == pytest.approx(mlqa_rules(predictions, golds, language))


def test_an_unknown_language_and_no_question_are_errors():
    with pytest.raises(UsageError, match=r"no published rule.*Known: ar, de, en"):
        squad_score(["x"], [["x"]], "tlh")
    with pytest.raises(UsageError, match="empty"):
        squad_score([], [])
