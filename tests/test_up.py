"""Files that start workers on other machines: whole, and without secrets."""

import dataclasses
import shutil
import subprocess
from pathlib import PurePath

import pytest
import yaml

from workbench import prices
from workbench.errors import Refused, UsageError
from workbench.sweep import machine_files
from workbench.sweep.machine_files import Machines

URL = "postgresql+psycopg2://tuner@db/study"


def machines(**changes):
    known = {
        "study": "my study.py",
        "name": "my_study",
        "offer": prices.find("aws:g6.xlarge"),
        "count": 3,
        "storage": URL,
        "states": "s3://bucket/x",
        "install": "pip install workbench",
        "image": "workbench:1",
        "folder": PurePath("up"),
    }
    return Machines(**known | changes)


def test_each_machine_runs_the_same_line_at_its_own_offer():
    words = machines().words
    assert words[:5] == ["workbench", "worker", "my study.py", "--storage", URL]
    assert words[5:9] == ["--states", "s3://bucket/x", "--platform", prices.find("aws:g6.xlarge").name]
    assert "--workers" not in words
    many = machines(offer=prices.find("aws:p4d.24xlarge"), states=None).words
    assert many[many.index("--workers") + 1] == "8"
    assert "--states" not in many


def test_the_line_is_one_that_the_command_takes():
    from workbench.cli.worker import worker

    words = machines().words[2:]
    context = worker.make_context("worker", list(words))
    assert context.params["storage"] == URL
    assert context.params["states"] == "s3://bucket/x"


def test_skypilots_task_asks_for_the_offers_machine():
    task = machine_files.sky(machines())
    assert task["resources"] == {
        "infra": "aws/us-east-1",
        "use_spot": False,
        "accelerators": "L4:1",
        "instance_type": "g6.xlarge",
    }
    assert task["num_nodes"] == 3
    assert "'my study.py'" in task["run"], "quoted for the shell"
    spot = next(o for o in prices.load() if o.platform == "aws" and o.commitment == "spot" and o.gpu == "A100-40GB")
    resources = machine_files.sky(machines(offer=spot))["resources"]
    assert (resources["use_spot"], resources["accelerators"]) == (True, "A100:8")
    assert machine_files.sky(machines(offer=prices.find("local"))) is None


def test_kubernetes_job_has_an_index_a_machine_and_notice():
    job = machine_files.kubernetes(machines(name="My_Study 2"))
    assert (job["apiVersion"], job["kind"], job["metadata"]["name"]) == ("batch/v1", "Job", "my-study-2")
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "what podFailurePolicy and Jobs ask for"
    (container,) = pod["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    assert container["command"] == machines().words
    assert pod["nodeSelector"] == {"node.kubernetes.io/instance-type": "g6.xlarge"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    (rule, _) = spec["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert 130 not in rule["onExitCodes"]["values"], "a worker that was told to stop is started again"
    own = machine_files.kubernetes(machines(offer=prices.find("local")))["spec"]["template"]["spec"]
    assert "nodeSelector" not in own
    assert "resources" not in own["containers"][0]


def test_the_books_remarks_on_a_date_are_left_out():
    offer = dataclasses.replace(prices.find("aws:g6.xlarge"), date="2026 (not the day)")
    assert machines(offer=offer).head.endswith("(price as of 2026).")


def test_slurms_script_is_one(tmp_path):
    text = machine_files.slurm(machines())
    (tmp_path / "s").write_text(text)
    assert subprocess.run([shutil.which("bash"), "-n", tmp_path / "s"], capture_output=True, check=False).returncode == 0
    assert "#SBATCH --array=0-2\n" in text
    assert "#SBATCH --gpus=1\n" in text
    assert "--gpus" not in machine_files.slurm(machines(offer=prices.find("local")))
    last = [line for line in text.splitlines() if line.startswith("#SBATCH")][-1]
    assert text.index(last) < text.index("set -euo"), "Slurm reads none after the first command"


def test_what_cannot_work_is_refused():
    with pytest.raises(Refused, match="password"):
        machines(storage="postgresql://tuner:hunter2@db/study")
    with pytest.raises(UsageError, match="ledger on a server"):
        machines(storage="sqlite:///optuna.db")
    with pytest.raises(UsageError, match="on this machine alone"):
        machines(study="/elsewhere/study.py")


def test_the_command_writes_them_once_and_starts_nothing(command, tmp_path, study_file):
    code, out, err = command(
        "up", study_file.name, "--storage", URL, "--machines", "2", "--platform", "aws:g6.xlarge", "--out", "files"
    )
    assert code == 0, err
    names = [line.rsplit("/", 1)[-1] for line in out.splitlines()]
    stem = study_file.stem
    assert names == [f"{stem}.sky.yaml", f"{stem}.k8s.yaml", f"{stem}.slurm"]
    assert "2 x aws:g6.xlarge" in err
    assert "--states" in err, "what leaving it out means"
    texts = [(tmp_path / "files" / name).read_text() for name in names]
    task = yaml.safe_load(texts[0])
    assert task["num_nodes"] == 2
    assert task["setup"] == f"pip install './{machine_files.WHEEL}[postgresql]'"
    assert f"{machine_files.WHEEL}, which is not in this folder yet" in " ".join(err.split())
    for start, name, text in zip(("sky launch", "kubectl apply -f", "sbatch"), names, texts, strict=True):
        assert f"`workbench up` was run, by: {start} files/{name}\n" in text, "as it is printed"
    assert f"`sky launch files/{names[0]}`" in " ".join(err.split())
    assert yaml.safe_load(texts[1])["spec"]["completions"] == 2
    assert command("up", study_file.name, "--storage", URL, "--platform", "aws:g6.xlarge", "--out", "files")[0] == 3
    code, _, err = command("up", study_file.name, "--platform", "aws:g6.xlarge", "--out", "others")
    assert (code, (tmp_path / "others").exists()) == (2, False)
    study_file.write_text("a study that cannot be read")
    assert "need a ledger on a server" in command("up", study_file.name)[2], "before the study is looked at"


@pytest.mark.slow
def test_without_a_platform_it_is_the_cheapest_that_fits(command, tmp_path, study_file):
    code, _, err = command("up", study_file.name, "--storage", URL)
    assert code == 0, err
    import json

    ranked = json.loads(command("platforms", study_file.name, "--json")[1])
    best = next(each for each in ranked if each["fits"] and each["usd"] and each["commitment"] != "owned")
    assert f"1 x {best['platform']}:{best['instance']}" in err
