"""The launchers: what they would run is caught by stubs of srun, scontrol and gcloud, and given to jitune's parser."""

import os
import shlex
import subprocess

import pytest

from jitune import config as configs
from jitune.cli import make_parser
from tests.conftest import ROOT

SCRIPTS = ROOT / "scripts"
WORDS = ["--config", "sft", "--config.model.path=/m", "--config.data.train=/a file.jsonl", "--config.output_dir=/o"]


def understood(words: list[str]):
    """The config that jitune makes of its words, all of which must be options that it has."""
    arguments, rest = make_parser().parse_known_args(words)
    assert arguments.distributed and arguments.resume
    config = configs.from_words(arguments.config, rest)
    configs.check(config)
    return config


def stub(folder, name: str, code: int = 0):
    """A command that writes its words, one a line, and exits with `code`."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{folder}/{name}.words"\nexit {code}\n')
    path.chmod(0o755)


def called(folder, name: str) -> list[str]:
    path = folder / f"{name}.words"
    return path.read_text().splitlines() if path.exists() else []


def launch(script: str, folder, words=WORDS, **environment) -> int:
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **environment}
    return subprocess.run(["bash", SCRIPTS / script, *words], env=environment, cwd=ROOT, timeout=60).returncode


@pytest.mark.parametrize("script", sorted(p.name for p in SCRIPTS.glob("*.sh")))
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", SCRIPTS / script], check=True)


@pytest.mark.parametrize(("code", "requeued"), [(0, []), (1, []), (2, []), (143, ["requeue", "7"])])
def test_slurm_runs_one_task_a_node_and_requeues_what_was_stopped(tmp_path, code, requeued):
    stub(tmp_path, "srun", code)
    stub(tmp_path, "scontrol")
    assert launch("slurm.sh", tmp_path, SLURM_JOB_ID="7", VENV="/venv", GPUS="4") == code
    words = called(tmp_path, "srun")
    at = words.index("/venv/bin/jitune")
    assert words[:at] == ["--kill-on-bad-exit=0", "--wait=120"]
    config = understood(words[at + 1 :])
    assert config.data.train == "/a file.jsonl" and config.batch_size == configs.read("sft").batch_size
    assert called(tmp_path, "scontrol") == requeued


def test_slurm_gives_a_task_all_gpus_of_its_node(tmp_path):
    (tmp_path / "srun").write_text(f'#!/bin/sh\nprintf "%s" "$JAX_LOCAL_DEVICE_IDS" > "{tmp_path}/ids"\n')
    (tmp_path / "srun").chmod(0o755)
    assert launch("slurm.sh", tmp_path, SLURM_JOB_ID="7", SLURM_GPUS_ON_NODE="4") == 0
    assert (tmp_path / "ids").read_text() == "0,1,2,3"
    text = (SCRIPTS / "slurm.sh").read_text()
    assert "#SBATCH --ntasks-per-node=1" in text and "#SBATCH --requeue" in text and "--signal=TERM@" in text


def test_tpu_vm_runs_the_same_command_on_all_workers(tmp_path):
    stub(tmp_path, "gcloud")
    if not (ROOT / ".git").exists():
        stub(tmp_path, "git")
    assert launch("tpu_vm.sh", tmp_path, TPU="slice", ZONE="zone") == 0
    words = called(tmp_path, "gcloud")
    at = words.index("ssh")
    assert words[words.index("scp") - 3 : words.index("scp")] == words[at - 3 : at] == ["compute", "tpus", "tpu-vm"]
    assert words[at + 1 : at + 4] == ["slice", "--zone=zone", "--worker=all"]
    command = words[at + 4].removeprefix("--command=")
    subprocess.run(["bash", "-n", "-c", command], check=True)
    understood(shlex.split(command.rpartition("bin/jitune ")[2]))


def test_gke_gives_every_process_its_place():
    yaml = pytest.importorskip("yaml", reason="needs pyyaml")
    jobset = yaml.safe_load((SCRIPTS / "gke.yaml").read_text())
    name, (job,) = jobset["metadata"]["name"], jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    environment = {e["name"]: e.get("value") for e in container["env"]}
    assert spec["completionMode"] == "Indexed"
    assert str(spec["parallelism"]) == str(spec["completions"]) == environment["JAX_NUM_PROCESSES"]
    assert environment["JAX_COORDINATOR_ADDRESS"].split(":")[0] == f"{name}-{job['name']}-0-0.{name}"
    assert "JAX_PROCESS_ID" in environment
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert environment["JAX_LOCAL_DEVICE_IDS"].split(",") == [str(i) for i in range(gpus)]
    assert container["command"][0] == "jitune"
    config = understood([*container["command"][1:], *container["args"]])
    mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
    assert config.output_dir.startswith("/data/") and mounts["/data"] in {v["name"] for v in pod["volumes"]}
    # A pod that failed is not restarted alone, and one that was given something wrong not at all.
    assert pod["restartPolicy"] == "Never" and spec["backoffLimit"] == 0
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]
