"""What is kept of a model's own answers to one problem: pure functions of its samples, by published rules.

    chosen = rft(samples)                  # samples: of one problem, in the order of their seeds
    chosen.kept                            # [Record, ...]: problem and answer, or pairs; method self_improvement
    chosen.rejected                        # [Rejected("wrong_arithmetic", "2+2=5", ...), ...]
    chosen.counts                          # {"kept": 1, "wrong_answer": 2, "wrong_arithmetic": 1}

Every sample is either kept or rejected for a reason that is one word: cut_by_length, empty, wrong_answer, unchecked,
wrong_arithmetic, duplicate_path, mentions_hint, over_limit, minority, low_confidence, tie, between, unscored,
equal_sides, no_answer.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jitune.construct.distill.method import Rejected
from jitune.construct.verify.arithmetic import check_equations, equation_list
from jitune.construct.verify.verifier import Checked
from jitune.data.record import Provenance, Record, changed, named, own_answer
from jitune.types import UserError


class Sample(NamedTuple):
    """One answer of a model to a problem.

    record: the problem, with its reference where there is one. text: the model's words. checked: the verifier's
    verdict. score: a judge's, or None. seed: the number of the sample. finish_reason: "length" where it was cut.
    provenance: how it was generated (`generators.call.provenance`).
    """

    record: Record
    text: str
    checked: Checked = Checked(None)
    score: float | None = None
    seed: int = 0
    finish_reason: str = "stop"
    provenance: Provenance = Provenance()


class Chosen(NamedTuple):
    """Records that are kept, and what is not."""

    kept: list[Record]
    rejected: list[Rejected]

    @property
    def counts(self) -> dict[str, int]:
        """How many were kept, and rejected by reason."""
        return {"kept": len(self.kept), **Counter(r.reason for r in self.rejected)}


def rft(samples: Sequence[Sample], *, tolerance: float = 1e-3) -> Chosen:
    """RFT (arXiv 2308.01825): right answers whose annotations `<<a+b=c>>` all hold, one a distinct list of equations.

    As its released code does it: samples in order; a list is its equations in order without spaces; where a list comes
    again, the new path takes the old one's place if its Levenshtein distances to the other kept paths sum up to more.
    Paths without annotations share the empty list. The order of samples thus decides ties, and nothing else does.

    Example: of two right paths "<<2+3=5>>" and one "<<3+2=5>>", two are kept.
    """
    going, rejected = _right(samples)
    kept: dict[str, Sample] = {}
    for sample in going:
        wrong = [e for e in check_equations(sample.text, tolerance=tolerance) if not e.right]
        if wrong:
            rejected.append(_reject(sample, "wrong_arithmetic", f"{wrong[0].text[:60]}: {wrong[0].detail}"))
            continue
        path = equation_list(sample.text)
        if path not in kept:
            kept[path] = sample
            continue
        others = [other.text for key, other in kept.items() if key != path]
        better = _distance(sample.text, others) > _distance(kept[path].text, others)
        dropped = kept[path] if better else sample
        kept[path] = sample if better else kept[path]
        rejected.append(_reject(dropped, "duplicate_path", path[:80]))
    return Chosen([as_record(sample, "rft") for sample in kept.values()], rejected)


def star(samples: Sequence[Sample], hinted: Sequence[Sample] = (), *, mentions: str = r"\bhints?\b") -> Chosen:
    """STaR (arXiv 2203.14465): the first right sample; where none is right, the first right one of `hinted`.

    samples: the paper has one, greedy. hinted: answers to `prompts.hint(record)`, each with the problem itself as its
    `record`, so that what is kept does not hold the hint; its last step is "rationalized". Right ones beyond the first
    are over_limit. mentions: a regular expression; a hinted answer that has it speaks of the hint, which nobody sees
    any more (mentions_hint; not in the paper, and "" allows it).
    """
    right, rejected = _right(samples)
    helped, more = _right(hinted)
    told = [s for s in helped if mentions and re.search(mentions, s.text, re.IGNORECASE)]
    helped = [s for s in helped if s not in told]
    rejected += more + [_reject(s, "mentions_hint") for s in told]
    kept = [as_record(right[0], "star")] if right else [as_record(helped[0], "star", "rationalized")] if helped else []
    beyond = right[1:] + helped if right else helped[1:]
    return Chosen(kept, rejected + [_reject(sample, "over_limit", "one a problem is kept") for sample in beyond])


def rest_em(samples: Sequence[Sample], *, most: int = 10, seed: int = 0) -> Chosen:
    """ReST-EM (arXiv 2312.06585): right answers; of more than `most`, so many are drawn by `seed`, in order."""
    if most < 1:
        raise UserError(f"most={most}: at least one answer a problem is kept")
    right, rejected = _right(samples)
    taken = set(range(len(right)))
    if len(right) > most:
        taken = set(random.Random(f"{seed}:{right[0].record.id}").sample(range(len(right)), most))
    rejected += [_reject(s, "over_limit", f"{most} of {len(right)} are drawn") for i, s in enumerate(right)
                 if i not in taken]  # fmt: skip
    return Chosen([as_record(sample, "rest_em") for i, sample in enumerate(right) if i in taken], rejected)


def majority(samples: Sequence[Sample], *, read: Callable[[str], str | None], threshold: float = 0.0) -> Chosen:
    """LMSI (arXiv 2210.11610): all samples that lead to the answer that most of them give; no reference is needed.

    Args:
      samples: of one problem.
      read: an answer in a form that can be compared, or None: `verify.table.open_parser("math")`.
      threshold: the confidence that is needed: the share of all samples, those without an answer too, that lead to it.

    Two answers with as many votes each are a tie, and nothing is kept. Records bear scores["confidence"].
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"threshold={threshold}: a confidence is from 0 to 1")
    going, rejected = _whole(samples)
    answered = [(sample, read(sample.text)) for sample in going]
    rejected += [_reject(sample, "unchecked", "no answer was found") for sample, found in answered if found is None]
    voters = [(sample, found) for sample, found in answered if found is not None]
    if not voters:
        return Chosen([], rejected)
    votes = Counter(found for _, found in voters).most_common()
    confidence = votes[0][1] / len(samples)
    if len(votes) > 1 and votes[0][1] == votes[1][1]:
        return Chosen([], rejected + [_reject(s, "tie", f"{votes[0][1]} votes each") for s, _ in voters])
    if confidence < threshold:
        return Chosen([], rejected + [_reject(s, "low_confidence", f"{confidence:.3g}") for s, _ in voters])
    minority = [_reject(s, "minority", f"{a[:40]}, not {votes[0][0][:40]}") for s, a in voters if a != votes[0][0]]
    kept = [changed(as_record(s, "lmsi"), scores={"confidence": confidence}) for s, a in voters if a == votes[0][0]]
    return Chosen(kept, rejected + minority)


def spin(samples: Sequence[Sample], *, keep_cut: bool = True) -> Chosen:
    """SPIN (arXiv 2401.01335): pairs of the record's answer (chosen) and the model's (rejected).

    Sides that are equal but for white space teach nothing and are dropped. keep_cut: an answer that was cut by length
    is what the model says, too, as in the paper.
    """
    kept, rejected = [], []
    for sample in samples:
        real = own_answer(sample.record)
        if not real.strip():
            rejected.append(_reject(sample, "no_answer", "the record has no answer to prefer"))
        elif not sample.text.strip():
            rejected.append(_reject(sample, "empty"))
        elif sample.finish_reason == "length" and not keep_cut:
            rejected.append(_reject(sample, "cut_by_length"))
        elif " ".join(real.split()) == " ".join(sample.text.split()):
            rejected.append(_reject(sample, "equal_sides"))
        else:
            kept.append(as_pair(sample, real, sample.text, "spin"))
    return Chosen(kept, rejected)


def best_and_worst(samples: Sequence[Sample]) -> Chosen:
    """Self-rewarding (arXiv 2401.10020): a pair of the sample with the highest score and the one with the lowest.

    The first of equal ones is taken. Where all scores are the same there is no pair (tie); nor where fewer than two
    samples have a score (unscored), or both sides say the same (equal_sides). What is between is rejected as such.
    """
    going, rejected = _whole(samples)
    rejected += [_reject(s, "unscored", s.checked.detail) for s in going if s.score is None]
    scored = [s for s in going if s.score is not None]
    if len(scored) < 2:
        return Chosen([], rejected + [_reject(s, "unscored", "no other sample has a score") for s in scored])
    best, worst = max(scored, key=lambda s: s.score), min(scored, key=lambda s: s.score)
    if best.score == worst.score:
        return Chosen([], rejected + [_reject(s, "tie", f"all have {best.score:g}") for s in scored])
    rejected += [_reject(s, "between", f"{s.score:g}") for s in scored if s is not best and s is not worst]
    if best.text.strip() == worst.text.strip():
        return Chosen([], rejected + [_reject(s, "equal_sides", f"{s.score:g}") for s in (best, worst)])
    pair = as_pair(best, best.text, worst.text, "self_rewarding")
    return Chosen([changed(pair, scores={"chosen_score": best.score, "rejected_score": worst.score})], rejected)


def as_record(sample: Sample, *steps: str, text: str | None = None) -> Record:
    """The problem with the sample's words, or `text`, as its answer."""
    record, said = sample.record, sample.text if text is None else text
    before = question(record)
    weights = None if record.message_weights is None else (*record.message_weights[:len(before)], 1.0)
    raw = () if record.messages else (*((p, 0.0) for p, w in record.text if not w), (said, 1.0))
    messages = (*before, {"role": "assistant", "content": said}) if record.messages else ()
    return named(Record("", messages, record.tools, weights, raw, meta=record.meta,
                        provenance=_provenance(sample, steps)))  # fmt: skip


def as_pair(sample: Sample, chosen: str, rejected: str, *steps: str) -> Record:
    """The problem with two answers."""
    before = question(sample.record)
    weights = sample.record.message_weights
    sides = [({"role": "assistant", "content": text},) for text in (chosen, rejected)]
    return named(Record("", before, sample.record.tools, None if weights is None else weights[:len(before)],
                        chosen=sides[0], rejected=sides[1], meta=sample.record.meta,
                        provenance=_provenance(sample, steps)))  # fmt: skip


def question(record: Record) -> tuple[dict, ...]:
    """The messages in front of the record's answer; a raw prompt as the user's."""
    messages = record.messages or tuple({"role": "user", "content": p} for p, w in record.text if not w)
    while messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    return messages


def _provenance(sample: Sample, steps: tuple[str, ...]) -> Provenance:
    given, record = sample.provenance, sample.record
    return changed(given, method="self_improvement", parents=(record.id,), steps=steps,
                   source=given.source or record.provenance.source,
                   license=given.license or record.provenance.license,
                   seed=sample.seed if given == Provenance() else given.seed)  # fmt: skip


def _whole(samples: Sequence[Sample]) -> tuple[list[Sample], list[Rejected]]:
    """Samples that came to their end and say something."""
    kept, rejected = [], []
    for sample in samples:
        if sample.finish_reason == "length":
            rejected.append(_reject(sample, "cut_by_length"))
        elif not sample.text.strip():
            rejected.append(_reject(sample, "empty"))
        else:
            kept.append(sample)
    return kept, rejected


def _right(samples: Sequence[Sample]) -> tuple[list[Sample], list[Rejected]]:
    going, rejected = _whole(samples)
    reasons = {None: "unchecked", False: "wrong_answer"}
    rejected += [_reject(s, reasons[s.checked.right], s.checked.detail) for s in going if s.checked.right is not True]
    return [s for s in going if s.checked.right is True], rejected


def _reject(sample: Sample, reason: str, detail: str = "") -> Rejected:
    return Rejected(reason, detail, sample.record.provenance.source or sample.record.id, sample.text)


def _distance(text: str, others: Sequence[str]) -> int:
    """The sum of the Levenshtein distances to the others."""
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise UserError("RFT compares paths with rapidfuzz; install it with: pip install 'jitune[data]'") from error
    return sum(Levenshtein.distance(text, other) for other in others)
