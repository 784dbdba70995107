"""jitune eval: what a model is worth in utility, faithfulness and safety."""

from __future__ import annotations

from jitune.evals.judge import options
from jitune.types import UserError


def add(commands) -> None:
    """jitune eval"""
    p = commands.add_parser("eval", help="measure utility, faithfulness and safety, with error bars")
    p.add_argument("--model", required=True, metavar="DIR", help="a model, or an adapter that names its base")
    p.add_argument("--adapter", metavar="DIR", default="", help="an adapter in PEFT's layout; it is not merged")
    p.add_argument("--suite", default="", metavar="AXES", help="of utility, faithfulness, safety, joined by commas: "
                   "the tasks whose files are in --data")  # fmt: skip
    p.add_argument("--tasks", default="", metavar="NAMES", help="tasks by name, joined by commas: gsm8k, "
                   "multiple_choice:FILE, lm_eval:hellaswag, module:TASK")  # fmt: skip
    p.add_argument("--data", action="append", default=[], metavar="DIR", help="a folder with the files of tasks, at "
                   "any depth; may be repeated")  # fmt: skip
    p.add_argument("--out", required=True, metavar="DIR", help="results.json, samples/, report.html; a run that was "
                   "killed goes on there")  # fmt: skip
    p.add_argument("--limit", type=int, default=0, help="documents of a task, drawn evenly over its parts; 0: all")
    p.add_argument("--languages", default="", help="only these, joined by commas: en,de")
    p.add_argument("--seed", type=int, default=0, help="of the documents that --limit draws")
    p.add_argument("--max_length", "--max-length", type=int, default=0, help="tokens; 0: the model's context")
    p.add_argument("--batch_size", "--batch-size", type=int, default=8, help="answers generated at once")
    p.add_argument("--dtype", default="float32", help="float32 | bfloat16")
    p.add_argument("--chat_template", "--chat-template", default="", help="a jinja file, chatml | alpaca, or none: "
                   "conversations as plain text")  # fmt: skip
    p.add_argument("--allow_code", "--allow-code", action="store_true",
                   help="run the programs that the model writes, in a process with limits (humaneval)")
    p.add_argument("--num_fewshot", "--num-fewshot", type=int, default=None, help="for the tasks of lm_eval")
    p.add_argument("--include_path", "--include-path", default="", metavar="DIR", help="task files for lm_eval")
    p.add_argument("--classifier", default="", metavar="SPEC", help="of toxicity: module:function, from texts to "
                   "numbers in [0, 1], or moderations@https://host/v1")  # fmt: skip
    p.add_argument("--classifier_model", "--classifier-model", default="", help="of an endpoint")
    p.add_argument("--distributed", action="store_true", help="one of several processes, as in jitune train")
    options.add_arguments(p)
    for axis, size in (("data", 1), ("fsdp", -1), ("tensor", 1)):
        p.add_argument(f"--mesh.{axis}", dest=f"mesh_{axis}", type=int, default=size)
    p.set_defaults(run=run)


def run(a) -> None:
    """Evaluates."""
    if a.limit < 0 or a.batch_size < 1 or a.max_length < 0:
        raise UserError("--limit and --max_length must not be negative, and --batch_size at least 1")
    from jitune.evals import command

    command.run(a)
