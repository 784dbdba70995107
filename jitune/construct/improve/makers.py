"""What each method makes of a model's answers: problems in, records in, and why the rest is not among them.

    found = rft(given, problems)
    found.kept, found.rejected          # [Record, ...], [Rejected("wrong_answer", ...), ...]

What is asked is asked through `given.ask`, which pays for nothing twice; what is kept is chosen by `select`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jitune.construct.distill.method import Rejected
from jitune.construct.improve import constitution, prompts, select
from jitune.construct.improve.problems import question
from jitune.construct.improve.select import Chosen, Sample, as_record
from jitune.construct.verify.verifier import Checked
from jitune.data.record import Record, changed, named
from jitune.generators.call import Call, Lost, Prompt, Reply, provenance
from jitune.options import PREFERENCES
from jitune.types import UserError


class Asked(NamedTuple):
    """Who is asked. ask: `(calls) -> answers in order`. identity: of the generator, for provenance."""

    ask: Callable[[Sequence[Call]], list[Reply | Lost]]
    identity: Mapping[str, Any]


class Given(NamedTuple):
    """What a method works with.

    Attributes:
      model: the model of now. judge: who judges, which may be the same; None where nobody does.
      verify: a guarded verifier, or None. read: what reads the answer of a text, or None.
      recipe: the method with its options. judging: times, temperature, max_tokens. max_tokens: of an answer.
      principles, revisions: of constitutional. seeds: `(number of a sample) -> seed`, other ones in each round.
      round: counted from 1.
    """

    model: Asked
    recipe: Any
    seeds: Callable[[int], int]
    round: int = 1
    max_tokens: int = 512
    verify: Any = None
    read: Callable[[str], str | None] | None = None
    judge: Asked | None = None
    judging: Any = None
    principles: Sequence[constitution.Principle] = ()
    revisions: int = 1


Maker = Callable[[Given, Sequence[Record]], Chosen]


def call_of(given: Given, prompt: Prompt, number: int = 0) -> Call:
    """The call of a sample by its number."""
    r = given.recipe
    return Call(prompt, given.max_tokens, r.temperature, r.top_p, r.top_k, seed=given.seeds(number))


def sample(given: Given, problems: Sequence[Record], asked: Sequence[Prompt] | None = None
           ) -> tuple[list[list[Sample]], list[Rejected]]:  # fmt: skip
    """The samples of each problem, checked where there is a verifier, and what was lost on the way.

    asked: what stands in the place of the problems' own words.
    """
    asked = [question(p) for p in problems] if asked is None else asked
    count = given.recipe.samples
    calls = [call_of(given, prompt, k) for prompt in asked for k in range(count)]
    replies, found, lost = given.model.ask(calls), [[] for _ in problems], []
    for i, (call, reply) in enumerate(zip(calls, replies, strict=True)):
        problem = problems[i // count]
        if isinstance(reply, Lost):
            lost.append(Rejected(reply.reason, reply.detail, problem.provenance.source))
            continue
        found[i // count].append(Sample(problem, reply.text.strip(), seed=call.seed, finish_reason=reply.finish_reason,
                                        provenance=origin(given, problem, call)))
    return checked(given, found), lost


def origin(given: Given, problem: Record, call: Call):
    """Where an answer to a problem comes from."""
    p = problem.provenance
    return provenance(given.model.identity, call, method="self_improvement", parents=(problem.id,), source=p.source,
                      license=p.license)


def checked(given: Given, samples: list[list[Sample]]) -> list[list[Sample]]:
    """The samples with the verifier's verdicts; those that were cut or are empty need none."""
    if given.verify is None:
        return samples
    due = [s for group in samples for s in group if is_whole(s)]
    verdicts = iter(given.verify.check_all([(s.record, s.text) for s in due]))
    return [[s._replace(checked=next(verdicts)) if is_whole(s) else s for s in group] for group in samples]


def is_whole(sample: Sample) -> bool:
    """Whether an answer came to its end and says something; others are dropped, whatever anyone thinks of them."""
    return bool(sample.text) and sample.finish_reason != "length"


def each(given: Given, problems: Sequence[Record], choose: Callable[[list[Sample]], Chosen]) -> Chosen:
    """Samples every problem, and chooses among the samples of each."""
    samples, lost = sample(given, problems)
    return together([choose(group) for group in samples if group], lost)


def together(parts: Sequence[Chosen], lost: Sequence[Rejected] = ()) -> Chosen:
    """What was chosen of several problems."""
    return Chosen([r for part in parts for r in part.kept], [*lost, *(r for part in parts for r in part.rejected)])


def rft(given: Given, problems: Sequence[Record]) -> Chosen:
    """RFT: right answers with right arithmetic, one a distinct list of equations."""
    return each(given, problems, select.rft)


def rest_em(given: Given, problems: Sequence[Record]) -> Chosen:
    """ReST-EM: a few of the right answers to each problem."""
    return each(given, problems, lambda group: select.rest_em(group, most=given.recipe.keep, seed=given.seeds(0)))


def lmsi(given: Given, problems: Sequence[Record]) -> Chosen:
    """LMSI: the answers that lead to what most of them lead to; nobody tells which is right."""
    return each(given, problems, lambda group: select.majority(group, read=given.read))


def spin(given: Given, problems: Sequence[Record]) -> Chosen:
    """SPIN: pairs of a problem's own answer and the model's."""
    return each(given, problems, select.spin)


def star(given: Given, problems: Sequence[Record]) -> Chosen:
    """STaR: right answers, and where there is none, right ones that were given the result as a hint."""
    samples, lost = sample(given, problems)
    missed = [i for i, group in enumerate(samples)
              if not any(s.checked.right for s in group) and prompts.right_answer(problems[i])]
    hints = [prompts.hint(problems[i]) for i in missed]
    hinted, more = sample(given, [problems[i] for i in missed], hints)
    second = dict(zip(missed, hinted, strict=True))
    return together([select.star(group, second.get(i, ())) for i, group in enumerate(samples)
                     if group or second.get(i)], [*lost, *more])


def self_rewarding(given: Given, problems: Sequence[Record]) -> Chosen:
    """Self-rewarding: a pair of the answer that is judged best and the one that is judged worst."""
    samples, lost = sample(given, problems)
    scores = iter(judged(given, [(s.record, s.text) for group in samples for s in group if is_whole(s)]))
    scored = [[with_score(s, *next(scores)) if is_whole(s) else s for s in group] for group in samples]
    return together([select.best_and_worst(group) for group in scored if group], lost)


def with_score(sample: Sample, score: float | None, why: str) -> Sample:
    """A sample with what a judge says of it."""
    return sample._replace(score=score, checked=Checked(None, why))


def judged(given: Given, answers: Sequence[tuple[Record, str]]) -> list[tuple[float | None, str]]:
    """The judge's mean score of each answer, 0 to 5, None where no judgement could be read; and what there was."""
    times = given.judging.times
    calls = [Call(prompts.judge(record, text), given.judging.max_tokens, given.judging.temperature, seed=k)
             for record, text in answers for k in range(times)]
    replies = given.judge.ask(calls)
    return [_mean(replies[start : start + times]) for start in range(0, len(replies), times)]


def _mean(replies: Sequence[Reply | Lost]) -> tuple[float | None, str]:
    score, told = prompts.mean_points([r.text if isinstance(r, Reply) else "" for r in replies])
    lost = next((r for r in replies if isinstance(r, Lost)), None)
    return score, f"{told}; {lost.reason} {lost.detail}".strip() if lost else told


def constitutional(given: Given, problems: Sequence[Record]) -> Chosen:
    """Constitutional critique and revision: an answer, what a principle finds wrong with it, and a better one.

    Where a critique finds nothing, the answer stays as it is; one that is never revised is not kept (no_problem).
    """
    samples, lost = sample(given, problems)
    whole = [s for group in samples for s in group if is_whole(s)]
    lost += [fault_of(s, s.finish_reason, s.text) for group in samples for s in group if not is_whole(s)]
    drawn = [constitution.draw(given.principles, given.revisions, seed=f"{given.seeds(0)}:{s.record.id}:{s.seed}")
             for s in whole]
    going = [Revised(s, s.text) for s in whole]
    for step in range(given.revisions):
        going = revise(given, going, [principles[step] for principles in drawn])
    parts = [finish(one) for one in going]
    return together(parts, lost)


class Revised(NamedTuple):
    """An answer on its way: as it is now, the last reply, the principles that changed it, what ended it."""

    first: Sample
    text: str
    reply: Reply | None = None
    used: tuple = ()
    fault: Rejected | None = None


def revise(given: Given, going: Sequence[Revised], principles: Sequence[constitution.Principle]) -> list[Revised]:
    """One critique and one revision of every answer that nothing has ended."""
    found = list(going)
    alive = [i for i, one in enumerate(going) if one.fault is None]
    asked = [constitution.critique(going[i].first.record, going[i].text, principles[i]) for i in alive]
    critiques = given.model.ask([call_of(given, prompt) for prompt in asked])
    due = []
    for i, reply in zip(alive, critiques, strict=True):
        if isinstance(reply, Lost):
            found[i] = going[i]._replace(fault=fault_of(going[i].first, reply, ""))
        elif said := constitution.read_critique(reply.text):
            due.append((i, call_of(given, constitution.revision(going[i].first.record, going[i].text, said,
                                                                principles[i]))))
    for (i, call), reply in zip(due, given.model.ask([call for _, call in due]), strict=True):
        if isinstance(reply, Lost):
            found[i] = going[i]._replace(fault=fault_of(going[i].first, reply, ""))
            continue
        text = constitution.read_revision(reply.text)
        source = origin(given, going[i].first.record, call)
        found[i] = going[i]._replace(first=going[i].first._replace(provenance=source), reply=reply,
                                     text=text or "", used=(*going[i].used, principles[i]))
        if not text or reply.finish_reason == "length":
            found[i] = found[i]._replace(fault=fault_of(going[i].first, reply.finish_reason, reply.text))
    return found


def finish(one: Revised) -> Chosen:
    """The record of a revised answer, or why there is none."""
    if one.fault:
        return Chosen([], [one.fault])
    if one.reply is None:
        return Chosen([], [Rejected("no_problem", "no principle was gone against", one.first.record.provenance.source,
                                    one.first.text)])
    return constitution.revised(one.first, one.reply.text, principles=one.used)


def fault_of(first: Sample, what: str | Lost, text: str) -> Rejected:
    """Why an answer ends: what was lost, cut_by_length, or empty. what: its finish_reason, or what took its place."""
    reason = what.reason if isinstance(what, Lost) else "cut_by_length" if what == "length" else "empty"
    return Rejected(reason, getattr(what, "detail", ""), first.record.provenance.source, text)


def own(target: str) -> Maker:
    """A method of one's own: `improve(problem, answers)`, or with a third argument `ask`.

    problem: a Record. answers: the model's texts. ask: `(list of prompts) -> list of texts or None`, of the same model.
    It returns what is to be learned: None, a text, a Record (such as a pair of answers), or a list of them. One that
    raises makes nothing of that problem, which is counted.

    Raises UserError where the function cannot be imported.
    """
    module, _, name = target.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        takes_ask = len(inspect.signature(function).parameters) > 2
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(f"config.method={target}: cannot be imported: {error}") from error

    def make(given: Given, problems: Sequence[Record]) -> Chosen:
        samples, rejected = sample(given, problems)
        kept = []
        for group in filter(None, samples):
            more = (lambda words: asking(given, words),) if takes_ask else ()
            found, fault = attempt(function, group[0].record, [s.text for s in group], *more)
            kept += [finished(item, group[0], pairs=given.recipe.objective in PREFERENCES) for item in found]
            rejected += [fault._replace(source=group[0].record.provenance.source)] if fault else []
        return Chosen(kept, rejected)

    return make


def attempt(function: Callable, *given: Any) -> tuple[list[str | Record], Rejected | None]:
    """What a function of one's own makes, and why it makes nothing."""
    try:
        found = function(*given)
        several = isinstance(found, (list, tuple, Iterator))
        items = list(found) if several else [] if found is None else [found]
    except UserError:
        raise
    except Exception as error:
        return [], Rejected("method_failed", f"{type(error).__name__}: {error}")
    strange = [item for item in items if not isinstance(item, (str, Record))]
    if strange:
        raise UserError(f"config.method gave {type(strange[0]).__name__}; None, a text, a Record or a list of them is "
                        "needed")
    items = [item for item in items if not isinstance(item, str) or item.strip()]
    return items, None if items else Rejected("nothing_made", "the method made nothing of its answers")


def asking(given: Given, words: Sequence[Prompt]) -> list[str | None]:
    """`ask` of a method of one's own."""
    replies = given.model.ask([call_of(given, p if isinstance(p, str) else tuple(map(tuple, p))) for p in words])
    return [r.text if isinstance(r, Reply) else None for r in replies]


def finished(item: str | Record, first: Sample, *, pairs: bool = False) -> Record:
    """What a method of one's own made, named by what it says, with its origin. pairs: whether they are trained on."""
    compared = isinstance(item, Record) and bool(item.chosen or item.label is not None)
    if compared != pairs:
        made, fitting = ("pairs of answers, or answers with labels", "dpo, say") if compared else ("answers", "sft")
        raise UserError(f"config.method gave {made}: config.train.objective.name must be {fitting}")
    if isinstance(item, str):
        return as_record(first, "own", text=item.strip())
    known = item.provenance  # the problem's own says nothing of what the model wrote
    own = known.method and known != first.record.provenance
    return named(changed(item, id="", provenance=known if own else first.provenance))
