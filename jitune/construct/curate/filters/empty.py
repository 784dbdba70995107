"""Empty: records without a prompt or an answer, or with one that says nothing.

    judge(answer "N/A")         # Reject("not_available", '"N/A"')
    judge(answer "<br><br>")    # Reject("only_markup", ...)
    judge(answer "。。。")       # Reject("only_punctuation", ...)

Self-Instruct drops what has no output, or an output equal to its input (Wang et al. 2023); Alpaca's `<noinput>` and
answers such as "None" come from models that were told to say so.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache, partial

from jitune.construct.curate.filters import parts
from jitune.construct.curate.stage import Filter, Keep, Reject, Verdict
from jitune.data.record import Record

# What "N/A", "none", "not applicable", "not available", "no input" and "no answer" are in each language. Words that may
# well answer a question ("no", "nothing", "unknown", "empty") are not here.
PHRASES = """
    N/A|NA|none|null|nil|NaN|undefined|not applicable|not available|none available|no input|no output|no answer
    no response|none needed|no input needed|no input required|no comment provided|tbd|placeholder
    不适用|不適用|无输入|無輸入|无输出|无答案|没有输入|没有答案|暂无|暂无数据
    该当なし|該当なし|なし|入力なし|回答なし|該当しない
    없음|해당 없음|입력 없음|답변 없음|해당 사항 없음|н/д|неприменимо|нет данных|нет ответа|нет ввода|отсутствует
    no aplica|ninguno|ninguna|no disponible|sin respuesta|sin entrada|nulo|aucun|aucune|non applicable|non disponible
    sans objet|pas de réponse|keine|keiner|keine Angabe|keine Antwort|nicht verfügbar|nicht zutreffend|k. A.|entfällt
    nessuno|nessuna|non applicabile|nessuna risposta|não aplicável|não disponível|nenhum|nenhuma|sem resposta
    không có|không áp dụng|không có dữ liệu|không có câu trả lời|tidak ada|tidak berlaku|tidak tersedia|yok|uygulanamaz
    brak|nie dotyczy|brak odpowiedzi|geen|n.v.t.|niet van toepassing|لا يوجد|لا ينطبق|غير متوفر|غير متاح|لا شيء
    लागू नहीं|कोई नहीं|उपलब्ध नहीं|प्रयोज्य नहीं|প্রযোজ্য নয়|উপলব্ধ নয়|ไม่มี|ไม่มีข้อมูล|ไม่เกี่ยวข้อง|אין|לא רלוונטי
    δεν υπάρχει|δεν ισχύει|κανένα|hakuna|haitumiki|ez dago|inget|ingen|ej tillämpligt|ei mitään|ei sovellu
"""
# Left alone these show nothing: an answer that names a tag, or an image, is another thing.
MARKUP = re.compile(
    r"</?(?:p|br|hr|div|span|b|i|u|em|strong|center|font|noinput|nooutput|output|input|answer|response)\s{0,5}/?>"
    r"|<!--|-->|&(?:nbsp|#160|#xa0|zwnj|ensp|emsp|thinsp);|^[ \t]{0,20}(?:`{3,}|~{3,})[\w+#.-]{0,30}[ \t]{0,20}$"
    r"|[*_#>`~|]", re.IGNORECASE | re.MULTILINE)
# Words of a prompt that may want nothing but markup, in letters that all languages use for them.
ABOUT_MARKUP = re.compile(r"html|xml|css|markdown|markup|\btags\b|<\w|code", re.IGNORECASE)
LONG = 300


def _word(text: str) -> str:
    """Small letters, marks and digits alone, in one form: "N / A" is "na"."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in text if unicodedata.category(c)[0] not in "PZCS")


NOT_AVAILABLE = frozenset(_word(phrase) for phrase in re.split(r"[|\n]", PHRASES)) - {""}


@lru_cache(maxsize=65536)
def _says_nothing(character: str) -> bool:
    return unicodedata.category(character)[0] in "PZCM"


def _empty(text: str) -> tuple[str, str] | None:
    """The reason and the detail for which a text is as good as none."""
    stripped = text.strip()
    if not stripped:
        return "empty", "no text" if not text else "only spaces"
    # A letter or digit early on settles it for nearly all texts.
    if len(stripped) > LONG and any(c.isalnum() for c in stripped[:LONG]) and "<" not in stripped[:LONG]:
        return None
    distinct = set(stripped)
    if all(map(_says_nothing, distinct)) or (len(stripped) > 2 and len(distinct) == 1 and not stripped.isalnum()
                                             and unicodedata.category(stripped[0]) == "Sm"):
        return "only_punctuation", parts.shown(stripped)
    bare = MARKUP.sub("", stripped)
    if all(map(_says_nothing, set(bare))):
        tag = re.fullmatch(r"<(?:noinput|nooutput)\s*/?>", stripped, re.IGNORECASE)
        return "not_available" if tag else "only_markup", parts.shown(stripped)
    if len(stripped) <= 40:
        if _word(stripped) in NOT_AVAILABLE:
            return "not_available", parts.shown(stripped)
    return None


def _same(first: str, second: str) -> bool:
    """The same lines, but for spaces at their ends: two paragraphs out of one are an answer."""
    first, second = first.strip(), second.strip()
    return first == second or (abs(len(first) - len(second)) < 1000 and first[:1] == second[:1]
                               and [line.strip() for line in first.splitlines()]
                               == [line.strip() for line in second.splitlines()])


def _echoes(prompt: str, below: str, answer: str) -> bool:
    """Whether an answer is the prompt, or the input below its instruction, again."""
    if not prompt.strip() or len(answer) > len(prompt) + 1000:
        return False
    return _same(prompt, answer) or bool(below.strip()) and _same(below, answer)


def judge(record: Record, *, echo: bool, not_available: bool) -> Verdict:
    """Rejects as no_answer, empty_answer, empty_prompt, not_available, only_punctuation, only_markup or echo."""
    found = parts.of(record)
    prompt = found.prompts[-1] if found.prompts else ""
    if found.conversation and not any(text.strip() for text in found.prompts):
        return Reject("empty_prompt", "the user says nothing")
    spoken = record.candidates or record.label is False or any(m.get("tool_calls") for m in record.messages)
    if not found.answers and not spoken:
        return Reject("no_answer", "nobody answers")
    for text in found.answers:
        bad = _empty(text)
        if bad is None or bad[0] == "not_available" and not not_available:
            continue
        if bad[0] == "not_available" and text.strip().casefold() in prompt[:20000].casefold():
            continue  # one of the answers that the prompt offers
        if bad[0] == "only_markup" and ABOUT_MARKUP.search(prompt[:4000]):
            continue
        return Reject("empty_answer" if bad[0] == "empty" else bad[0], bad[1])
    if echo and found.answers and _echoes(prompt, parts.below(record, prompt), found.answers[-1]):
        return Reject("echo", "the answer is the prompt or its input again")
    return Keep(record)


def build(*, echo: bool = True, not_available: bool = True) -> Filter:
    """The filter.

    Args:
      echo: reject answers that repeat the prompt or its input, as Self-Instruct does; False for data where nothing
        to correct is an answer.
      not_available: reject answers such as "N/A" and "None", in twenty languages; False where they may be right.
    """
    return Filter("empty", partial(judge, echo=bool(echo), not_available=bool(not_available)))
