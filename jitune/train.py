"""One training run, top to bottom: config, mesh, model, transform, data, steps, checkpoints, export.

`train(config)` in, the output directory (see `rundir`) out; `jitune train --config FILE` runs it.

Order of resuming: (1) check the config, and that model, tokenizer and data are those of the run; (2) lay
out the mesh; (3) prepare the data; (4) build the abstract state for this mesh; (5) restore the newest whole
checkpoint into it: state, key, data iterator; (6) cut metrics.jsonl at that step; (7) go on.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from jitune import (
    checkpoint,
    companions,
    compile_cache,
    compiling,
    feed,
    finish,
    limits,
    meter,
    optimizers,
    own_answers,
    references,
    rundir,
    sharding,
)
from jitune import config as configs
from jitune import state as states
from jitune.data import chat, pipeline
from jitune.evals import during
from jitune.hub import weights
from jitune.models import decoder
from jitune.profiling import Profile
from jitune.runlog import JsonLines, Progress, Recorder, open_loggers, parse_loggers
from jitune.samples import choose_prompts, write_samples
from jitune.step import make_eval_step, means, sum_batches
from jitune.stopping import Interrupted, check_finite, past_evaluations, stop_signals
from jitune.types import Pretrained, TrainState


class Run(NamedTuple):
    """What stays the same from step to step. beside: frozen, with the weights of a teacher if there is one."""

    config: Any
    directory: Path
    mesh: jax.sharding.Mesh
    tokenizer: Any
    tuning: states.Tuning
    frozen: Any
    total: int
    evaluation: Any
    suite: during.Plan | None
    company: companions.Company
    beside: Any
    prompts: Any
    stop_ids: list[int]
    checkpoints: Any
    digest: str
    peak: meter.Peak
    say: Any

    @property
    def model_config(self):
        return self.tuning.model_config

    @property
    def model(self):
        """The transformed model, over (frozen, trainable)."""
        return self.tuning.model


def train(config, *, resume: bool = False, profile=None, began: float | None = None) -> Path:
    """Tunes a model as `config` says (see `config.defaults`) and returns the output directory.

    profile: steps to trace, see `profiling.Profile`. began: since when the time to the first step counts
    (`time.perf_counter`), by default now.

    Raises UserError for anything given that cannot work, before the output directory is touched;
    NonFiniteError where training diverges; Interrupted where it was asked to stop.
    """
    startup = meter.Startup(began)
    startup.lap("import")
    configs.check(config)
    directory = Path(config.output_dir).expanduser()
    loggers = parse_loggers(config.loggers)
    resume = rundir.check_free(directory, resume)
    mesh = sharding.make_mesh(**config.mesh)
    compiling.check_batch(config, mesh)
    peak = meter.find_peak(mesh, config.model.dtype)
    startup.lap("devices")
    base = weights.resolve(config.model.path)
    base_config = limits.lift(weights.read_config(base), config.model.allow_longer_context)
    base_config = base_config.replace(**compiling.model_options(config))
    compiling.check_attention(base_config)
    tokenizer = feed.take_tokenizer(base, config, base_config)
    tuning = states.make_tuning(config, base_config, tokenizer)
    teacher = companions.open_teacher(config)
    found = companions.check_teacher(teacher, tokenizer, tuning.model_config, config) if teacher else (None, "")
    suite = during.prepare(config.evals, base_config)
    fingerprint = rundir.make_fingerprint(base, tokenizer, config, **companions.digests(config, teacher))
    writer, held = jax.process_index() == 0, None
    if resume:
        held = rundir.lock(directory) if writer else None
        rundir.check_resume(directory, config, fingerprint)
    progress = Progress(active=jax.process_index() == 0)
    prepared = feed.prepare(config, tokenizer)
    progress.say("\n".join(filter(None, (pipeline.summary(prepared.stats), found[1]))))
    evaluation = feed.prepare(config, tokenizer, eval=True) if config.data.eval else None
    data = {"train": prepared, "eval": evaluation}
    store = companions.open_store(config, data, tokenizer)
    vocab = store.vocab if store else found[0]
    total = feed.count_steps(config, prepared)
    prompts = choose_prompts(config, tokenizer) if config.sample_every else []
    stop_ids = chat.stop_token_ids(tokenizer, {"eos_token_id": list(base_config.eos_token_ids)})
    startup.lap("data")
    open_checkpoints = functools.partial(checkpoint.open_checkpoints, directory / "checkpoints", keep=config.keep)
    with jax.set_mesh(mesh), decoder.precision(config.model.dtype):
        checkpoints = open_checkpoints() if resume else None
        stored = resume and checkpoints.latest_step() is not None
        missing = companions.choose_reference(config) == "stored" and not references.stand(
            directory, data, fingerprint["model"])
        frozen, trainable = states.init_weights(tuning, base, mesh, config.seed, stored=stored and not missing)
        model, others = companions.load_teacher(teacher, mesh) if teacher else (None, None)
        wait_for_all("inputs checked")  # or one process could find the directory that another has just begun
        if writer:
            held = held or rundir.claim(directory, resume)
            rundir.start(directory, config, fingerprint, tuning.model_config, tokenizer)
            rundir.write_data(directory, config, prepared, evaluation)
        with held or contextlib.nullcontext(), contextlib.closing(checkpoints or open_checkpoints()) as checkpoints:
            if missing:
                references.write(directory, data, companions.base_model(config, tuning) or tuning.model,
                                 (frozen, trainable), config, mesh, digest=fingerprint["model"], say=progress.say)
            company = companions.gather(config, tuning, teacher=teacher, model=model, vocab=vocab,
                                        **take_extras(config, directory, data, store))
            run = Run(config, directory, mesh, tokenizer, tuning, frozen, total, evaluation, suite, company,
                      companions.stand_beside(frozen, others), prompts, stop_ids, checkpoints, fingerprint["model"],
                      peak, progress.say)
            state = fit(run, trainable, prepared, loggers, progress, startup, profile)
            if config.export == "best":
                state = state._replace(trainable=finish.restore_best(run, state))
            finish.save_final(run, state.trainable)
    return directory


def wait_for_all(name: str) -> None:
    """Returns once every process of the run is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def take_extras(config, directory: Path, data, store) -> dict[str, dict]:
    """Arrays that the batches of training and of evaluation are filled up from, memory-mapped."""
    found = {"train": dict(store.training), "eval": dict(store.evaluation)} if store else {"train": {}, "eval": {}}
    if companions.choose_reference(config) == "stored":
        for name in (name for name, prepared in data.items() if prepared is not None):
            found[name]["reference_logprobs"] = references.read(directory, name)
    return {"extras": found["train"], "judged_extras": found["eval"]}


def fit(run: Run, trainable, prepared, loggers, progress, startup, profile) -> TrainState:
    """Runs the steps from wherever the checkpoints stand to the end; returns the last state."""
    config = run.config
    optimizer, schedule = optimizers.make_optimizer(config.optimizer, run.total)
    state, key, position = states.init_state(
        run.tuning, run.mesh, trainable, optimizer, run.checkpoints, config.seed
    )
    del trainable  # its buffers are the state's now, and the first step reuses them
    start = int(state.step)
    batches = feed.make_batches(config, run.mesh, prepared, run.company.extras)
    if position is not None:
        batches.set_state(position)
    counts = states.count(run.tuning, state.trainable)
    run.say(finish.describe(run, state, start, **counts))
    startup.lap("weights")
    with compile_cache.reads() as hits:
        step_fn = compile_step(run, optimizer, state, key)
    startup.from_cache = bool(hits) if compile_cache.cache_is_on() else None
    startup.lap("compile")
    evaluate = make_evaluation(run)
    writer = jax.process_index() == 0
    lines = JsonLines(run.directory / "metrics.jsonl", step=start) if writer else None
    run_id = rundir.read_id(run.directory)
    opened = open_loggers(loggers, run.directory, config.to_dict(), start, run_id) if writer else []
    device = jax.local_devices()[0]
    progress.start(run.total, start, memory=meter.memory_kind(device))
    first = meter.make_first(run.directory if writer else None, startup, run.peak, run.mesh, counts, run.say)
    work = states.work(run.tuning, state.trainable, config.transform)
    measure = meter.make_measure(run.model_config, run.peak, device, first, others=run.company.others, **work)
    check = functools.partial(check_finite, run.checkpoints)
    recorder = Recorder(lines, opened, progress, check, measure=measure)
    trace = Profile(run.directory / "profile", profile if writer else None, start=start)
    # All at once: asking the schedule at every step would wait for the devices.
    rates = jax.device_get(jax.vmap(schedule)(jnp.arange(run.total))).tolist()
    try:
        with stop_signals() as stopping:
            return loop(run, state, key, batches, step_fn, evaluate, recorder, rates, stopping, trace)
    finally:
        trace.close()
        recorder.close()


def loop(run: Run, state, key, batches, step_fn, evaluate, recorder, rates, stopping, trace) -> TrainState:
    """The steps. Nothing in it waits for the devices except own answers, evaluation, samples and checkpoints."""
    config = run.config
    start = int(state.step)
    best, stale = past_evaluations(run.directory, start)
    tired = bool(config.patience) and stale >= config.patience
    if during.missing(run.suite, run.directory, start, last=tired or start == run.total):  # it was stopped within one
        recorder.amend(start, **run_suite(run, state.trainable, start))
    for step in range(start + 1, run.total + 1):
        if tired:
            run.say(f"step {step - 1}: no better eval loss in {stale} evaluations, stopping early")
            break
        batch, numbers = take_batch(run, state.trainable, next(batches), step)
        with trace.step(step, recorder):
            state, metrics = step_fn(state, run.beside, batch, key)
        recorder.push(step, {**metrics, **numbers}, rates[step - 1])
        if trace.stop(step, recorder):
            run.say(f"step {step}: traced to {trace.directory}")
        loss, last = None, step == run.total
        if evaluate and (last or due(step, config.eval_every)):
            recorder.drain()
            judged = evaluate(run.beside, state.trainable)
            loss = judged["eval_loss"]
            recorder.extend(**judged)
            best, stale = (loss, 0) if loss < best else (best, stale + 1)
        if due(step, config.sample_every):
            recorder.drain()
            sample(run, state.trainable, step)
            recorder.extend()
        tired, stop = bool(config.patience) and stale >= config.patience, stopping(step)
        if last or tired or stop or (loss is not None and stale == 0) or due(step, config.checkpoint_every):
            recorder.drain()
            recorder.flush()
            checkpoint.save(run.checkpoints, state, key, batches.get_state(), loss, base=run.digest)
            recorder.extend()
        if stop and not last:
            run.checkpoints.wait_until_finished()
            raise Interrupted(f"stopped at step {step}, saved; --resume continues")
        if during.due(run.suite, step, last=last or tired):  # after saving, for it may take long
            recorder.drain()
            recorder.amend(step, **run_suite(run, state.trainable, step))
    run.checkpoints.wait_until_finished()
    return state


def take_batch(run: Run, trainable, batch, step: int):
    """(the batch of a step on the devices, numbers about it): some steps are on what the model itself answers."""
    numbers = {}
    if feed.writes_answers(run.config):
        batch, numbers = own_answers.renew(
            batch, run.model, (run.frozen, trainable), run.tokenizer, run.config, step=step, stop_ids=run.stop_ids,
            context=run.model_config.max_positions)
    return feed.put(batch, run.config, run.mesh), numbers


def due(step: int, every: int) -> bool:
    """Whether something done every `every` steps (0: never) is due."""
    return every > 0 and step % every == 0


def compile_step(run: Run, optimizer, state, key):
    """Compiles the train step for this mesh ahead of the first batch; the state's buffers are reused."""
    began = time.perf_counter()
    traced = compiling.trace_step(run.config, run.model, optimizer, state, run.beside, run.mesh, key,
                                  objective=run.company.objective, windows=run.model_config.windows,
                                  others=run.company.windows, extras=run.company.extras)
    compiled = traced.lower().compile()
    run.say(f"compiled the train step in {time.perf_counter() - began:.1f} s")
    return compiled


def make_evaluation(run: Run):
    """Returns `evaluate(beside, trainable) -> {"eval_loss": ...}` over the evaluation data, or None without any.

    Objectives besides sft say the means of their metrics too, `eval_margin` say.
    """
    if run.evaluation is None:
        return None
    config, company = run.config, run.company
    everywhere = jax.sharding.NamedSharding(run.mesh, jax.sharding.PartitionSpec())
    step = jax.jit(make_eval_step(run.model, company.judged), out_shardings=everywhere)

    def evaluate(beside, trainable) -> dict[str, float]:
        batches = feed.eval_batches(config, run.mesh, run.evaluation, company.judged_extras)
        batches = itertools.islice(batches, config.eval_batches or None)
        sums = sum_batches(
            lambda batch, sums: step(beside, trainable, batch, sums),
            (sharding.put_batch(batch, run.mesh, config.batch_size) for batch in batches),
        )
        found = {name: float(x) for name, x in means(sums, sums.pop("weight")).items()}
        if config.objective.name == "sft":
            return {"eval_loss": found["loss"]}
        return {f"eval_{name}": x for name, x in found.items()}

    return evaluate


def sample(run: Run, trainable, step: int) -> None:
    """Writes the answers of the model as it is now to samples.jsonl."""
    write_samples(
        run.prompts, run.model, (run.frozen, trainable), run.tokenizer, step=step, stop_ids=run.stop_ids,
        max_new_tokens=run.config.sample_tokens, say=run.say,
        path=run.directory / "samples.jsonl" if jax.process_index() == 0 else None,
    )


def run_suite(run: Run, trainable, step: int) -> dict[str, float]:
    """Evaluates the model as it is now, into evals/step-N; returns the headlines of its tasks."""
    pretrained = Pretrained(run.model, (run.frozen, trainable), run.tokenizer, run.model_config)
    return during.run(run.suite, pretrained, out=during.folder(run.directory, step), step=step, say=run.say,
                      digest=f"{run.digest}-{rundir.read_id(run.directory)}")
