"""jitune eval: what a model is worth in utility, faithfulness and safety."""

from __future__ import annotations

from jitune.evals.judge import options
from jitune.types import MESH_SIZES, UserError

EXAMPLES = """\
  jitune eval --model DIR --suite utility,faithfulness,safety --data FOLDER \\
    --out eval/base --limit 50
  jitune eval --model DIR --tasks multiple_choice:mine.jsonl,gsm8k \\
    --data FOLDER --out eval/mine
  jitune report compare eval/base eval/tuned
"""


def add(commands) -> None:
    """jitune eval"""
    import argparse

    p = commands.add_parser("eval", help="measure utility, faithfulness and safety, with error bars", epilog=EXAMPLES,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
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
    p.add_argument("--limit", type=int, default=0, metavar="N",
                   help="documents of a task, drawn evenly over its parts; 0: all")
    p.add_argument("--languages", default="", metavar="CODES", help="only these, joined by commas: en,de")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of the documents that --limit draws")
    p.add_argument("--max_length", "--max-length", type=int, default=0, metavar="N",
                   help="tokens of a prompt and its answer; 0: the model's context, at most 8192")
    p.add_argument("--batch_size", "--batch-size", type=int, default=8, metavar="N",
                   help="answers generated at once (8)")
    p.add_argument("--dtype", default="float32", help="float32 (the default) | bfloat16")
    p.add_argument("--allow_longer_context", "--allow-longer-context", action="store_true",
                   help="texts may be longer than the model was made for")
    p.add_argument("--chat_template", "--chat-template", default="", help="a jinja file, chatml | alpaca, or none: "
                   "conversations as plain text")  # fmt: skip
    p.add_argument("--allow_code", "--allow-code", action="store_true",
                   help="run the programs that the model writes, in a process with limits (humaneval)")
    p.add_argument("--num_fewshot", "--num-fewshot", type=int, default=None, metavar="N",
                   help="examples in front, for the tasks of lm_eval; what a task says by default")
    p.add_argument("--include_path", "--include-path", default="", metavar="DIR", help="task files for lm_eval")
    p.add_argument("--classifier", default="", metavar="SPEC", help="of toxicity: module:function, from texts to "
                   "numbers in [0, 1], or moderations@https://host/v1")  # fmt: skip
    p.add_argument("--classifier_model", "--classifier-model", default="", metavar="NAME", help="of an endpoint")
    p.add_argument("--distributed", action="store_true", help="one of several processes, as in jitune train")
    options.add_arguments(p)
    for axis, size in MESH_SIZES.items():
        p.add_argument(f"--mesh.{axis}", dest=f"mesh_{axis}", type=int, default=size, metavar="N",
                       help=f"devices along {axis} ({size}); -1: all that are left")
    p.set_defaults(run=run)


def run(a) -> int:
    """Evaluates."""
    if a.limit < 0 or a.batch_size < 1 or a.max_length < 0:
        raise UserError("--limit and --max_length must not be negative, and --batch_size at least 1")
    import sys

    from jitune.evals import command

    try:
        command.run(a)
    except KeyboardInterrupt:
        print("jitune: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
