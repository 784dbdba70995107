"""The output directory of a run: what identifies it, and whether another run may continue it.

    config.json       the resolved configuration        fingerprint.json  what a resumed run must share
    metrics.jsonl     one object a step                 samples.jsonl     generations, where asked for
    data.json         what the data are like            startup.json      the time to the first step, the devices
    checkpoints/      Orbax                             tensorboard/      profile/ where asked for
    base/             config and tokenizer of the model that was tuned
    final/            the tuned model in Hugging Face layout
    lock              held by the process that writes here
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
from pathlib import Path

from jitune import config as configs
from jitune.data import measure, sources
from jitune.hub import files
from jitune.hub.tokenizer import tokenizer_digest
from jitune.runlog import write_atomically
from jitune.types import UserError

try:
    import fcntl
except ImportError:  # Windows, where runs do not keep each other out
    fcntl = None

# Options that a resumed run must share with the run that it continues; model, tokenizer and data have digests.
FIXED = ("seq_len", "batch_size", "seed", "model.dtype", "optimizer.name", "data.weights", "data.format",
         *(f"transform.{name}" for name in (
             "name", "select", "rank", "alpha", "rank_pattern", "alpha_pattern", "rslora", "init", "dtype", "quantize",
             "quantize_select", "train", "num_tokens", "projection")),
         "data.add_tokens", "data.fields", "data.train_on", "data.split_turns", "data.overlong", "data.packing",
         "data.packing_bins", "data.shuffle",
         *(f"objective.{name}" for name in (
             "name", "beta", "loss", "length_normalized", "label_smoothing", "gamma", "wanted_weight",
             "unwanted_weight", "nll_weight", "divergence", "jsd_beta", "temperature", "sft_weight", "on_policy",
             "max_new_tokens", "sampling_temperature")))


def check_free(directory: Path, resume: bool) -> bool:
    """Returns whether there is a run to resume. Raises UserError where one stands there unasked for."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory}: is not a directory")
    if (directory / "config.json").exists():
        if resume:
            return True
        with contextlib.suppress(OSError):  # not to be written in, and so not in use
            lock(directory).close()
        raise UserError(f"{directory}: holds another run; --resume continues it, or choose another output_dir")
    for name in ("checkpoints", "metrics.jsonl", "final"):
        if (directory / name).exists():
            raise UserError(f"{directory}/{name}: is there without a run's config.json; choose another output_dir")
    return False


def lock(directory: Path):
    """Takes the lock of an output directory; returns the open file that holds it, until it is closed.

    The end of the process releases it, however it ends. A file system without locks has none. Raises UserError,
    naming the process, where another one holds it.
    """
    file = open(directory / "lock", "a+", encoding="utf-8")
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise UserError(f"{directory}: is in use by {holder}, a run that is still going") from None
    except OSError:
        pass
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def claim(directory: Path, resume: bool):
    """Makes the output directory and takes its lock. Raises UserError where another run was quicker."""
    directory.mkdir(parents=True, exist_ok=True)
    held = lock(directory)
    if (directory / "config.json").exists() and not resume:
        raise UserError(f"{directory}: another run began there just now; choose another output_dir")
    return held


def make_fingerprint(base: Path, tokenizer, config, **others: str) -> dict[str, str]:
    """Digests of what a resumed run must share: model, tokenizer (with its chat template), data, and others by name."""
    return {
        "model": files.digest(base),
        "tokenizer": tokenizer_digest(tokenizer),
        "data": sources.digest(sources.split_specs(config.data.train)),
        **others,
    }


def check_resume(directory: Path, config, fingerprint: dict[str, str]) -> None:
    """Raises UserError where the run in `directory` began with something else."""
    stored = files.read_json(directory / "fingerprint.json")
    for name, digest in fingerprint.items():
        if stored.get(name, "") != digest:
            raise UserError(f"--resume: the {name} is not the one that the run in {directory} began with")
    before, now = configs.flatten(read_config(directory)), configs.flatten(config)
    for name in FIXED:
        if before[name] != now[name]:
            raise UserError(f"--resume: config.{name} is {now[name]!r}, the run in {directory} has {before[name]!r}")


def read_config(directory: Path):
    """The resolved configuration of a run."""
    try:
        return configs.from_json((directory / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{directory}: holds no run, there is no config.json") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{directory}/config.json: is not the configuration of a run: {error}") from None


def read_id(directory: Path) -> str:
    """Eight hexadecimal digits that no other run has, for loggers that keep many runs in one place."""
    return files.read_json(directory / "fingerprint.json")["id"]


def start(directory: Path, config, fingerprint: dict[str, str], model_config, tokenizer) -> None:
    """Writes what identifies the run; config.json comes last, for it marks the directory as a run.

    In a run that is resumed only config.json changes: it holds the options that the run goes on with.
    """
    if (directory / "config.json").exists():
        write_atomically(directory / "config.json", configs.to_json(config) + "\n")
        return
    base = directory / "base"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    files.write_json(base / "config.json", json.loads(model_config.hf))
    if model_config.generation_config:
        files.write_json(base / "generation_config.json", model_config.generation_config)
    tokenizer.save_pretrained(str(base))
    stored = {**fingerprint, "id": secrets.token_hex(4)}
    write_atomically(directory / "fingerprint.json", json.dumps(stored, indent=2) + "\n")
    write_atomically(directory / "config.json", configs.to_json(config) + "\n")


def write_data(directory: Path, config, prepared, evaluation) -> None:
    """Writes data.json: what `data.measure.describe` finds in the training and in the evaluation data, if any."""
    data = config.data
    options = {"seq_len": config.seq_len, "packing": data.packing, "num_bins": data.packing_bins}

    def describe(found, names):
        return found and measure.describe(found, sources.split_specs(names), **options)

    found = {"train": describe(prepared, data.train), "eval": describe(evaluation, data.eval)}
    write_atomically(directory / "data.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")
