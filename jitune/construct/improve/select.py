"""What is kept of a model's own answers to one problem: pure functions of its samples, by published rules.

    chosen = rft(samples)                  # samples: of one problem, in the order of their seeds
    chosen.kept                            # [Record, ...]: problem and answer, or pairs; method self_improvement
    chosen.rejected                        # [Rejected("wrong_arithmetic", "2+2=5", ...), ...]
    chosen.counts                          # {"kept": 1, "wrong_answer": 2, "wrong_arithmetic": 1}

Every sample is either kept or rejected for a reason that is one word: cut_by_length, empty, wrong_answer, unchecked,
wrong_arithmetic, duplicate_path, over_limit, minority, low_confidence, tie, between, unscored, equal_sides, no_answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jitune.construct.distill.method import Rejected
from jitune.construct.verify.verifier import Checked
from jitune.data.record import Provenance, Record


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
    """RFT: right answers with right arithmetic, one a distinct list of equations."""
    raise NotImplementedError


def star(samples: Sequence[Sample], hinted: Sequence[Sample] = ()) -> Chosen:
    """STaR: the first sample if it is right, else the first right one that was given the hint, without the hint."""
    raise NotImplementedError


def rest_em(samples: Sequence[Sample], *, most: int = 10, seed: int = 0) -> Chosen:
    """ReST-EM: right answers, `most` a problem, drawn by `seed`."""
    raise NotImplementedError


def majority(samples: Sequence[Sample], *, read: Callable[[str], str | None], threshold: float = 0.0) -> Chosen:
    """LMSI: the samples that lead to the answer that most of them give. read: `table.open_parser(...)`."""
    raise NotImplementedError


def spin(samples: Sequence[Sample]) -> Chosen:
    """SPIN: pairs of the record's answer (chosen) and the model's (rejected)."""
    raise NotImplementedError


def best_and_worst(samples: Sequence[Sample]) -> Chosen:
    """Self-rewarding: a pair of the sample with the highest score and the one with the lowest."""
    raise NotImplementedError
