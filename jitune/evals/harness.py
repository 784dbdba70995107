"""The tasks of lm-evaluation-harness on a jitune model, without torch: names of tasks in, our results out.

    works = run_harness(engine, ["hellaswag"], store=None, bars=bars, limit=100)

A model is an `lm_eval.api.model.LM` whose requests are ours (`Score`, `Rolling`, `Generate`), so they are kept,
deduplicated and batched as those of native tasks; what the harness scored becomes documents and outcomes, with the
error bars and slices of every other task. Needs the extra `eval`.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from jitune.evals.responses import answer
from jitune.evals.task import (
    Document,
    Generate,
    Generated,
    LogLikelihood,
    Metric,
    Outcome,
    Request,
    Response,
    Rolling,
    Score,
    Task,
)
from jitune.types import UserError

MAX_NEW_TOKENS = 256  # where a task does not say, as in the harness


def run_harness(
    engine: Any, names: Sequence[str], *, store: Any, bars: Any, limit: int = 0, num_fewshot: int | None = None,
    chat: bool = True, include_path: str = "", seed: int = 0, opened: tuple | None = None,
) -> list[tuple]:  # fmt: skip
    """Runs tasks of the harness; returns (task, documents, responses, outcomes) of each, subtasks one by one.

    Args:
      names: of tasks, groups or tags of the harness.
      store, bars: see `responses.answer`.
      limit: documents of a task, the first ones; 0: all.
      chat: render prompts by the chat template, earlier examples as turns.
      include_path: a folder with task files of your own; where its names are enough, only it is read.
      opened: what `open_tasks` gave, where it was asked before.

    Raises:
      UserError: as `open_tasks` does.
    """
    manager, loaded = opened or open_tasks(names, include_path)
    evaluator, _ = import_harness()
    found = evaluator.simple_evaluate(
        make_model(engine, store, bars), tasks=list(names), num_fewshot=num_fewshot, limit=limit or None,
        task_manager=manager, apply_chat_template=chat, bootstrap_iters=0, log_samples=True,
        random_seed=seed, numpy_random_seed=seed, fewshot_random_seed=seed or 1234,
    )  # fmt: skip
    return [convert(name, rows, found["configs"].get(name, {}), loaded.get(name))
            for name, rows in found["samples"].items()]


def open_tasks(names: Sequence[str], include_path: str = "") -> tuple[Any, dict[str, Any]]:
    """(the harness's table of tasks, name -> task with its data), before a model is there.

    Raises:
      UserError: the harness is not installed, a task that it does not know, whose file is wrong or data cannot be had.
    """
    _, tasks = import_harness()
    manager = open_manager(tasks, names, include_path)
    try:
        return manager, manager.load(list(names))["tasks"]
    except OSError as error:  # a ConnectionError too
        raise UserError(f"lm_eval: the data of {', '.join(names)} cannot be had: {' '.join(str(error).split())[:300]}; "
                        "without a network, give task files over local data with --include_path") from error
    except Exception as error:  # whatever a task file of the user's holds
        raise UserError(f"lm_eval: {', '.join(names)} cannot be set up: {type(error).__name__}: "
                        f"{' '.join(str(error).split())[:300]}") from error


def import_harness():
    """(lm_eval.evaluator, lm_eval.tasks), quiet. Raises UserError where it is not installed."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    os.environ.setdefault("LMEVAL_LOG_LEVEL", "ERROR")
    try:
        from lm_eval import evaluator, tasks
    except ImportError as error:
        raise UserError(f"lm_eval: is not installed ({error}); pip install 'jitune[eval]'") from error
    return evaluator, tasks


def open_manager(tasks: Any, names: Sequence[str], include_path: str):
    """The harness's table of tasks: that of a folder alone where it has all the names, for the whole takes seconds."""
    if include_path:
        if not os.path.isdir(include_path):
            raise UserError(f"--include_path {include_path}: is not a folder")
        own = tasks.TaskManager(include_path=include_path, include_defaults=False)
        if set(names) <= set(own.all_tasks):
            return own
    manager = tasks.TaskManager(include_path=include_path or None)
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown:
        import difflib

        near = difflib.get_close_matches(unknown[0], manager.all_tasks, n=3)
        raise UserError(f"lm_eval:{unknown[0]}: the harness has no such task"
                        + (f"; the nearest are {', '.join(near)}" if near else ""))
    return manager


def make_model(engine: Any, store: Any, bars: Any):
    """An `lm_eval` model over the engine. Every process of a run is rank 0 of 1: it computes on the whole mesh."""
    from lm_eval.api.model import TemplateLM

    opened = engine

    class Model(TemplateLM):
        """See `make_model`."""

        engine = opened
        tokenizer = opened.pretrained.tokenizer
        tokenizer_name = str(getattr(tokenizer, "name_or_path", "")).replace("/", "__")
        max_length = opened.limit
        eot_token_id = tokenizer.eos_token_id
        prefix_token_id = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id

        def tok_encode(self, string, add_special_tokens=None, **kwargs):
            """Ids of a text; of use to tasks that count tokens."""
            return self.tokenizer.encode(string, add_special_tokens=bool(add_special_tokens))

        def _loglikelihood_tokens(self, requests, **kwargs):
            pairs = [(context, continuation) for _, context, continuation in requests]
            return [(logprob, greedy) for logprob, greedy, *_ in engine.score_tokens(pairs)]

        def loglikelihood(self, requests, disable_tqdm=False):
            """(log-likelihood, greedy) of each."""
            found = answer(engine, [to_request(r.request_type, r.args) for r in requests], store, bars)
            return [(r.logprob, r.greedy) for r in found]

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            """The log-likelihood of each text, its BOS included where the tokenizer puts one, as the harness has it."""
            found = answer(engine, [to_request(r.request_type, r.args) for r in requests], store, bars)
            return [r.logprob for r in found]

        def generate_until(self, requests, disable_tqdm=False):
            """The text of each answer."""
            return [r.text for r in answer(engine, [to_request(r.request_type, r.args) for r in requests], store, bars)]

        def apply_chat_template(self, chat_history, add_generation_prompt=True):
            """A conversation as its template writes it; one that ends in the assistant's words is left open."""
            return self.tokenizer.apply_chat_template(
                chat_history, tokenize=False, add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )  # fmt: skip

    return Model()


def to_request(kind: str, arguments: Sequence) -> Request:
    """A request of the harness as ours.

    Raises:
      UserError: options of generation that are not served.
    """
    if kind in ("loglikelihood", "multiple_choice"):
        return Score(arguments[0], arguments[1])
    if kind == "loglikelihood_rolling":
        return Rolling(arguments[0], bos=True)
    prompt, options = arguments[0], dict(arguments[1])
    until = options.pop("until", None) or []
    lengths = [options.pop(n, None) for n in ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")]
    temperature = float(options.pop("temperature", None) or 0.0) * bool(options.pop("do_sample", True))
    options = {name: value for name, value in options.items() if value not in (None, 1, 1.0, 0, [], "")}
    if options:
        raise UserError(f"lm_eval: generation with {', '.join(f'{k}={v!r}' for k, v in options.items())} is not served")
    return Generate(
        prompt, max_new_tokens=int(next((n for n in lengths if n is not None), MAX_NEW_TOKENS)),
        stop=tuple([until] if isinstance(until, str) else until), temperature=temperature,
    )  # fmt: skip


def convert(name: str, rows: list[dict], config: dict, task: Any) -> tuple:
    """What the harness logged of a task -> (task, documents, responses, outcomes)."""
    better = {m["metric"]: m.get("higher_is_better", True) for m in config.get("metric_list") or [] if "metric" in m}
    better |= task.higher_is_better() if task is not None else {}
    aggregate = task.aggregation() if task is not None else {}
    kind = config.get("output_type") or getattr(task, "OUTPUT_TYPE", None) or "loglikelihood"
    by_id: dict[Any, list[dict]] = {}
    for row in rows:
        by_id.setdefault(row["doc_id"], []).append(row)
    documents, responses, outcomes, values = [], [], [], {}
    for id, group in by_id.items():
        requests, given = zip(*requests_of(group[0], kind), strict=True)
        documents.append(Document(str(id), {"doc_hash": group[0]["doc_hash"]}, requests,
                                  target=jsonable(group[0]["target"])))
        responses.append(given)
        found = {label(metric, row["filter"]): row[metric] for row in group for metric in row["metrics"]}
        values[str(id)] = found
        outcomes.append(Outcome({k: float(v) for k, v in found.items() if is_number(v)}, details=plain(found)))
    names = dict.fromkeys(k for v in values.values() for k in v)
    made = Task(f"lm_eval.{name}", axis="utility", title=f"{name}, of lm-evaluation-harness",
                load=lambda specs: documents, score=lambda *_: Outcome({}), source="lm-evaluation-harness",
                metrics=tuple(make_metric(k, better, aggregate, values) for k in names))
    return made, documents, responses, outcomes


def requests_of(row: dict, kind: str) -> list[tuple[Request, Response]]:
    """The requests of a logged document and what was answered."""
    found = []
    for arguments, answers in zip(row["arguments"], row["resps"], strict=True):
        if isinstance(arguments, dict):
            arguments = list(arguments.values())
        request = to_request(kind, arguments)
        for given in answers:
            if isinstance(request, Score):
                found.append((request, LogLikelihood(float(given[0]), bool(given[1]), tokens=0)))
            elif isinstance(request, Rolling):
                found.append((request, LogLikelihood(float(given), False, tokens=0)))
            else:
                found.append((request, Generated(str(given), "", tokens=0)))
    return found


def label(metric: str, filter: str) -> str:
    """acc, or exact_match,flexible-extract where the harness filtered the answers."""
    return metric if filter in ("", "none", None) else f"{metric},{filter}"


def make_metric(name: str, better: dict, aggregate: dict, values: dict[str, dict]) -> Metric:
    """A metric of the harness; what is no mean over documents is added up by its own function."""
    key = name.partition(",")[0]
    numbers = [v[name] for v in values.values() if name in v]
    share = all(is_number(x) and 0 <= x <= 1 for x in numbers)
    corpus = None
    if not all(map(is_number, numbers)):

        add: Callable = aggregate.get(key, lambda items: None)

        def corpus(documents, outcomes):
            return add([values[d.id][name] for d in documents if name in values[d.id]])

    return Metric(name, f"{key} of lm-evaluation-harness", better="higher" if better.get(key, True) else "lower",
                  unit="share" if share else "", corpus=corpus)


def is_number(x: Any) -> bool:
    """Whether it is one finite number."""
    return isinstance(x, (int, float)) and math.isfinite(x)


def jsonable(x: Any) -> Any:
    """As it is where JSON can say it, else as text."""
    import json

    try:
        json.dumps(x)
        return x
    except (TypeError, ValueError):
        return str(x)


def plain(found: dict) -> dict:
    """Those values that are no numbers, for the record."""
    return {k: jsonable(v) for k, v in found.items() if not is_number(v)}
