"""Answers from a text, or none: does the model say what the text says, and nothing where the text says nothing?

In: `xquad.{en,de,zh}.json`. Every question is asked twice: over its own paragraph, and over one of another article
that does not hold its answer, where the only right thing is to abstain. Both are one cluster, in all languages.

    text of Warsaw,  "How many points did the Panthers give up?" -> "unanswerable"     f1 = 1
    its own text,    the same                                    -> "308 points"       f1 = 2/3 (reference "308")
    its own text,    the same                                    -> "not in the text"  f1 = 0, abstained_wrong = 1

- f1, exact: of answers to answerable questions, and 1 or 0 for abstaining from the others, as in SQuAD 2.0 (Rajpurkar
  et al. 2018); half of all questions are of either kind, so that who always abstains has 50 %.
- grounded: the share of an answer's words that stand in the text that was given, where the model did not abstain.

The prompt names the words to abstain with; common other ways to say the same count as well, in the language of the
text and in English. Only the first line of an answer is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from jitune.evals.metrics import grounding, words
from jitune.evals.task import Document, Generate, Metric, Outcome, Response, Task, Verdict, chat, digest
from jitune.evals.tasks import xquad_rows
from jitune.types import UserError

# By language: the prompt, and the words to abstain with.
PROMPTS = {
    "en": ("Answer the question from the text alone, in as few words as you can, and in those of the text. If the "
           "text does not hold the answer, say only: {abstain}\n\nText: {context}\n\nQuestion: {question}",
           "unanswerable"),
    "de": ("Beantworte die Frage allein aus dem Text, mit so wenigen Wörtern wie möglich und in denen des Textes. "
           "Wenn der Text die Antwort nicht enthält, sage nur: {abstain}\n\nText: {context}\n\nFrage: {question}",
           "nicht beantwortbar"),
    "zh": ("请仅根据文本回答问题，用尽可能少的字，并使用原文的说法。如果文本中没有答案，只回答：{abstain}\n\n"
           "文本：{context}\n\n问题：{question}",
           "无法回答"),
}
# Over case-folded text, in which ß is ss.
ABSTENTIONS = {
    "en": (
        r"unanswerable", r"not answerable", r"no answer", r"(?:do not|don't) know", r"no (?:information|mention)\b",
        r"(?:can ?not|can't|could not|unable to) (?:be )?(?:answer|determine|find|tell)",
        r"not (?:mention|stated|given|provid|specif|contain|included|say|said|discuss)",
        r"not in the (?:text|passage|context)", r"^unknown\W*$",
        r"(?:does|do|did)n't (?:mention|state|give|provide|specify|contain|say)",
    ),
    "de": (
        r"(?:nicht |un)beantwort", r"nicht (?:erwähnt|genannt|angegeben|enthalten|bekannt|vorhanden|ersichtlich)",
        r"nicht (?:zu finden|zu entnehmen|hervor|im text)", r"keinen? (?:antwort|angabe|information|hinweis)",
        r"enthält die (?:antwort|information) nicht",
        r"weiss (?:es |ich )?nicht", r"^unbekannt\W*$",
    ),
    "zh": (
        r"[无無]法(?:回答|确定|確定|得知|判断|判斷)",
        r"(?:没有|沒有|未|并未|並未)(?:提及|提到|说明|說明|给出|給出|提供)",
        r"(?:没有|沒有)(?:答案|相关信息|相關信息|相關資訊)", r"不知道", r"不清楚", r"不能回答",
    ),
}
LABEL = re.compile(r"^\W*(?:answer|antwort|答案|回答)\W*?[:：][\s*]*", re.I)


def load(specs: Sequence[str]) -> list[Document]:
    """Two documents a question: its own text, then a text of another article.

    Raises:
      UserError: where no other text without the answer is to be found in the same language.
    """
    paragraphs = xquad_rows.read_paragraphs(specs)
    by_language: dict[str, dict[str, list[xquad_rows.Paragraph]]] = {}
    for p in paragraphs:
        by_language.setdefault(p.language, {}).setdefault(p.article, []).append(p)
    return [document for p in paragraphs for q in p.questions for document in (
        _document(p, q, p.context, "answerable"),
        _document(p, q, _other_context(p, q, by_language[p.language]), "unanswerable"),
    )]


def _document(p: xquad_rows.Paragraph, q: xquad_rows.Question, context: str, kind: str) -> Document:
    prompt, abstain = PROMPTS.get(p.language, PROMPTS["en"])
    row = {"context": context, "question": q.text, "answers": list(q.answers) if kind == "answerable" else []}
    asked = chat(prompt.format(abstain=abstain, context=context, question=q.text))
    return Document(f"{p.language}/{q.id}/{kind}", row, (Generate(asked, max_new_tokens=64),), cluster=p.id,
                    tags={"language": p.language, "kind": kind}, target=q.answers[0] if row["answers"] else abstain)


def _other_context(p: xquad_rows.Paragraph, q: xquad_rows.Question, articles: dict) -> str:
    """A text of another article that holds none of the answers; always the same one for the same files."""
    for context in _candidates(p, q, articles):
        if not any(holds(context, answer) for answer in q.answers):
            return context
    raise UserError(f"grounded_qa: question {q.id} in {p.language!r}: the files hold no text of another article "
                    f"without its answer {q.answers[0]!r:.40}; give files of more articles")


def _candidates(p: xquad_rows.Paragraph, q: xquad_rows.Question, articles: dict) -> Iterator[str]:
    others = [name for name in articles if name != p.article]
    start = int(digest(q.id), 16)
    for step in range(len(others)):
        texts = articles[others[(start + step) % len(others)]]
        yield texts[start // 1009 % len(texts)].context


def holds(context: str, answer: str) -> bool:
    """Whether a text contains an answer, as a run of words or of characters."""
    return grounding.contains(context, answer) or answer.casefold() in context.casefold()


def abstains(answer: str, language: str = "en") -> bool:
    """Whether an answer says that there is none, in its language or in English."""
    patterns = {*ABSTENTIONS["en"], *ABSTENTIONS.get(language, ())}
    return any(re.search(pattern, answer.casefold().replace("’", "'")) for pattern in patterns)


def first_line(text: str) -> str:
    """The first line that holds words, without a label such as "Answer:"; empty where there is none."""
    lines = (LABEL.sub("", line).strip() for line in text.splitlines())
    return next((line for line in lines if grounding.words(line)), "")


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple[Verdict, ...]) -> Outcome:
    """F1 and exact match, abstentions, and groundedness in the text that was given."""
    language, gold = document.tags["language"], document.row["answers"]
    answer = first_line(responses[0].text)
    own = ("answerable_f1", "answerable_exact", "abstained_wrong") if gold else ("abstained_right",)
    if not answer:
        return Outcome(dict.fromkeys(("f1", "exact", *own)), failure="extraction")
    # A reference may itself be "no data": who says it has answered.
    exact = words.exact_match(answer, gold, language) if gold else 0.0
    silent = not exact and abstains(answer, language)
    if not gold:
        scores = dict.fromkeys(("f1", "exact", "abstained_right"), float(silent))
    else:
        f1 = 0.0 if silent else words.token_f1(answer, gold, language)
        scores = {"f1": f1, "exact": exact, "answerable_f1": f1, "answerable_exact": exact,
                  "abstained_wrong": float(silent)}
    if not silent:
        scores["grounded"] = grounding.word_precision(answer, document.row["context"])
    return Outcome(scores, answer=answer, details={"abstained": silent})


TASK = Task(
    "grounded_qa", axis="faithfulness", title="Answers from a text, or none", load=load, score=score,
    metrics=(
        Metric("f1", "F1 of answers, and abstaining where the text has none", worst=0.0),
        Metric("exact", "exact match of answers, and abstaining where the text has none", worst=0.0),
        Metric("answerable_f1", "F1 where the text holds the answer", worst=0.0),
        Metric("answerable_exact", "exact match where the text holds the answer", worst=0.0),
        Metric("abstained_right", "abstaining where the text does not hold the answer", worst=0.0),
        Metric("abstained_wrong", "abstaining where the text holds the answer", better="lower", worst=1.0),
        Metric("grounded", "words of answers that stand in the text"),
    ),
    files=xquad_rows.FILES, source="XQuAD, Artetxe et al. 2020, arXiv 1910.11856; SQuAD 2.0, arXiv 1806.03822",
)
