"""Bad inputs, a thousand of them from one seed: study files, data files, flags, stores and models as people get them wrong.

Each is `Bad(kind, name, …)`. One that is `surely` bad must be refused; what was damaged at random may turn out to be good after all.
"""

# ruff: noqa: E501  tables of wrong values, one a line

import json
import math
import random
import shutil
import sqlite3
import string
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = 15

STUDY = '''"""Which?"""

from workbench import Recipe, Study, bitfit, choice, full, head, integers, loguniform, peft, uniform
from workbench.tasks import question_answering

study = Study(
    Recipe(
        task=question_answering("d.jsonl", train=8, dev=8, test=4, max_length=32, stride=4),
        model="./tiny",
        method=choice(full(learning_rate=loguniform(1e-3, 1e-2)), peft("lora", learning_rate=1e-3, r=choice(2, 4))),
        epochs=integers(1, 2),
        batch_size=4,
        warmup_steps=2,
        weight_decay=0.0,
        max_grad_norm=1.0,
        averaging=4.0,
        precision="float32",
        seed=0,
    ),
    maximize="f1",
    minimize="usd",
    label_usd=0.0,
    platform="local",
    trials=2,
    max_usd=1.0,
)
'''


@dataclass(frozen=True)
class Bad:
    """A bad input.

    Attributes:
        kind: study, data, flags, store or model.
        name: What is wrong with it.
        make: Writes it into a folder that holds good ones.
        words: The command that meets it; None where the reader of its kind is called.
        surely: It must be refused; else it must only not end in a traceback.
    """

    kind: str
    name: str
    make: Callable[[Path], None]
    words: tuple[str, ...] | None = None
    surely: bool = True


def done(*_: object) -> None:
    """Nothing, after all that."""


def everything() -> list[Bad]:
    """All of them, the same at every call."""
    rng = random.Random(SEED)
    return [*_studies(rng), *_data(rng), *_flags(), *_stores(rng), *_models(rng)]


def rows(count: int = 40) -> list[dict[str, Any]]:
    """Good questions."""
    rng, found = random.Random(1), []
    for i in range(count):
        who, town = rng.choice(["Ada", "Bert", "Cleo", "Dora"]), rng.choice(["Bern", "Oslo", "Riga", "Pisa"])
        context = f"In {1900 + i} the engineer {who} moved to {town} and built mill number {i} beside the river."
        question = f"Where did {who} move in {1900 + i}?"
        found.append(
            {
                "id": f"q{i}",
                "question": question,
                "context": context,
                "answers": {"text": [town], "answer_start": [context.index(town)]},
            }
        )
    return found


def write_rows(file: Path, found: list[Any]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")


# Study files

_FIELDS: dict[str, tuple[str, ...]] = {
    "epochs=integers(1, 2)": (
        "epochs=-2", "epochs=-1", "epochs=float('nan')", "epochs=float('inf')", "epochs='two'", "epochs=None", "epochs=[]",
        "epochs=True", "epochs=integers(-1, 2)", "epochs=integers(2, 1)", "epochs=integers(1.5, 2)", "epochs=uniform(1, 1)",
        "epochs=choice()", "epochs=choice(1, -1)", "epochs=loguniform(0, 1)", "epochs=10**400", "epochs=integers", "epochs=1j",
    ),
    "batch_size=4": (
        "batch_size=0", "batch_size=-4", "batch_size=1.5", "batch_size='4'", "batch_size=None", "batch_size=True",
        "batch_size=float('nan')", "batch_size=choice(0, 4)", "batch_size=loguniform(1, 8)", "batch_size=[4]",
    ),
    "warmup_steps=2": ("warmup_steps=-1", "warmup_steps=1.5", "warmup_steps='2'", "warmup_steps=None", "warmup_steps=float('inf')"),
    "weight_decay=0.0": ("weight_decay=-0.1", "weight_decay='0'", "weight_decay=float('nan')", "weight_decay=None", "weight_decay=uniform(-1, 1)"),
    "max_grad_norm=1.0": ("max_grad_norm=0", "max_grad_norm=-1", "max_grad_norm='1'", "max_grad_norm=float('nan')"),
    "averaging=4.0": ("averaging=-1", "averaging='4'", "averaging=float('nan')", "averaging=[]"),
    'precision="float32"': ("precision='int8'", "precision=32", "precision=None", "precision='FLOAT32'", "precision=choice('float32', 'fp8')"),
    "seed=0": ("seed=-1", "seed=0.5", "seed='0'", "seed=None", "seed=True"),
    'model="./tiny"': (
        "model=''", "model=3", "model=None", "model='./nowhere'", "model='minilm-l7'", "model='/'", "model='.'", "model=['./tiny']",
        "model='d.jsonl'", "model='no such model'", "model=choice('./tiny', './nowhere')", "model='../..'", "model='~nobody/x'",
    ),
    "train=8": (
        "train=0", "train=-1", "train=1.5", "train='8'", "train=None", "train=10**9", "train=float('nan')", "train=choice(8, 10**6)",
        "train=True",
    ),
    "dev=8": ("dev=0", "dev=-1", "dev='8'", "dev=1.5", "dev=None"),
    "test=4": ("test=-1", "test='4'", "test=0.5", "test=4, max_answer_tokens=0", "test=4, language='xx'", "test=4, language=None",
               "test=4, seed=-1", "test=4, seed=None", "test=4, null_threshold='x'", "test=4, null_threshold=float('nan')", "test=4, name=3"),
    "max_length=32": ("max_length=8", "max_length=0", "max_length='32'", "max_length=10**6", "max_length=33", "max_length=None"),
    "stride=4": ("stride=-1", "stride=10**4", "stride='4'", "stride=31", "stride=None"),
    '"d.jsonl"': ("''", "None", "3", "'nowhere.jsonl'", "'.'", "'/dev/null'", "'s.py'", "'./tiny'", "b'd.jsonl'", "'d.jsonl\\0'", "'x' * 5000"),
    "learning_rate=loguniform(1e-3, 1e-2)": (
        "learning_rate=0", "learning_rate=-1e-3", "learning_rate=float('nan')", "learning_rate='1e-3'", "learning_rate=None",
        "learning_rate=loguniform(0, 1)", "learning_rate=loguniform(1, 0.1)", "learning_rate=loguniform('a', 'b')",
        "learning_rate=loguniform(1e-3, float('inf'))", "learning_rate=loguniform(float('nan'), 1)", "learning_rate=uniform(-1, 1)",
        "learning_rate=choice()", "learning_rate=float('inf')", "rate=1e-3", "",
    ),
    'peft("lora"': ("peft('lroa'", "peft(None", "peft(3", "peft(''", "peft('lora', q=1", "peft('lora', target_modules=['nowhere']", "peft('lora', target_modules=3"),
    "r=choice(2, 4)": ("r=0", "r=-1", "r='two'", "r=choice(2, 0)", "r=None", "r=1.5", "rank=4", "r=[2]"),
    'maximize="f1"': ("maximize='F2'", "maximize=None", "maximize=3", "maximize=''", "maximize=('f1',)", "maximize='usd'", ""),
    'minimize="usd"': ("minimize='us'", "minimize=()", "minimize=3", "minimize=('usd', 'usd')", "minimize=None", "minimize=('usd', 'f1')", "minimize={'usd'}"),
    "label_usd=0.0": ("label_usd=-1", "label_usd='0'", "label_usd=float('nan')", "label_usd=float('inf')", "label_usd=choice(0, 1)", "label_usd=None"),
    'platform="local"': ("platform='nowhere'", "platform=3", "platform=''", "platform=None", "platform='local:'"),
    "trials=2": ("trials=0", "trials=-1", "trials=1.5", "trials='2'", "trials=True", "trials=integers(1, 2)", "trials=float('inf')"),
    "max_usd=1.0": ("max_usd=0", "max_usd=-1", "max_usd='1'", "max_usd=float('nan')", "max_usd=float('inf')", "max_usd=[1]"),
    "study = Study(": ("study = other = Study(", "study = (", "Study(", "study = Study(3, ", "study = Study(None, ", "study = dict("),
}  # fmt: skip
"""Of each part of the good study what people write in its place. `study = other = Study(` alone is right."""

_WHOLE: dict[str, bytes] = {
    "empty": b"",
    "no text": bytes(range(256)),
    "latin-1": STUDY.replace("Which?", "Größe?").encode("latin-1"),
    "utf-16": STUDY.encode("utf-16"),
    "zeros": b"\0" * 100,
    "a notebook": json.dumps({"cells": [], "nbformat": 4}).encode(),
    "no study": b"x = 1\n",
    "two studies": (STUDY + STUDY.replace("study = Study", "again = Study").replace("trials=2", "trials=3")).encode(),
    "an error": b"1 / 0\n",
    "an exit": b"import sys\nsys.exit(0)\n",
    "a missing package": b"import no_such_package\n",
    "a relative import": b"from . import x\n",
    "endless recursion": b"def f(): return f()\nf()\n",
    "a name": b"study\n",
    "yaml": b"study:\n  model: x\n",
    "an odd error": b"class E(Exception):\n    def __str__(self): raise ValueError\nraise E\n",
    "deep nesting": b"x = " + b"(" * 300 + b")" * 300 + b"\n",
    "an unclosed string": b'study = "\n',
    "a carriage return": STUDY.replace("\n", "\r\r").encode()[:300],
}


def _studies(rng: random.Random) -> Iterator[Bad]:
    def text(content: bytes) -> Callable[[Path], None]:
        return lambda folder: done((folder / "s.py").write_bytes(content))

    for old, news in _FIELDS.items():
        assert old in STUDY, old
        for new in news:
            changed = STUDY.replace(next(t for t in (f"{old}, ", f"{old},", old) if (new == "" and t in STUDY) or t == old), new, 1)
            yield Bad("study", new or f"without {old}", text(changed.encode()), surely=new != "study = other = Study(")
    for name, content in _WHOLE.items():
        yield Bad("study", name, text(content))
    names = [
        word.split("=")[0].strip()
        for line in STUDY.splitlines()
        for word in line.split(",")
        if "=" in word and "(" not in word.split("=")[0]
    ]
    for name in dict.fromkeys(n for n in names if n.isidentifier() and n != "study"):
        wrong = name[:-1] + rng.choice(string.ascii_lowercase.replace(name[-1], ""))
        yield Bad("study", f"{wrong} for {name}", text(STUDY.replace(f"{name}=", f"{wrong}=", 1).encode()))
    for i in range(60):
        at = rng.randrange(60, len(STUDY) - 10)
        cut = STUDY[:at] + STUDY[at + rng.randint(1, 4) :]
        yield Bad("study", f"damage {i} at {at}", text(cut.encode()), surely=False)


# Data files


def _row_faults() -> dict[str, Callable[[dict[str, Any]], Any]]:
    def answers(**changes: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda row: {**row, "answers": {**row["answers"], **changes}}

    def field(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda row: {**row, name: value}

    def without(name: str) -> Callable[[dict[str, Any]], Any]:
        return lambda row: {key: value for key, value in row.items() if key != name}

    faults: dict[str, Callable[[dict[str, Any]], Any]] = {}
    for name in ("question", "context"):
        for value in (None, 3, True, [], {}, ["text"], math.nan, "\ud83d", "a\ud800b"):
            faults[f"{name} {value!r}"] = field(name, value)
        faults[f"without {name}"] = without(name)
    faults["without answers"] = without("answers")
    for value in (
        3,
        True,
        "Bern",
        [3],
        ["Bern"],
        [[]],
        {},
        {"text": "Bern"},
        {"text": ["Bern"]},
        {"answer_start": [3]},
        math.nan,
        [None],
        [{}],
    ):
        faults[f"answers {value!r}"] = field("answers", value)
    for start in (None, "x", 1.5, -1, -5, 10**6, True, [3], math.nan, 10**30, math.inf, {}):
        faults[f"answer_start {start!r}"] = answers(answer_start=[start])
    faults["answer_start off by one"] = lambda row: {
        **row,
        "answers": {**row["answers"], "answer_start": [row["answers"]["answer_start"][0] + 1]},
    }
    faults["more starts than texts"] = answers(answer_start=[1, 2])
    faults["more texts than starts"] = answers(text=["a", "b"])
    for value in (None, 3, [""], [None], [3], [["Bern"]], "Bern", [True], ["\ud83d"], [math.nan], ["not there"]):
        faults[f"text {value!r}"] = answers(text=value)
    for value in ("maybe", 2, 0.5, [], {}, "nein?", -1, "yes please", [False]):
        faults[f"is_impossible {value!r}"] = field("is_impossible", value)
    faults["impossible with an answer"] = field("is_impossible", True)
    for value in ([], {}, [1], "\ud83d"):
        faults[f"id {value!r}"] = field("id", value)
    for value in (None, 3, "row", [], [1, 2], True, 1.5, ""):
        faults[f"a row {value!r}"] = lambda row, value=value: value
    return faults


def _data(rng: random.Random) -> Iterator[Bad]:
    good = rows()
    lines = "".join(json.dumps(row) + "\n" for row in good).encode()
    squad = {"version": "1.1", "data": [{"title": "t", "paragraphs": [
        {"context": row["context"], "qas": [{"id": row["id"], "question": row["question"], "answers": [
            {"text": row["answers"]["text"][0], "answer_start": row["answers"]["answer_start"][0]}]}]} for row in good]}]}  # fmt: skip

    def of_rows(found: list[Any]) -> Callable[[Path], None]:
        return lambda folder: write_rows(folder / "d.jsonl", found)

    def of_bytes(name: str, content: bytes) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            (folder / "d.jsonl").unlink()
            (folder / name).write_bytes(content)

        return make

    for name, fault in _row_faults().items():
        for place in (0, len(good) - 1):
            found: list[Any] = list(good)
            found[place] = fault(good[place])
            yield Bad("data", f"{name}, row {place}", of_rows(found))
    yield Bad("data", "two rows of one id", of_rows([*good, good[0]]))
    yield Bad("data", "one row", of_rows(good[:1]))
    yield Bad("data", "one paragraph", of_rows([{**good[0], "id": str(i)} for i in range(20)]))

    contents = {
        "empty": b"", "spaces": b"  \n \n", "zeros": b"\0" * 50, "no JSON": b"hello\n", "half a line": lines[: len(lines) // 2 + 7],
        "utf-16": lines.decode().encode("utf-16"), "latin-1": lines.replace(b"river", "Flüßchen".encode("latin-1")),
        "a number of 5,000 digits": b'{"id": ' + b"9" * 5000 + b"}\n", "deep nesting": b"[" * 100_000, "deep objects": b'{"a":' * 100_000,
        "infinity": b"Infinity\n", "nan": b"NaN\n", "a list of numbers": b"[1, 2, 3]", "a string": b'"text"', "true": b"true", "null": b"null",
        "a zip": b"PK\x03\x04" + bytes(60), "a gzip that is none": b"\x1f\x8b" + bytes(40), "html": b"<!doctype html><p>404: not found</p>",
        "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "yaml": b"- id: 1\n  question: x\n",
        "csv": b"id,question\n1,x\n", "a key twice": b'{"id": 1, "id": 2, "question": "q"}\n', "a comma too many": b'{"id": 1,}\n',
        "single quotes": b"{'id': 1}\n", "a comment": b"// data\n" + lines, "parquet's magic": b"PAR1" + bytes(60) + b"PAR1",
    }  # fmt: skip
    for name, content in contents.items():
        for file in ("d.jsonl", "d.json", "d.parquet"):
            yield Bad("data", f"{name} as {file}", of_bytes(file, content))
    for key in ("data", "paragraphs", "qas", "context", "question", "answers", "text", "answer_start"):
        for value in (None, 3, "x", [], {}, [3], [None]):
            text = json.dumps(_replaced(squad, key, value))
            harmless = (
                (key == "qas" and value == [])
                or (key == "answers" and value in ([], None))
                or (key in ("context", "question", "text") and value == "x" and key == "question")
            )
            yield Bad("data", f"squad with {key} {value!r}", of_bytes("d.json", text.encode()), surely=not harmless)
    for i in range(60):
        damaged = bytearray(lines)
        for _ in range(rng.randint(1, 5)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        yield Bad("data", f"damage {i}", of_bytes("d.jsonl", bytes(damaged)), surely=False)
    for i in range(20):
        cut = rng.randrange(1, len(lines))
        yield Bad("data", f"cut {i} at {cut}", of_bytes("d.jsonl", lines[:cut]), surely=not lines[:cut].endswith((b"\n", b"}")))


def _replaced(value: Any, key: str, new: Any) -> Any:
    """The same with the first `key` in it, anywhere, set to `new`."""
    if isinstance(value, dict):
        if key in value:
            return {**value, key: new}
        return {name: _replaced(inner, key, new) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, key, new) if i == 0 else inner for i, inner in enumerate(value)]
    return value


# Flags

_NUMBERS = ("0", "-1", "x", "", "nan", "1e999", "1,5", "0x10", "--", "None")
_FLAGS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("sweep", "s.py", "--trials"): ("0", "-1", "x", "", "1.5", "nan", "1e3", "99" * 200),
    ("sweep", "s.py", "--max-usd"): _NUMBERS,
    ("sweep", "s.py", "--max-hours"): _NUMBERS,
    ("sweep", "s.py", "--max-energy-kwh"): _NUMBERS,
    ("sweep", "s.py", "--max-labels"): ("0", "-1", "x", "1.5", "nan"),
    ("sweep", "s.py", "--workers"): ("0", "-1", "x", "1.5"),
    ("sweep", "s.py", "--seed"): ("-1", "x", "1.5"),
    ("sweep", "s.py", "--stop-below"): _NUMBERS,
    ("sweep", "s.py", "--confirm-share"): ("0", "1", "-0.5", "nan", "x", "2"),
    ("sweep", "s.py", "--confirm-seeds"): ("0", "-1", "x"),
    ("sweep", "s.py", "--log-samples"): ("-1", "x", "1.5"),
    ("sweep", "s.py", "--sampler"): ("nobody", "optuna:", "optuna:NoSampler", "", "optuna:Study", "optuna:../x", "front:x"),
    ("sweep", "s.py", "--platform"): ("nowhere", "", "aws:", ":::", "local:cpu:owned:x:y", "aws:g5.xlarge:moon"),
    ("sweep", "s.py", "--label-usd"): ("-1", "x", "nan", "inf", "1e999"),
    ("sweep", "s.py", "--storage"): ("x", "", "sqlite://", "nosuch://x/y", "sqlite:///no/such/folder/x.db", "postgresql+psycopg2://127.0.0.1:1/x",
                                     "sqlite:///.", "http://127.0.0.1:1", "sqlite:///:memory:", "sqlite:///tiny", "://"),
    ("plan", "s.py", "--trials"): ("0", "-1", "x"),
    ("plan", "s.py", "--max-usd"): _NUMBERS,
    ("plan",): ("nowhere.py", "d.jsonl", "tiny", "", "s", "."),
    ("sweep",): ("nowhere.py", "d.jsonl", "tiny", "", ".", "s.pyc"),
    ("front",): ("nobody", "d.jsonl", "tiny", "--budget-usd=x", "--target=x", "--adopted=0", "--load=-1", "--against=x", "--platform=nowhere",
                 "--label-usd=nan", "--html=no/such/folder/x.html", "--no-such-flag", "--budget-usd=nan", "--target=nan", "--load=nan"),
    ("runs",): ("nobody", "--status=x", "--platform=nowhere", "--storage=x"),
    ("run",): ("", "nosuch", "999999", "-5", "--study=nobody"),
    ("export",): ("", "qa", "qa xml", "nobody csv", "qa csv --output=no/such/folder/x.csv", "qa parquet --output=."),
    ("status",): ("nobody", "--storage=x", "d.jsonl"),
    ("confirm",): ("nowhere.py", "s.py --seeds=0", "s.py --seeds=x", "s.py --max-usd=nan", "s.py --max-hours=-1", "d.jsonl"),
    ("retry",): ("", "nobody", "qa nosuch", "qa 99999", "nowhere.py"),
    ("import",): ("", "nothing .", "peft-comparison nowhere", "peft-comparison .", "peft-comparison d.jsonl"),
    ("replay",): ("", "nowhere.jsonl", "d.jsonl", "tiny", "s.py", "d.jsonl --methods=x", "d.jsonl --seeds=0", "d.jsonl --budget=nan", "d.jsonl --workers=0"),
    ("dashboard",): ("--port=x", "--port=-1", "--port=99999999", "nobody --no-browser", "--host= --port=x"),
    ("prices",): ("--platform=nowhere --gpu=nothing", "--gpu", "--no-such-flag"),
    ("platforms",): ("nowhere.py", "s.py --trials=0", "d.jsonl"),
    ("completion",): ("", "tcsh", "bash zsh"),
    ("config",): ("nowhere.py", "--no-such-flag"),
    ("init",): ("s.py", "tiny", ""),
    (): ("nonsense", "sweeep s.py", "--no-such-flag", "-z"),
}  # fmt: skip


def _flags() -> Iterator[Bad]:
    for command, values in _FLAGS.items():
        option = command[-1] if command and command[-1].startswith("--") else ""
        for value in values:
            words = (*command[:-1], f"{option}={value}") if option else (*command, *(value.split() or ([""] if command else [])))
            if (
                not option
                and value == ""
                and command in (("run",), ("export",), ("retry",), ("import",), ("replay",), ("completion",))
            ):
                words = command
            harmless = (command, value) in (
                (("sweep", "s.py", "--sampler"), ""), (("sweep", "s.py", "--platform"), ""), (("sweep", "s.py", "--storage"), ""),
            )  # fmt: skip
            yield Bad("flags", " ".join(words), lambda folder: None, words, surely=not harmless)


# Stores


def _stores(rng: random.Random) -> Iterator[Bad]:
    def content(data: bytes) -> Callable[[Path], None]:
        return lambda folder: done((folder / "optuna.db").write_bytes(data))

    def sql(*statements: str) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            with sqlite3.connect(folder / "optuna.db") as store:
                for statement in statements:
                    store.execute(statement)
            store.close()

        return make

    def flipped(seed: int) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            own = random.Random(seed)
            data = bytearray((folder / "optuna.db").read_bytes())
            for _ in range(40):
                data[own.randrange(100, len(data))] = own.randrange(256)
            (folder / "optuna.db").write_bytes(bytes(data))

        return make

    kinds = {
        "empty": content(b""),
        "no database": content(b"hello" * 100),
        "zeros": content(bytes(8192)),
        "a header alone": content(b"SQLite format 3\0" + bytes(84)),
        "a folder": lambda folder: done((folder / "optuna.db").unlink(), (folder / "optuna.db").mkdir()),
        "missing": lambda folder: (folder / "optuna.db").unlink(),
        "another program's": lambda folder: done((folder / "optuna.db").unlink(), sql("CREATE TABLE t (a INT)")(folder)),
        "no trials table": sql("DROP TABLE trials"),
        "no attributes": sql("DELETE FROM study_user_attributes"),
        "attributes of another kind": sql("UPDATE study_user_attributes SET value_json = '3'"),
        "attributes that are no JSON": sql("UPDATE study_user_attributes SET value_json = '{'"),
        "results of another kind": sql("UPDATE trial_user_attributes SET value_json = '[]'"),
        "results that are no JSON": sql("UPDATE trial_user_attributes SET value_json = 'x'"),
        "results without fields": sql("UPDATE trial_user_attributes SET value_json = '{}'"),
        "a later version": sql("UPDATE alembic_version SET version_num = 'v9.9.9'"),
    }
    commands = (("front", "qa"), ("status", "qa"), ("runs", "qa"), ("export", "qa", "csv"), ("sweep", "s.py", "--trials=1"))
    broken = {"no database", "zeros", "a header alone", "a folder", "a later version"}
    for name, make in kinds.items():
        for words in commands:
            if words[0] != "sweep" or name in broken:  # beside what is foreign in a store a sweep finds its place
                foreign = "attributes" in name or name.startswith("results")
                yield Bad("store", f"{name}: {' '.join(words)}", make, words, surely=not foreign)
    for i in range(20):
        yield Bad("store", f"damage {i}", flipped(rng.randrange(10**6)), commands[i % 4], surely=False)


# Models


def _models(rng: random.Random) -> Iterator[Bad]:
    def config(**changes: Any) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            file = folder / "tiny" / "config.json"
            known = json.loads(file.read_text())
            file.write_text(json.dumps({k: v for k, v in (known | changes).items() if v != "-"}))

        return make

    def content(name: str, data: bytes) -> Callable[[Path], None]:
        return lambda folder: done((folder / "tiny" / name).write_bytes(data))

    def gone(*names: str) -> Callable[[Path], None]:
        return lambda folder: done(*[(folder / "tiny" / name).unlink() for name in names])

    def cut(name: str, share: float) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            file = folder / "tiny" / name
            file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])

        return make

    def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            file = folder / "tiny" / "model.safetensors"
            data = file.read_bytes()
            size = struct.unpack("<Q", data[:8])[0]
            text = json.dumps(change(json.loads(data[8 : 8 + size]))).encode()
            file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

        return make

    def tokenizer(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            file = folder / "tiny" / "tokenizer.json"
            file.write_text(json.dumps(change(json.loads(file.read_text()))))

        return make

    shapes = {
        "hidden_size": (0, -1, 33, "32", None, 64, 31), "num_hidden_layers": (-1, "2", 3, 50, None, 1.5), "num_attention_heads": (0, -2, 5, "2"),
        "intermediate_size": (0, "64", 128, None), "vocab_size": (0, -1, 10, "x", 10**9), "max_position_embeddings": (0, 8, "32", 64),
        "model_type": ("nosuch", "", 3, None, "-", "gpt2", "t5", "vit"), "hidden_act": ("nosuch", 3, None), "type_vocab_size": (0, "x", 5),
        "auto_map": ({"AutoConfig": "x.Y", "AutoModel": "x.Z"},), "layer_norm_eps": ("x",), "hidden_dropout_prob": ("x", 2, -1),
    }  # fmt: skip
    unsure = {("num_hidden_layers", None), ("hidden_act", None), ("auto_map", "")}
    for key, values in shapes.items():
        for value in values:
            surely = (key, value if not isinstance(value, dict) else "") not in unsure
            yield Bad("model", f"config with {key} {value!r}", config(**{key: value}), surely=surely)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        yield Bad("model", f"{name} gone", gone(name))
        for data in (b"", b"hello", bytes(100), b"{}", b"[]", b"null", b'{"a": 1}'):
            yield Bad("model", f"{name} is {data[:8]!r}", content(name, data))
        for share in (0.1, 0.5, 0.99):
            yield Bad("model", f"{name} cut at {share}", cut(name, share))
    for prefix in ("_orig_mod.", "module.", "model.", "x."):
        renamed = header(lambda names, prefix=prefix: {(k if k == "__metadata__" else prefix + k): v for k, v in names.items()})
        yield Bad("model", f"weights under {prefix}", renamed)
    yield Bad("model", "a layer is missing", header(lambda names: {k: v for k, v in names.items() if "layer.0." not in k}))
    yield Bad("model", "no metadata of weights", header(lambda names: {}))
    yield Bad(
        "model",
        "another type of numbers",
        header(lambda names: {k: ({**v, "dtype": "X9"} if k != "__metadata__" else v) for k, v in names.items()}),
    )
    yield Bad("model", "no vocabulary", tokenizer(lambda t: {**t, "model": {**t["model"], "vocab": {}}}))
    yield Bad("model", "a tokeniser's model of no kind", tokenizer(lambda t: {**t, "model": {"type": "nosuch"}}))
    more = {f"new{i}": 100_000 + i for i in range(10)}
    yield Bad(
        "model",
        "tokens beyond the embedding",
        tokenizer(lambda t: {**t, "model": {**t["model"], "vocab": {**t["model"]["vocab"], **more}}}),
        surely=False,
    )
    yield Bad(
        "model",
        "a folder for a file",
        lambda folder: done(gone("config.json")(folder), (folder / "tiny" / "config.json").mkdir()),
    )
    yield Bad("model", "nothing in the folder", lambda folder: done(shutil.rmtree(folder / "tiny"), (folder / "tiny").mkdir()))
    for i in range(20):
        seed = rng.randrange(10**6)

        def make(folder: Path, seed: int = seed) -> None:
            own, file = random.Random(seed), folder / "tiny" / ("config.json" if seed % 2 else "tokenizer.json")
            data = bytearray(file.read_bytes())
            for _ in range(3):
                data[own.randrange(len(data))] = own.randrange(32, 127)
            file.write_bytes(bytes(data))

        yield Bad("model", f"damage {i}", make, surely=False)
