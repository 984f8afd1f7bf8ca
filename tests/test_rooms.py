"""The README of each folder tells the truth: its commands, code, links, keys and figures are those of the package."""

import csv
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import click
import command_reference
import pytest

from workbench import carbon, prices, settings
from workbench.cli import _COMMANDS, cli
from workbench.front.objectives import View
from workbench.prices import this_machine
from workbench.report.records import front_record
from workbench.study import load
from workbench.sweep import ray_nodes

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "tests" / "benchmarks" / "results"
ROOMS = [
    "studies/README.md",
    "workbench/cli/README.md",
    "workbench/prices/README.md",
    "workbench/meter/README.md",
    "workbench/search/README.md",
    "workbench/serving/README.md",
    "dashboards/README.md",
    "tests/README.md",
    "tests/benchmarks/README.md",
]


def benchmark(name: str) -> Any:
    """A script of `benchmarks/`, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "benchmarks" / f"{name}.py")
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


engine, studies = benchmark("engine"), benchmark("studies")

NOT_OURS = {"--no-deps", "--help", "--quiet", "--no-progress", "--head", "--labels", "--address"}
"""Options of pip and of Ray, and those of all commands, which their help tells once."""


def text_of(room: str) -> str:
    return (ROOT / room).read_text(encoding="utf-8")


def words_of(room: str) -> str:
    return " ".join(text_of(room).split())


def block(room: str, language: str, behind: str = "") -> str:
    """The first fenced block of a language behind a heading."""
    found = re.search(rf"```{language}\n(.*?)```", text_of(room)[text_of(room).index(behind) :], re.S)
    assert found, (room, language, behind)
    return found[1]


def results(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def options_of(command: str) -> set[str]:
    ctx = click.Context(cli, help_option_names=["-h", "--help"])
    found = cli.get_command(ctx, command)
    assert found, f"there is no command {command}"
    return {name for param in found.params for name in param.opts}


# All rooms


def test_every_room_is_known() -> None:
    found = {
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("**/README.md") if not {".venv", ".pytest_cache"} & {*path.parts}
    }
    assert found == {*ROOMS, "README.md"}


@pytest.mark.parametrize("room", [*ROOMS, "README.md"])
def test_links_and_files_that_are_named_are_there(room: str) -> None:
    text = text_of(room)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        there = ((ROOT / room).parent / path) if path else ROOT / room
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, target
    for named in re.findall(r"`((?:tests/benchmarks/)?results/[\w./-]+|(?:tests|workbench|studies)/[\w/]+\.\w+)`", text):
        base = ROOT / "tests" / "benchmarks" if named.startswith("results/") else ROOT
        assert (base / named).exists(), named


@pytest.mark.parametrize("room", ROOMS)
def test_lines_are_short(room: str) -> None:
    table = room == "tests/benchmarks/README.md"  # whose tables are wide: a column for each search
    long = [line for line in text_of(room).splitlines() if len(line) > 100 and not (table and line.startswith("|"))]
    assert not long


@pytest.mark.parametrize("room", [*ROOMS, "README.md"])
def test_commands_and_options_are_those_that_there_are(room: str) -> None:
    text = text_of(room).split(command_reference.BEGIN)[0]
    everything = {option for command in _COMMANDS for option in options_of(command)}
    shown = re.findall(r"^(?:\$ )?workbench ([a-z]+)(.*?)(?: #.*)?$", text, re.M)
    for command, rest in [*re.findall(r"`workbench ([a-z]+)([^`]*)`", text), *shown]:
        assert set(re.findall(r"(?<!\S)--[a-z][\w-]+", rest)) <= options_of(command) | NOT_OURS, command
    for span in re.findall(r"`([^`\n]+)`", text):
        assert set(re.findall(r"(?<!\S)--[a-z][\w-]+", span)) <= everything | NOT_OURS, span


# The commands' room


def test_the_reference_is_what_the_commands_say() -> None:
    room = text_of("workbench/cli/README.md")
    assert command_reference.written(room) == room, "run `python tests/command_reference.py`"
    assert re.findall(r"^#### `workbench (\w+)", room, re.M) == [
        name for names in command_reference._GROUPS.values() for name in names
    ]


def test_the_keys_told_are_those_that_are_printed(swept: Any, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, printed = swept
    monkeypatch.chdir(folder)
    told = text_of("workbench/cli/README.md").split("## JSON", 1)[1].split("## Reference")[0]
    fronts, runs = (json.loads(each) for each in re.findall(r"```json\n(.*?)```", told, re.S))
    record = json.loads(printed.stdout)
    assert 0 < record["efficiency"]["useful_tokens"] <= 1
    assert 0 < record["efficiency"]["busy"] < 1
    assert set(fronts) == set(record) == set(json.loads(command("front", "--json")[1]))
    points, others = (part.split("\n\n`confirmed`")[0] for part in told.split("The other commands:"))
    of_point = {key for row in re.findall(r"^\| (`.*?) \|", points, re.M) for key in re.findall(r"`(\w+)`", row)}
    assert of_point == set(record["points"][0])
    printed_runs = json.loads(command("runs", "--json")[1])
    assert len(set(runs)) == len(runs)
    assert set(runs) <= set(printed_runs[0]) <= set(runs) | of_point
    words = {
        "run": ("0",),
        "data": ("tiny.py",),
        "forget": ("tiny.py", "--text", "w7"),
        "plan": ("tiny.py",),
        "platforms": ("tiny.py",),
        "status": (),
        "prices": (),
        "config": (),
        "doctor": (),
    }
    rows = dict(re.findall(r"^\| `workbench (\w+)[^`]*` \| (.*) \|$", others, re.M))
    assert rows.keys() == words.keys()
    for name, more in words.items():
        shown = json.loads(command(name, *more, "--json")[1])
        kind, keys = rows[name].split(" | ")
        assert isinstance(shown, list) == kind.startswith("a list")
        one = shown[0] if isinstance(shown, list) else shown
        named = set(re.findall(r"`(\w+)`", keys))
        assert named <= set(one), name
        assert "…" in keys or named == set(one), name
        if name == "data":
            cards = {
                key
                for row in re.findall(r"^\| (`.*?) \|", others.split("keys of a card")[1], re.M)
                for key in re.findall(r"`(\w+)`", row)
            }
            assert cards == set(one["tasks"][0])


def test_the_keys_told_of_what_was_confirmed_are_those_that_are_written() -> None:
    import ast

    told = re.search(r"`confirmed` has (.*?)\.\n", text_of("workbench/cli/README.md"), re.S)
    assert told
    files = sorted((ROOT / "workbench" / "report").glob("*.py"))
    source = "".join(ast.unparse(ast.parse(path.read_text(encoding="utf-8"))) for path in files)
    assert all(f"'{key}':" in source for key in re.findall(r"`(\w+)`", told[1]))


def test_a_model_of_the_front_is_used_as_it_says(swept: Any, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = swept
    monkeypatch.chdir(folder)
    front = json.loads(command("front", "--json")[1])
    shown = block("workbench/cli/README.md", "pycon").replace("studies/qa.py", "tiny.py")
    lines = [line[4:] for line in shown.splitlines() if line.startswith(">>> ")]
    names: dict[str, Any] = {"front": front, "point": next(p for p in front["points"] if p["on_front"])}
    exec("\n".join(lines), names)
    assert sum(p.numel() for p in names["model"].parameters()) > 0


# Prices


def test_the_price_book_has_as_many_offers_as_it_says() -> None:
    said = re.search(r"ships (\d+) offers.*? of (\d+) GPUs", words_of("workbench/prices/README.md"))
    assert said
    assert (int(said[1]), int(said[2])) == (len(prices.load()), len(prices.gpus()))


def test_the_grids_are_as_many_as_it_says() -> None:
    said = re.search(r"has (\d+) regions and countries", words_of("workbench/prices/README.md"))
    assert said
    with (ROOT / "workbench" / "carbon.csv").open(encoding="utf-8", newline="") as file:
        assert int(said[1]) == len({row["region"] for row in csv.DictReader(file)} - {"world"})


def test_the_settings_shown_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "workbench.toml"
    shown = block("workbench/prices/README.md", "toml")
    path.write_text(shown.replace("or g_co2e_per_kwh = …", ""), encoding="utf-8")
    monkeypatch.setenv("WORKBENCH_SETTINGS", str(path))
    assert settings.load().options == {"platform": "office", "label_usd": 0.05}
    office, quoted = prices.find("office"), prices.find("acme")
    assert office.usd_per_kwh is not None
    assert float(office.usd_per_hour) == pytest.approx(3200 / (4 * 8760 * 0.3))
    assert float(quoted.usd_per_hour) == pytest.approx(0.92 * 1.08)
    assert carbon.intensity(office).g_co2e_per_kwh == pytest.approx(380.95)


def test_the_machines_shown_are_priced_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = "workbench/cli/README.md"
    path = tmp_path / "workbench.toml"
    path.write_text(block(room, "toml", behind="## Several machines"), encoding="utf-8")
    monkeypatch.setenv("WORKBENCH_SETTINGS", str(path))
    assert {"storage", "states"} <= settings.load().options.keys()
    assert this_machine.own_offer(None, host="gpu-7") == "aws:g6.xlarge"
    labels = re.findall(r"--labels offer=(\S+)", text_of(room))
    assert len(labels) == 2
    assert all(prices.find(ray_nodes.offer_of(label)) for label in labels)


# The search


def test_the_sampler_shown_samples() -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names: dict[str, Any] = {}
    exec(block("workbench/search/README.md", "python"), names)
    assert len(names["study"].best_trials) >= 1
    assert len(names["study"].trials) == 10


def test_what_a_replay_prints_has_the_keys_told() -> None:
    replayed = re.search(r"`--json` prints\s+`(\{.*?\})`\.", text_of("workbench/search/README.md"))
    assert replayed
    protocol = (ROOT / "workbench" / "replay" / "protocol.py").read_text(encoding="utf-8")
    assert all(f'"{key}":' in protocol for key in re.findall(r'"(\w+)"', replayed[1]))


# Studies


STUDIES = {
    "qa": "f1",
    "ask": "f1",
    "intents": "accuracy",
    "sentiment": "alarm_recall",
    "support": "answered_at_precision",
    "recommend": "ndcg_at_10",
    "images": "accuracy",
    "speech": "accuracy",
}


@pytest.mark.parametrize("study, metric", STUDIES.items())
def test_the_fronts_shown_are_those_of_the_records(study: str, metric: str) -> None:
    shown = text_of("studies/README.md").split(f"`workbench sweep studies/{study}.py`", 1)[1]
    table = re.search(r"```\n(trial .*?)\n(?:\n|```)", shown, re.S)
    assert table
    head, *rows = table[1].splitlines()
    assert head.split() == ["trial", "model", "method", "settings", "labels", "epochs", metric, "US$", "time"]
    cells = [re.split(r"  +", row.strip()) for row in rows]
    assert [(*row[:3], *row[-5:]) for row in cells] == front_rows(results(study))


@pytest.mark.parametrize("name", studies.SCORES)
def test_what_the_systems_are_judged_by_is_that_of_the_records(name: str) -> None:
    record = results(name)
    assert studies.scores_table(name, record) in text_of("studies/README.md")
    printed = f"…\n\n{block('studies/README.md', '', f'`workbench sweep studies/{name}.py`')}\n\nThe best is …"
    timed = {"runs": len({point["trial"] for point in record["points"]}), **record}
    assert studies.rewritten(text_of("studies/README.md"), name, timed, printed) == text_of("studies/README.md")
    assert f"runs took {record['time_of_the_sweep']} on two cores" in words_of("studies/README.md")


def test_what_guests_write_is_answered_as_the_record_says() -> None:
    record = results("support-restaurant8k")
    cheapest, *_, best = [p for p in sorted(record["points"], key=lambda p: p["usd"]) if p["on_front"]]
    assert (cheapest["model"], cheapest["method"], best["model"], best["method"]) == ("minilm-l3", "zero_shot", "minilm-l6", "lora")
    words = words_of("studies/README.md")
    assert f"untuned answered {cheapest['score']:.1f} % so" in words
    assert f"LoRA with {best['labels']} labels {best['score']:.1f} %, in six runs" in words
    assert record["runs"] == 6


def front_rows(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """The front of a record as the command prints it, without the settings."""
    from workbench.quantities import dollars, duration

    return [
        (
            str(point["trial"]),
            str(point["model"]),
            str(point["method"]),
            f"{point['labels']:,}",
            f"{point['epochs']:g}",
            f"{point['score']:.1f}",
            dollars(point["usd"]),
            duration(point["seconds"]),
        )
        for point in sorted(record["points"], key=lambda point: point["usd"])
        if point["on_front"]
    ]


def test_what_learning_before_bought_is_what_was_measured() -> None:
    words, record = words_of("studies/README.md"), results("pretraining")
    bought = record["summary"]

    def gain(arm: str) -> str:
        return f"{bought[arm]['gain']:+.1f} ({bought[arm]['low']:+.1f} to {bought[arm]['high']:+.1f})"

    f1 = {arm: each["f1"] for arm, each in bought.items()}
    assert f"an F1 of {f1['none']} with 256 labels, and {f1['50 steps']} after 50 steps" in words
    assert f"a difference of {gain('50 steps')} points" in words
    assert f"{bought['50 steps']['flops_to_first']} times the FLOPs" in words
    assert "95 %, five seeds" in words
    assert {row["seed"] for row in record["rows"]} == {0, 1, 2, 3, 4}


def test_what_tasks_in_turn_forget_is_what_was_measured() -> None:
    words, lost = words_of("studies/README.md"), results("continual")["summary"]
    told = {name: lost[name]["forgetting" if name == "plain" else "forgets_less"] for name in ("plain", "replay", "ewc")}
    words_for = {name: f"{each['mean']:.1f} ({each['low']:.1f} to {each['high']:.1f})" for name, each in told.items()}
    assert f"lost {words_for['plain']} points of its accuracy" in words
    assert f"lost {words_for['replay']} points less with replay of {results('continual')['settings']['memory']} examples" in words
    assert f"and {words_for['ewc']} less with `ewc`" in words
    new = [f"{lost[name]['accuracy_of_2']['mean']:.1f} %" for name in ("plain", "replay", "ewc")]
    assert f"told {new[0]} of the new ones by `plain`, {new[1]} by `replay` and {new[2]} by `ewc`" in words
    mean = [f"{lost[name]['average_accuracy']['mean']:.1f}" for name in ("plain", "replay", "ewc")]
    assert f"On average it told {mean[0]}, {mean[1]} and {mean[2]} %" in words


def test_the_table_of_teachers_is_its_record() -> None:
    record, room = results("distillation"), text_of("studies/README.md")
    for data, of in record["summary"].items():
        for way, found in of.items():
            assert distillation_row(data, way, found) in room
    words = words_of("studies/README.md")
    assert f"tuned on {record['labels']} labels, answered {record['asked']} examples" in words
    assert {row["seed"] for row in record["rows"]} == {0, 1, 2}
    assert "means over three seeds" in words


def distillation_row(data: str, way: str, found: dict[str, Any]) -> str:
    """A row of the table of what teachers bring."""

    def told(name: str) -> str:
        return f"{found[name][0]:.1f} ± {found[name][1]:.1f}" if name in found else ""

    cells = [
        data, way, told("accuracy"), told("above alone"), told("above alone, longer"),
        f"{found['predictions_per_second'][0]:,.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def test_the_answer_and_the_figures_of_the_sweeps_are_those_of_the_records() -> None:
    words, qa = words_of("studies/README.md"), results("qa")
    assert qa["answer"] in words
    assert "3 min 29 s" in qa["spent"]
    assert "3 min 29 s and $0.0029" in words
    assert qa["spent_usd"] == pytest.approx(0.0029, abs=5e-5)
    assert "5 min 43 s (4 min 32 s to 7 min 20 s)" in qa["forecast"]
    assert "5 min 43 s (4 min 32 s to 7 min 20 s) and $0.00476" in words
    assert f"{len(qa['points'])} checkpoints" in words
    assert "1.6 %" in words
    assert qa["seconds_by_phase"]["decide"] / qa["wall_seconds_of_the_sweep"] == pytest.approx(0.016, abs=5e-4)
    assert not any(point["contended"] for point in qa["points"])
    for name in ("ask", "intents"):
        assert results(name)["time_of_the_sweep"].removeprefix("and ").split(" for ")[0] in words
    best = max(p["score"] for p in results("ask")["points"] if p["model"].startswith("minilm"))
    assert f"the best encoder {best:.1f}" in words


def test_the_task_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.testing import tiny_decoder, tiny_model
    from workbench.training import train

    names = {"minilm-l3": tiny_model(tmp_path / "bert"), "smollm2-135m": tiny_decoder(tmp_path / "llama")}
    text = block("studies/README.md", "python", "## A task of your own")
    for name, other in names.items():
        text = text.replace(f'"{name}"', repr(other))
    (tmp_path / "tone.py").write_text(text.replace("choice(100, 400)", "choice(8, 16)"), encoding="utf-8")
    rows = "".join(f"w{i} w{i % 7} w9,{i % 2}\n" for i in range(10, 230))
    (tmp_path / "messages.csv").write_text(f"message,polite\n{rows}")
    monkeypatch.chdir(tmp_path)
    study = load(tmp_path / "tone.py")
    for model in names.values():
        (asked,) = train(study.resolve({"model": model, "method": "zero_shot"}))
        settings_ = {"model": model, "method": "full", "full.learning_rate": 1e-4, "task.train": 8}
        *_, tuned = train(study.resolve(settings_))
        for scores in (asked.scores, tuned.scores):
            assert -100 <= scores["kappa"] <= 100


def test_a_line_of_questions_as_shown_is_read(tmp_path: Path) -> None:
    from workbench.tasks import question_answering

    line = block("studies/README.md", "json").strip()
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(line.replace("did.", f"did {i}.") for i in range(40)), encoding="utf-8")
    splits = question_answering(str(path), train=8, dev=4, test=4).splits()
    assert splits.train[0]["answers"]["text"] == ["Ada"]


def test_the_tasks_told_are_those_that_there_are() -> None:
    from workbench import tasks

    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|.*\|$", text_of("studies/README.md").split("## Tasks")[1].split("##")[0], re.M)
    told = {name for row in rows for name in re.findall(r"\w+", row)}
    assert told == {name for name in tasks.__all__ if name.islower()}


KINDS = ("encoder", "embedding", "decoder", "encoder-decoder", "vision", "audio")


@pytest.fixture(scope="module")
def floors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, str]]:
    """A task and a tiny model of each kind."""
    image, soundfile = pytest.importorskip("PIL.Image"), pytest.importorskip("soundfile")
    import numpy as np

    from workbench import tasks, testing

    folder = tmp_path_factory.mktemp("kinds")
    rng = np.random.default_rng(0)
    lines = [f"w{i} w{i % 7} w9,{'ab'[i % 2]}" for i in range(200)]
    (folder / "t.csv").write_text("\n".join(["text,label", *lines]))
    pairs = [json.dumps({"query": f"w{i} w{i % 7}", "document": f"w{i} w9 x{i}"}) for i in range(200)]
    (folder / "q.jsonl").write_text("\n".join(pairs))
    for i in range(60):
        for kind, ending in (("images", "png"), ("sounds", "wav")):
            path = folder / kind / "ab"[i % 2] / f"{i}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "images":
                image.fromarray(rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(path)
            else:
                soundfile.write(path, 0.1 * rng.normal(size=1200).astype(np.float32), 8000)
    split = {"train": 24, "dev": 6, "test": 4}
    text = tasks.classification(str(folder / "t.csv"), max_length=24, **split)
    encoder = testing.tiny_model(folder / "encoder")
    return {
        "encoder": (text, encoder),
        "embedding": (tasks.retrieval(str(folder / "q.jsonl"), max_length=24, **split), encoder),
        "decoder": (text, testing.tiny_decoder(folder / "decoder")),
        "encoder-decoder": (text, testing.tiny_seq2seq(folder / "seq2seq")),
        "vision": (tasks.image_classification(str(folder / "images"), **split), testing.tiny_vision(folder / "vision")),
        "audio": (
            tasks.audio_classification(str(folder / "sounds"), max_seconds=0.14, **split),
            testing.tiny_audio(folder / "audio", writes=False),
        ),
    }


@pytest.mark.slow
def test_each_kind_of_model_has_the_methods_told(floors: dict[str, tuple[Any, str]]) -> None:
    from workbench import Recipe, Study, adapter, bitfit, few_shot, full, head, knn, logistic, peft, setfit, zero_shot
    from workbench.forecast import pairs

    room = text_of("studies/README.md").split("### Which method suits which kind of model")[1]
    header, _, *rows = re.findall(r"^\|.*\|$", room.split("##")[0], re.M)
    assert tuple(cell.strip() for cell in header.strip("|").split("|")[1:]) == KINDS
    rate, all_linear = 1e-3, {"target_modules": "all-linear"}
    virtual = {"num_virtual_tokens": 3}
    parts = {"target_modules": ["q_proj", "v_proj"], "feedforward_modules": ["v_proj"]}
    made = {
        "zero_shot": (zero_shot(),),
        "few_shot": (few_shot(shots=2), few_shot(shots=2, choose="nearest")),
        "full": (full(learning_rate=rate), full(learning_rate=rate, trainable_layers=1)),
        "head": (head(learning_rate=rate),),
        "bitfit": (bitfit(learning_rate=rate),),
        "adapter": (adapter(learning_rate=rate, bottleneck=4),),
        "knn": (knn(),),
        "logistic": (logistic(),),
        "setfit": (setfit(learning_rate=rate),),
        'peft("lora")': (peft("lora", learning_rate=rate),),
        'peft("ia3")': (peft("ia3", learning_rate=rate),),
        'peft("prompt_tuning")': (peft("prompt_tuning", learning_rate=rate, **virtual),),
        'peft("prefix_tuning")': (peft("prefix_tuning", learning_rate=rate, **virtual),),
    }
    told_of = {}
    for row in rows:
        names, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        told_of.update({name: dict(zip(KINDS, cells, strict=True)) for name in re.findall(r"`(.*?)`", names)})
    assert told_of.keys() == made.keys()

    def problem(kind: str, method: Any) -> str:
        task, model = floors[kind]
        recipe = Recipe(task=task, model=model, method=method, epochs=1 if method.labelled else 0, batch_size=4)
        (plan,) = pairs.plan(Study(recipe, maximize=task.metrics[0]))
        return plan.problem

    def works(kind: str, method: Any) -> bool:
        return not problem(kind, method)

    for name, methods in made.items():
        for kind, told in told_of[name].items():
            # "classes" is yes for the task here, and "biases" no for these models, which have none.
            assert {works(kind, method) for method in methods} == {told in ("yes", "classes")}, (name, kind)
    for kind in ("vision", "audio"):
        assert works(kind, peft("lora", learning_rate=rate, **all_linear))
        assert works(kind, peft("ia3", learning_rate=rate, **parts))
        told = problem(kind, peft("prompt_tuning", learning_rate=rate, **virtual))
        assert "puts tokens in front of a text, and this model reads images or sound" in told


# Figures of benchmarks


@pytest.mark.parametrize("study", ["ask", "intents", "sentiment", "support", "recommend", "images", "speech"])
def test_the_table_of_a_study_is_the_front_of_its_record(study: str) -> None:
    room = text_of("studies/README.md").split(f"]({study}.png)")[1]
    header, *rows = room.split("```\n")[1].splitlines()
    assert header.split()[:3] == ["trial", "model", "method"]
    found = results(study)
    front = sorted((p for p in found["points"] if p["on_front"]), key=lambda p: p["usd"])
    assert [tuple(row.split()[:3]) for row in rows] == [(str(p["trial"]), p["model"], p["method"]) for p in front]
    assert found["time_of_the_sweep"].removeprefix("and ").split(" for ")[0] in words_of("studies/README.md")
    for row, p in zip(rows, front, strict=True):
        assert f" {p['score']:.1f} " in row
        assert f" {p['labels']:,} " in row


def test_what_searches_cost_is_what_the_record_says() -> None:
    record = results("samplers")
    halving = next(each for each in record["methods"] if each["method"] == "mo-asha")
    room = text_of("workbench/search/README.md").split("### What it saves")[1]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", room, re.M)[2:]]
    assert len(rows) == len(record["cheapest_sampler"]) == 6
    order = ("nmt_lora_fr-en", "peft_metamathqa", "taskset_imdb_0", "taskset_imdb_1", "taskset_imdb_2", "deberta-base_mnli")
    methods = {each["method"]: each["tables"] for each in record["methods"]}

    def is_told(text: str, of: dict[str, float]) -> None:
        told = [float(number) for number in re.findall(r"\d+\.?\d*", text)]
        assert told == pytest.approx([of["median"], of["low"], of["high"]], abs=0.0551)

    for name, (_, _, by_halving, by_optuna) in zip(order, rows, strict=True):
        is_told(by_halving, halving["tables"][name])
        cheapest = record["cheapest_sampler"][name]["method"]
        ratio, _, sampler = by_optuna.partition("), ")
        assert f"optuna:{sampler}" == cheapest
        is_told(ratio, methods[cheapest][name])
    words = words_of("workbench/search/README.md")
    assert f"is {halving['median_over_tables']:.1f} for MO-ASHA" in words
    assert f"It is {record['cheapest_sampler_median_over_tables']:.1f} for the cheapest" in words


def test_schedules_are_those_of_the_record() -> None:
    summary = results("schedules")["summary"]
    room = text_of("workbench/search/README.md").split("## Why a checkpoint counts")[1]
    rows = re.findall(r"^\| (\d) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", room, re.M)
    assert len(rows) == 2
    for epochs, *scores in rows:
        kinds = ("polynomial", "last", "schedulefree", "decay")
        assert [float(score) for score in scores] == [summary[f"full, {epochs} epochs, {kind}"] for kind in kinds]


def test_what_the_loop_saves_is_what_the_record_says() -> None:
    """Until the engine was measured there is no table; afterwards it is the one that the benchmark prints of its record."""
    room = text_of("tests/benchmarks/README.md")
    if not (RESULTS / "engine.json").exists():
        assert "results/engine.json" not in room
        return
    record = results("engine")
    assert engine.table_of(record) in room
    assert not [each for each in record["summary"] if each["void"] and each["loss_apart"] <= engine.GATE]


def test_the_table_of_the_loop_is_made_of_medians_within_rounds() -> None:
    taken = {"tokens": 50, "padded": 100, "wall": 9.0, "cpu": 8.0, "peak": None, "latency": 0.0}
    seconds = {"N1": (6.0, 9.0, 8.0), "N2": (4.0, 6.0, 4.0), "N3": (3.0, 3.0, 3.0), "ours": (2.0, 3.0, 4.0)}
    seconds |= {"ours without packed rows": (2.0, 3.0, 6.0), "ours without similar lengths": (4.0, 3.0, 4.0)}
    rows = [
        {"job": "full, chat", "profile": "chat", "arm": arm, "round": i, "steps": steps, "loss": 1.0 + 1e-3 * (arm in ("N1", "N3"))}
        | taken
        for arm, of in seconds.items()
        for i, steps in enumerate(of)
    ]
    summary = engine.summary_of(rows, {"full, chat": 1e9}, 1e10)
    by = {each["arm"]: each for each in summary}
    assert by["N2"]["over_ours"] == {"median": 2.0, "low": 1.0, "high": 2.0}
    # Other results are no results; batches of similar length are others on purpose.
    assert [arm for arm, each in by.items() if each["void"]] == ["N1"]
    assert by["ours"]["peak_share_of_floor"] == pytest.approx(1e9 / (1e10 * 9.0))
    profiles = engine.over_profiles(rows, summary)
    assert profiles["chat"]["N1"] is None
    table = engine.table_of({"profiles": profiles, "summary": summary})
    assert "| full and LoRA, chat | void | 2.0 (1.0 to 2.0) | 1.0 (0.8 to 1.5) | 1.0 (1.0 to 1.5) | 1.0 (1.0 to 2.0) |" in table


@pytest.mark.parametrize("name", ["scale", "chaos", "serving", "unequal"])
def test_the_tables_of_a_benchmark_are_those_of_its_record(name: str) -> None:
    room = text_of("tests/benchmarks/README.md")
    if not (RESULTS / f"{name}.json").exists():
        assert f"results/{name}.json" not in room
        return
    assert benchmark(name).table_of(results(name)) in room


def test_what_is_told_of_a_million_results_is_in_the_record() -> None:
    largest = max(results("scale")["growth"], key=lambda row: row["held"])
    assert (largest["held"], largest["largest_part"]) == (1_000_000, 10_000)
    assert largest["read_in_parts_seconds"] == pytest.approx(150, rel=0.05)
    assert "of a million that took two minutes and a half, ten thousand at a time" in words_of("tests/benchmarks/README.md")


def test_deployed_models_answer_elsewhere_as_the_record_says() -> None:
    models = results("fresh-environment")["models"].values()
    rows = sum(each["rows"] for each in models)
    same = [sum(each["same_answer"][way] for each in models) for way in ("load_model", "models serve")]
    assert len(models) == 6
    assert f"gave {min(same)} of {rows} answers as here" in words_of("workbench/serving/README.md")


def test_budgets_restarts_and_forecasts_are_those_of_the_records() -> None:
    words = words_of("workbench/prices/README.md")
    budgets = results("budgets")["summary"]
    assert (budgets["runs"], budgets["exceeded"]) == (20, 0)
    assert "Twenty sweeps" in words
    assert "None passed it" in words
    assert f"{100 * budgets['mean_share_of_budget_spent']:.0f} % of it was used" in words
    forecast = results("forecast")
    peft, litgpt = forecast["peft"]["seconds"], forecast["litgpt"]
    assert f"seconds of PEFT's {peft['rows']} runs" in words
    assert f"by a factor of {peft['median_factor_off']:.2f} (median), and {100 * peft['share_in_band']:.0f} %" in words
    assert (
        f"LitGPT's {litgpt['seconds']['rows']} runs (one constant fitted) were off by {litgpt['seconds']['median_factor_off']:.2f}"
        in words
    )
    memory = litgpt["out_of_memory"]
    assert (
        f"{memory['foreseen']} of {memory['rows']} out-of-memory rows were foreseen, with {memory['false_alarms']} false" in words
    )
    swept = forecast["swept"]
    calibrated = swept["calibrated before"]
    inside = (round(12 * calibrated[what]["share_in_band"]) for what in ("seconds", "peak_memory_bytes"))
    assert (swept["runs"], *inside) == (12, 10, 12)
    assert "Ten of the twelve times and all memory figures lay inside" in words
    assert f"factor of {calibrated['seconds']['median_factor_off']:.2f} (median)" in words
    assert f"peak memory by {calibrated['peak_memory_bytes']['median_factor_off']:.2f}" in words
    assert f"By formula alone seconds were off by {swept['formula']['seconds']['median_factor_off']:.2f}" in words
    restarts = results("restarts")["summary"]
    assert sum(each["results"] for each in restarts.values()) == 400
    assert sum(each["sweeps"] for each in restarts.values()) == 20
    assert all(each["lost"] == each["twice"] == 0 for each in restarts.values())
    assert "At twenty random moments" in words_of("workbench/cli/README.md")
    assert "none of 400 results was lost or made twice" in words_of("workbench/cli/README.md")


def test_the_meter_is_as_fast_and_sure_as_the_records_say() -> None:
    words = words_of("workbench/meter/README.md")
    meter, contention = results("meter"), results("contention")["summary"]
    assert meter["gpu"] is None
    assert "Nothing here has been measured on a GPU" in words
    assert f"A reading takes {1000 * meter['calls_seconds']['reading']:.2f} ms" in words
    (once,) = (each for each in meter["overhead"] if each["sampled_hz"] == 1.0)
    assert f"{100 * once['cpu_time']['median_overhead']:.2f} % of the CPU time" in words
    assert all(abs(each["ratio"] - 1) < 0.02 for each in meter["gnu_time"])
    one, two = contention["beside_1"], contention["beside_2"]
    assert f"{one['real_over_alone']:.1f} and {two['real_over_alone']:.1f} times as long" in words
    above = [round(100 * (each["estimate_over_alone"] - 1)) for each in (one, two)]
    assert f"{above[0]} % and {above[1]} % above the time alone" in words
    policies = contention["policies"]
    spin, default = (policies[name] for name in ("spin 3000", "default"))
    assert f"{spin['beside_one_ms'] / spin['alone_ms']:.1f} times as long as alone" in words
    assert f"in place of {default['beside_one_ms'] / default['alone_ms']:.1f} times" in words


def test_the_dashboard_is_as_fast_as_the_record_says() -> None:
    words, record = words_of("dashboards/README.md"), results("dashboard")
    fresh, later = record["in_chromium"]["fresh_server"], record["in_chromium"]["next_visitors"]
    for what, key in (("something shows", "first_content_ms"), ("the answer", "answer_ms"), ("all points", "all_points_ms")):
        assert f"| {what} | {fresh[key] / 1000:.1f} s | {later[key] / 1000:.1f} s |" in words
    assert f"within {record['in_chromium']['slider_to_figure_ms']['median_ms'] / 1000:.2f} s" in words
    beside = record["readers_against_a_writer"]
    assert f"took {beside['write_beside_readers']['median_ms']:.0f} ms" in words
    assert (beside["reads_failed"], beside["writes_failed"]) == (0, 0)


def test_the_pages_told_are_those_of_the_menu() -> None:
    source = (ROOT / "dashboards" / "app.py").read_text(encoding="utf-8")
    menu = re.findall(r'^    "(\w+)": \("([^"]+)"', source, re.M)
    told = re.findall(r"^\| ([A-Z][\w ]+?) \|", text_of("dashboards/README.md"), re.M)
    assert told == [title for name, title in menu if name != "run"]


def test_the_view_of_a_front_has_a_record_of_its_own() -> None:
    view = View("f1", ("usd",), {"f1": 0.0, "usd": 1.0}, prices.find("local"), 0.0)
    told = text_of("workbench/cli/README.md").split("## JSON", 1)[1]
    (first, *_) = re.findall(r"```json\n(.*?)```", told, re.S)
    assert set(json.loads(first)) == set(front_record("name", [], view))
