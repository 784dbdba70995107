"""SelfCheckGPT: does the model say the same again when it is asked again? What it made up, it makes up anew.

In: `xquad.{en,de,zh}.json`: the first question of each paragraph, without the paragraph. The model answers once
greedily and five times at temperature 1; the greedy answer is held against the samples.

- overlap: the share of its words that a sample has, too; the mean over the samples.
- unigram_mean, unigram_max: -log p of its words, p from the counts of words in samples and answer together: the mean
  and the highest of each sentence, averaged over its sentences. Manakul et al. 2023; longer samples raise both.
- contradiction: a judge says of each sentence and sample whether the sample supports it (0), contradicts it (1) or
  neither (1/2); the mean. The paper's prompt variant, with the sentences of one sample in one question.

    answer "a b", samples ["a c"]: counts a 2, b 1, c 1 -> unigram_mean (ln 2 + ln 4) / 2, unigram_max ln 4

Saying the same is not being right. Since the references of the questions are known, `right` (a reference stands in the
answer) says whether it is, and `auc_*` how well each measure tells wrong answers from right ones: 0.5 is worthless.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial

from jitune.evals.judge import prompts
from jitune.evals.metrics import detection, grounding
from jitune.evals.task import Ask, Document, Generate, Metric, Outcome, Response, Task, Verdict, chat
from jitune.evals.tasks import xquad_rows

SAMPLES = 5  # the paper draws 20; each is a generation of its own
MOST_SENTENCES = 12  # that a judge is asked about
PROMPTS = {
    "en": "Topic: {title}\nQuestion: {question}\n\nAnswer in one or two full sentences.",
    "de": "Thema: {title}\nFrage: {question}\n\nAntworte in ein oder zwei ganzen Sätzen.",
    "zh": "主题：{title}\n问题：{question}\n\n请用一两句完整的话回答。",
}
MEANING = "0 if the reference supports the sentence, 2 if it contradicts it, 1 if it does neither"
CRITERIA = (
    "The answer is a list of numbered sentences, and the reference another answer to the same question, which may be "
    "wrong. Do not ask what is true: ask only what the reference says about each sentence."
)


def load(specs: Sequence[str]) -> list[Document]:
    """One document a paragraph and language: its first question."""
    return [_document(p, p.questions[0]) for p in xquad_rows.read_paragraphs(specs)]


def _document(p: xquad_rows.Paragraph, q: xquad_rows.Question) -> Document:
    asked = chat(PROMPTS.get(p.language, PROMPTS["en"]).format(title=p.title, question=q.text))
    samples = (Generate(asked, max_new_tokens=96, temperature=1.0, sample=i) for i in range(1, SAMPLES + 1))
    return Document(f"{p.language}/{q.id}", {"title": p.title, "question": q.text, "answers": list(q.answers)},
                    (Generate(asked, max_new_tokens=96), *samples), tags={"language": p.language}, cluster=p.id,
                    target=q.answers[0])


def texts(responses: Sequence[Response]) -> tuple[str, list[str]]:
    """(the greedy answer, the samples that hold words)."""
    answer, *samples = (r.text.strip() for r in responses)
    return answer, [s for s in samples if grounding.words(s)]


def ask(document: Document, responses: tuple[Response, ...]) -> tuple[Ask, ...]:
    """A form for each sample, a line for each sentence of the answer; none where there is nothing to compare."""
    answer, samples = texts(responses)
    parts = grounding.sentences(answer)[:MOST_SENTENCES]
    numbered = "\n".join(f"{i}. {part}" for i, part in enumerate(parts, 1))
    return tuple(prompts.rubric(document.row["question"], numbered, _fields(len(parts)), criteria=CRITERIA,
                                reference=sample) for sample in samples) if parts else ()


def _fields(count: int) -> dict[str, tuple[int, int, str]]:
    return {f"sentence {i}": (0, 2, MEANING) for i in range(1, count + 1)}


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple[Verdict, ...]) -> Outcome:
    """The measures of consistency, and whether a reference stands in the answer."""
    answer, samples = texts(responses)
    parts = grounding.sentences(answer)
    if not parts or not samples:
        return Outcome({m.name: None for m in TASK.metrics}, answer=answer or None, failure="extraction")
    mean, highest = unigram(parts, [answer, *samples])
    overlap = sum(grounding.word_precision(answer, s) for s in samples) / len(samples)
    right = float(any(grounding.contains(answer, reference) for reference in document.row["answers"]))
    scores = {"overlap": overlap, "unigram_mean": mean, "unigram_max": highest, "right": right,
              "auc_overlap": 1 - overlap, "auc_unigram_mean": mean, "auc_unigram_max": highest}
    if not verdicts:
        return Outcome(scores, answer=answer)
    found = contradiction(verdicts, min(len(parts), MOST_SENTENCES))
    scores |= {"contradiction": found, "auc_contradiction": found}
    return Outcome(scores, answer=answer, failure="judge" if found is None else "")


def unigram(parts: Sequence[str], corpus: Sequence[str]) -> tuple[float, float]:
    """(mean, highest) of -log p over the words of each sentence, averaged over the sentences.

    corpus: the texts that p is counted in, the answer among them so that no word has p = 0, as in the paper.
    """
    counts = Counter(word for text in corpus for word in grounding.words(text))
    total = counts.total()
    costs = [[math.log(total / counts[word]) for word in grounding.words(part)] for part in parts]
    return sum(sum(c) / len(c) for c in costs) / len(costs), sum(map(max, costs)) / len(costs)


def contradiction(verdicts: Sequence[Verdict], sentences: int) -> float | None:
    """The mean over sentences and samples, in [0, 1]; None where a form cannot be read."""
    forms = [prompts.read_rubric(v.value or "", _fields(sentences)) for v in verdicts]
    if None in forms:
        return None
    return sum(sum(form.values()) for form in forms) / (2 * sentences * len(forms))


def detects(name: str, documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float | None:
    """AUC-ROC of a measure (higher: less consistent) in telling wrong answers from right ones."""
    pairs = [(not o.scores["right"], o.scores[name]) for o in outcomes if o.scores.get(name) is not None]
    return detection.auc([wrong for wrong, _ in pairs], [value for _, value in pairs]) if pairs else None


def _auc(measure: str, needs: str = "") -> Metric:
    return Metric(f"auc_{measure}", f"AUC-ROC of {measure} in finding wrong answers", unit="", chance=0.5, needs=needs,
                  corpus=partial(detects, f"auc_{measure}"))


TASK = Task(
    "selfcheck", axis="faithfulness", title="SelfCheckGPT: the same answer again", load=load, score=score, ask=ask,
    metrics=(
        Metric("overlap", "words of the answer that its samples share", worst=0.0),
        Metric("unigram_mean", "mean of -log p of the answer's words among the samples'", better="lower", unit=""),
        Metric("unigram_max", "highest -log p of a sentence's words among the samples'", better="lower", unit=""),
        Metric("right", "answers that hold a reference", worst=0.0),
        _auc("overlap"), _auc("unigram_mean"), _auc("unigram_max"),
        Metric("contradiction", "contradiction of sentences by samples, by a judge", better="lower", needs="judge"),
        _auc("contradiction", needs="judge"),
    ),
    files=xquad_rows.FILES, source="Manakul et al. 2023, arXiv 2303.08896",
)
