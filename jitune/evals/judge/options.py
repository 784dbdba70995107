"""The options of a judge and a classifier on the command line, for every command that takes them.

    add_arguments(parser)                 # --judge, --judge_base_url, ...
    judge = from_arguments(a, folder)     # a Judge that keeps its answers in folder/judge.jsonl; None without --judge
"""

from __future__ import annotations

import json
from pathlib import Path

from jitune.types import UserError

KEY_ENV = "OPENAI_API_KEY"


def add_arguments(parser, *, required: bool = False) -> None:
    """Adds the judge's options."""
    p = parser.add_argument_group("judge")
    p.add_argument("--judge", required=required, metavar="JUDGE", default="",
                   help="the directory of a model, MODEL@https://host/v1, or a model's name with --judge_base_url")
    p.add_argument("--judge_base_url", "--judge-base-url", default="", metavar="URL",
                   help="an endpoint that speaks OpenAI's chat protocol, as in https://host/v1")
    p.add_argument("--judge_key_env", "--judge-key-env", default=KEY_ENV, metavar="NAME",
                   help=f"the environment variable that holds its key ({KEY_ENV})")
    p.add_argument("--judge_prices", "--judge-prices", default="", metavar="IN,OUT",
                   help="prices of a million tokens of input and of output")
    p.add_argument("--judge_budget", "--judge-budget", type=float, metavar="COST",
                   help="what this run may spend; an estimate above it is an error before anything is asked")
    p.add_argument("--judge_partial", "--judge-partial", action="store_true",
                   help="ask as long as the budget lasts, and leave the rest unscored")
    p.add_argument("--judge_concurrency", "--judge-concurrency", type=int, default=8, help="calls at a time (8)")
    p.add_argument("--judge_timeout", "--judge-timeout", type=float, default=120.0, help="seconds for a call (120)")
    p.add_argument("--judge_tries", "--judge-tries", type=int, default=6, help="calls of one question at most (6)")
    p.add_argument("--judge_max_tokens", "--judge-max-tokens", type=int, default=0,
                   help="of an answer, in place of what the task says; more for judges that think first")
    p.add_argument("--judge_parameters", "--judge-parameters", default="", metavar="JSON",
                   help='added to every request; null takes one out, as in {"temperature": null}')
    p.add_argument("--judge_batch_size", "--judge-batch-size", type=int, default=8, help="of a model of your own (8)")
    p.add_argument("--judge_dtype", "--judge-dtype", default="float32", help="of a model of your own (float32)")
    p.add_argument("--judge_cache", "--judge-cache", default="", metavar="FILE",
                   help="where its answers are kept; judge.jsonl in the output folder by default")


def from_arguments(a, folder: str | Path | None = None, **calling):
    """The judge of parsed options, or None without --judge. folder: where the cache goes by default.

    Raises:
      UserError: as `judge.open_judge` does.
    """
    if not a.judge:
        if a.judge_base_url:
            raise UserError("--judge_base_url: needs the model's name, --judge NAME")
        return None
    from jitune.evals.judge.judge import open_judge

    cache = a.judge_cache or (Path(folder) / "judge.jsonl" if folder else None)
    return open_judge(
        a.judge, base_url=a.judge_base_url, key_env=a.judge_key_env, cache=cache, prices=read_prices(a.judge_prices),
        budget=a.judge_budget, partial=a.judge_partial, max_tokens=a.judge_max_tokens,
        parameters=read_parameters(a.judge_parameters), concurrency=a.judge_concurrency, timeout=a.judge_timeout,
        tries=a.judge_tries, local={"batch_size": a.judge_batch_size, "dtype": a.judge_dtype}, **calling)


def read_prices(text: str) -> tuple[float, float] | None:
    """"2.5,10" -> (2.5, 10.0); None for nothing."""
    if not text:
        return None
    try:
        first, second = map(float, text.split(","))
    except ValueError:
        raise UserError(f"--judge_prices {text}: two numbers are needed, IN,OUT, as in 2.5,10") from None
    return first, second


def read_parameters(text: str) -> dict:
    """A JSON object; {} for nothing."""
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise UserError(f"--judge_parameters: is no JSON: {error}") from None
    if not isinstance(found, dict) or {"messages", "model", "stream", "n"} & set(found):
        raise UserError("--judge_parameters: an object is needed, without messages, model, stream and n")
    return found
