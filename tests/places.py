"""A folder with a tiny study, in which the real command is run."""

import contextlib
import time

from commands import Command

from workbench.ledger import Ledger, default_url


class Place:
    """A folder with a study, where the real command is run."""

    def __init__(self, folder, model, *, train=64, epochs=8, methods=None):
        self.folder = folder
        self.file = folder / "tiny.py"
        rate = "learning_rate=loguniform(1e-3, 1e-2)"
        methods = methods or f'full({rate}), peft("lora", {rate}, r=choice(2, 4)), bitfit({rate})'
        self.file.write_text(
            '"""Which?"""\n\n'
            "from workbench import Recipe, Study, bitfit, choice, full, head, loguniform, peft\n"
            "from workbench.testing import TinyTask\n\n"
            f"study = Study(Recipe(task=TinyTask(train={train}), model={model!r}, method=choice({methods}), "
            f'epochs={epochs}, batch_size=8), maximize="accuracy")\n',
            encoding="utf-8",
        )
        self.logs = 0

    def start(self, *words, **how):
        """Start a sweep; what it prints goes to a file. `how` is `Command`'s."""
        self.logs += 1
        self.log.write_text("")
        return Command(["sweep", "tiny.py", *words], cwd=self.folder, out=self.log, err=self.log, **how)

    def finish(self, *words):
        """Run a sweep to its end; what it printed."""
        process = self.start(*words)
        assert process.wait(timeout=240) == 0, self.said
        return self.said

    @property
    def log(self):
        return self.folder / f"{self.logs}.log"

    @property
    def said(self):
        return self.log.read_text()

    def until(self, words, process, times=1):
        """Wait until the sweep has printed these words."""
        deadline = time.monotonic() + 300
        while self.said.count(words) < times:
            assert process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def results(self, **options):
        with contextlib.suppress(Exception):  # no ledger yet
            return Ledger.find(None, default_url(self.folder)).results(**options)
        return []

    def mlflow(self):
        """MLflow's runs of this study, sweeps left out: run id of ours, status, and steps by metric."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        (experiment,) = [e for e in client.search_experiments() if e.name.startswith("tiny-")]
        runs = client.search_runs([experiment.experiment_id], "tags.`workbench.kind` = 'run'", max_results=1000)
        return [
            (
                run.data.tags["workbench.run_id"],
                run.info.status,
                [m.step for m in client.get_metric_history(run.info.run_id, "quality/accuracy")],
            )
            for run in runs
        ]
