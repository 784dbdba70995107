"""jitune judge: two models compared by a judge or by people, one model graded, and the judge itself tested."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jitune.evals.judge.options import add_arguments, from_arguments
from jitune.types import UserError

ANSWERS = ('JSON lines of {"prompt", "instruction" or "messages", "text" or "output"}, samples of a generation '
           "task, or a folder of jitune eval")


def add(commands) -> None:
    """jitune judge"""
    judge = commands.add_parser("judge", help="compare or grade answers, by a judge or by people")
    kinds = judge.add_subparsers(required=True, metavar="COMMAND")
    p = kinds.add_parser("pairs", help="which of two models is better, by two games a question")
    two_sides(p)
    p.add_argument("--out", required=True, metavar="DIR", help="where summary.json and games.jsonl go")
    add_arguments(p, required=True)
    p.set_defaults(run=pairs)
    p = kinds.add_parser("single", help="grades from 1 to 10 of one model's answers")
    p.add_argument("answers", metavar="ANSWERS", help=ANSWERS)
    sample_options(p)
    p.add_argument("--out", required=True, metavar="DIR", help="where summary.json and grades.jsonl go")
    add_arguments(p, required=True)
    p.set_defaults(run=single)
    p = kinds.add_parser("validate", help="how often a judge is right, on pairs with a known better answer")
    p.add_argument("--data", required=True, metavar="FILES", help="LLMBar's files, joined by commas")
    p.add_argument("--limit", type=int, default=0, help="the first N pairs of each file")
    p.add_argument("--out", required=True, metavar="DIR", help="where summary.json and games.jsonl go")
    add_arguments(p, required=True)
    p.set_defaults(run=validate)
    p = kinds.add_parser("export", help="a page on which people compare two models, blind")
    two_sides(p)
    p.add_argument("--out", required=True, metavar="FILE.html", help="the page, to be given to people")
    p.add_argument("--key", metavar="FILE.json", help="which side is which, to be kept; FILE.key.json by default")
    p.add_argument("--seed", type=int, default=0, help="of the order and the sides")
    p.add_argument("--title", default="Which answer is better?")
    p.set_defaults(run=export)
    p = kinds.add_parser("collect", help="what people's votes say")
    p.add_argument("key", metavar="KEY", help="what `export` wrote beside the page")
    p.add_argument("votes", metavar="VOTES", nargs="+", help="files that people saved on the page")
    p.add_argument("--out", metavar="FILE.json", help="where the figures go, besides the screen")
    p.set_defaults(run=collect)


def two_sides(p) -> None:
    """A and B."""
    p.add_argument("a", metavar="A", help=ANSWERS)
    p.add_argument("b", metavar="B", help="the same, of the model that it is compared with")
    sample_options(p)


def sample_options(p) -> None:
    """Which questions."""
    p.add_argument("--task", default="open_ended", help="whose samples are read of a folder (open_ended)")
    p.add_argument("--limit", type=int, default=0, help="the first N questions")


def pairs(a) -> None:
    """Two games a question."""
    from jitune.evals.judge import pairwise

    found, left = read_pairs(a)
    judge = from_arguments(a, a.out)
    games = pairwise.play(found, judge, on_done=Progress(2 * len(found)))
    summary = {"a": a.a, "b": a.b, **left, **pairwise.summarize(games), "judge": judge.account}
    write(a.out, summary, "games.jsonl", map(pairwise.line, games))
    controlled, bias = summary["length_controlled"], summary["position_bias"]
    print(f"{a.a} against {a.b}: {of(summary['win_rate'])} of {len(games) - summary['unscored']} questions "
          f"({summary['wins']} won, {summary['ties']} tied, {summary['losses']} lost, {summary['unscored']} unscored)")
    print(f"at equal length: {of(controlled)}" + (f" ({controlled['note']})" if controlled["note"] else ""))
    if bias["n"]:
        print(f"the two orders disagree on {bias['disagreement']:.1%}; for the first answer both times: "
              f"{bias['first']:.1%}, for the second: {bias['second']:.1%}")
    farewell(judge, a.out)


def single(a) -> None:
    """A grade an answer."""
    from jitune.evals.judge import prompts
    from jitune.evals.judge.answers import read_answers
    from jitune.evals.stats import mean_interval

    answers = read_answers(a.answers, task=a.task)[: a.limit or None]
    judge = from_arguments(a, a.out)
    asks = [prompts.single(x.question, x.text, reference=x.reference) for x in answers]
    verdicts = judge.answer(asks, Progress(len(asks)))
    grades = [prompts.read_single(v.value) if v.value is not None else None for v in verdicts]
    kept = [(g, x.cluster) for g, x in zip(grades, answers, strict=True) if g is not None]
    interval = mean_interval([float(g) for g, _ in kept], [c for _, c in kept], bounds=(1.0, 10.0))
    lines = ({"id": x.id, "question": x.question, "answer": x.text, "grade": grade, "judge": v.value,
              "failure": v.failure or ("judge: no grade in its answer" if grade is None else "")}
             for x, v, grade in zip(answers, verdicts, grades, strict=True))
    summary = {"answers": a.answers, "grade": interval._asdict(), "unscored": len(answers) - len(kept),
               "judge": judge.account}
    write(a.out, summary, "grades.jsonl", lines)
    print(f"{a.answers}: {of(interval._asdict(), share=False)} of 10 over {len(kept)} answers, "
          f"{summary['unscored']} unscored")
    farewell(judge, a.out)


def validate(a) -> None:
    """Accuracy of a judge."""
    from jitune.data.sources import split_specs
    from jitune.evals.judge import pairwise
    from jitune.evals.judge.validate import read_labelled, report

    rows = [row for spec in split_specs(a.data) for row in read_labelled([spec])[: a.limit or None]]
    judge = from_arguments(a, a.out)
    games = pairwise.play([row.pair for row in rows], judge, on_done=Progress(2 * len(rows)))
    found = report(rows, games)
    lines = ({**pairwise.line(game), "better": row.better} for row, game in zip(rows, games, strict=True))
    write(a.out, {"data": found, "judge": judge.account}, "games.jsonl", lines)
    for name, part in found.items():
        agree = "-" if part["agreement"] is None else f"{part['agreement']:.1%}"
        print(f"{name}: {of(part['accuracy'])} right, single verdicts {of(part['verdicts'])}, orders agree on {agree}; "
              f"{part['n'] - part['unscored']} of {part['n']} scored")
    farewell(judge, a.out)


def export(a) -> None:
    """A page for people."""
    from jitune.evals.judge import human

    found, left = read_pairs(a)
    out = Path(a.out)
    key = Path(a.key) if a.key else out.with_suffix(".key.json")
    record = human.export(found, out, key, seed=a.seed, names=(a.a, a.b), title=a.title)
    print(f"{out}: {len(record['items'])} questions ({record['identical']} left out, whose answers are the same; "
          f"without a partner: {left['only_a']} of A, {left['only_b']} of B)")
    print(f"{key}: which side is which; keep it, and give people the page only")


def collect(a) -> None:
    """Votes of people."""
    from jitune.evals.judge.human import collect

    found = collect(a.key, a.votes)
    if a.out:
        Path(a.out).write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    agree = found["agreement"]
    print(f"{found['a']} against {found['b']}: {of(found['win_rate'])} over {found['answered']} of "
          f"{found['questions']} questions ({found['wins']} votes for, {found['ties']} ties, "
          f"{found['losses']} against)")
    print("votes: " + ", ".join(f"{name} {count}" for name, count in found["annotators"].items()))
    if agree["pairs"]:
        rest = (f"{name} {value:.3f}" for name, value in (("kappa", agree["kappa"]), ("alpha", agree["alpha"]))
                if value is not None)
        print(f"agreement: {agree['share']:.1%} of {agree['pairs']} pairs of votes; {', '.join(rest)}".rstrip("; "))


def read_pairs(a):
    """(pairs, how many answers had no partner)."""
    from jitune.evals.judge.answers import match, read_answers

    found, left = match(read_answers(a.a, task=a.task), read_answers(a.b, task=a.task))
    return found[: a.limit or None], left


def of(interval: dict, *, share: bool = True) -> str:
    """A value with its interval, for the screen."""
    def number(x):
        return f"{x:.1%}" if share else f"{x:.2f}"

    if interval["value"] is None:
        return "nothing"
    ends = "" if interval["low"] is None else f" ({number(interval['low'])} to {number(interval['high'])})"
    return number(interval["value"]) + ends


class Progress:
    """Says on stderr how many verdicts have come, at every tenth of them."""

    def __init__(self, total: int):
        self.total, self.seen, self.said = total, 0, 0

    def __call__(self, done) -> None:
        self.seen += len(done)
        if 10 * self.seen // max(1, self.total) > self.said:
            self.said = 10 * self.seen // self.total
            print(f"{self.seen} of {self.total} judged", file=sys.stderr)


def write(out: str, summary: dict, name: str, lines) -> None:
    """summary.json and the lines behind it."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    (folder / "summary.json").write_text(json.dumps(summary, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def farewell(judge, out: str) -> None:
    """What it took."""
    account = judge.account
    cost = "" if account["cost"] is None else f", cost {account['cost']:.4g}"
    print(f"judge {account['model']}: {account['calls']} calls, {account['cached']} answers kept from before, "
          f"{account['failed']} failed, {account['not_asked']} not asked for the budget, {account['cut_off']} cut off; "
          f"{account['input_tokens']:,} tokens in, {account['output_tokens']:,} out{cost}; {out}")
    judge.close()
    if account["asked"] and not (account["calls"] or account["cached"]):
        raise UserError("the judge answered nothing: no figure above means anything")
