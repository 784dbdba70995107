"""Overlap of longer texts with references: BLEU, chrF and TER by sacrebleu, ROUGE by rouge-score.

    corpus_bleu(["the cat sat"], [["the cat sat"]])             # 100.0
    sentence_chrf("the cat sat", ["a cat sat"])                 # 0 to 100
    rouge("the cat sat", ["the cat slept"])["rougeL"]           # 2/3: shares, where the other three are 0 to 100

Both packages come with `jitune[eval]`. BLEU is Papineni et al. 2002, chrF Popović 2015, TER Snover et al. 2006, ROUGE
Lin 2004. Texts without spaces between words are cut by characters: Chinese by sacrebleu's `zh`, Japanese, Thai, Lao,
Khmer and Burmese by its `char`; all others by its `13a`.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Sequence
from types import ModuleType

from jitune.evals.metrics import words
from jitune.types import UserError

CUT = {"zh": "zh", "ja": "char", "th": "char", "lo": "char", "km": "char", "my": "char"}
ROUGES = ("rouge1", "rouge2", "rougeL")


def load(module: str) -> ModuleType:
    """A package of the extra `eval`.

    Raises:
      UserError: it is not installed.
    """
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # it warns of what its caller chose
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"this metric needs the package {module.partition('.')[0].replace('_', '-')}; "
                        f"install it with: pip install 'jitune[eval]' ({error})") from error


@functools.cache
def _metric(name: str, language: str):
    """A metric of sacrebleu for single texts and for sets."""
    metrics = load("sacrebleu.metrics")
    if name == "bleu":
        return metrics.BLEU(tokenize=CUT.get(language, "13a"))
    if name == "sentence_bleu":
        return metrics.BLEU(tokenize=CUT.get(language, "13a"), effective_order=True)
    return metrics.CHRF() if name == "chrf" else metrics.TER(asian_support=language in CUT, normalized=language in CUT)


def _streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """References by item to references by number, as sacrebleu takes them; None where an item has no more."""
    most = max(map(len, references))
    return [[item[i] if i < len(item) else None for item in references] for i in range(most)]


def corpus_bleu(predictions: Sequence[str], references: Sequence[Sequence[str]], *, language: str = "en") -> float:
    """BLEU-4 of a set, 0 to 100. references: a list for each prediction, of any lengths above 0."""
    return _metric("bleu", language).corpus_score(list(predictions), _streams(references)).score


def corpus_chrf(predictions: Sequence[str], references: Sequence[Sequence[str]], *, language: str = "en") -> float:
    """chrF (character 6-grams, beta 2) of a set, 0 to 100."""
    return _metric("chrf", language).corpus_score(list(predictions), _streams(references)).score


def corpus_ter(predictions: Sequence[str], references: Sequence[Sequence[str]], *, language: str = "en") -> float:
    """TER of a set: edits in percent of the references' words; lower is better, and it can pass 100."""
    return _metric("ter", language).corpus_score(list(predictions), _streams(references)).score


def sentence_bleu(prediction: str, references: Sequence[str], *, language: str = "en") -> float:
    """BLEU of one text, 0 to 100: orders beyond its length are left out, empty ones smoothed (sacrebleu's default)."""
    return _metric("sentence_bleu", language).sentence_score(prediction, list(references)).score


def sentence_chrf(prediction: str, references: Sequence[str], *, language: str = "en") -> float:
    """chrF of one text, 0 to 100."""
    return _metric("chrf", language).sentence_score(prediction, list(references)).score


def sentence_ter(prediction: str, references: Sequence[str], *, language: str = "en") -> float:
    """TER of one text in percent."""
    return _metric("ter", language).sentence_score(prediction, list(references)).score


def bleu_counts(prediction: str, references: Sequence[str], *, language: str = "en") -> list[int]:
    """What BLEU counts in one text: matches and totals of 1- to 4-grams, the lengths of both sides; ten numbers.

    Sums of them over texts give the set's BLEU (`bleu_of`), without reading the texts again.
    """
    score = _metric("sentence_bleu", language).sentence_score(prediction, list(references))
    return [*score.counts, *score.totals, score.sys_len, score.ref_len]


def bleu_of(counts: Sequence[Sequence[int]]) -> float:
    """`corpus_bleu` from the `bleu_counts` of the texts."""
    total = [sum(column) for column in zip(*counts, strict=True)]
    bleu = load("sacrebleu.metrics").BLEU
    return bleu.compute_bleu(total[:4], total[4:8], total[8], total[9], smooth_method="exp").score


class _Cutter:
    """Words as this package cuts them, in the shape that rouge-score asks for."""

    def __init__(self, language: str):
        self.language = language

    def tokenize(self, text: str) -> list[str]:
        return words.tokens(text, self.language)


@functools.cache
def _rouge_scorer(language: str):
    scorer = load("rouge_score.rouge_scorer")
    cutter = None if language == "en" else _Cutter(language)  # its own one drops everything but a-z and 0-9
    return scorer.RougeScorer(list(ROUGES), use_stemmer=language == "en", tokenizer=cutter)


def rouge(prediction: str, references: Sequence[str], *, language: str = "en") -> dict[str, float]:
    """ROUGE-1, -2 and -L as F1 in [0, 1]; by each the best reference.

    English words are stemmed, as in the figures of summarization; those of other languages are not, and lose
    punctuation and articles instead (`words.tokens`).
    """
    scorer = _rouge_scorer(language)
    found = [scorer.score(reference, prediction) for reference in references]
    return {name: max(f[name].fmeasure for f in found) for name in ROUGES}


def mean_rouge(predictions: Sequence[str], references: Sequence[Sequence[str]], *, language: str = "en") -> dict:
    """ROUGE of a set: the means of its texts'."""
    found = [rouge(p, r, language=language) for p, r in zip(predictions, references, strict=True)]
    return {name: sum(f[name] for f in found) / len(found) for name in ROUGES}
