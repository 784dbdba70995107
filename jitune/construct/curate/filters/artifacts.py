"""Artifacts: what generation and templates leave in answers: markers, unfilled places, open code blocks, cut ends.

    judge(answer "4<|im_end|>")                        # Reject("template_marker", '"<|im_end|>"')
    judge(prompt "...Output:", answer "4\\nOutput: 5")  # Reject("goes_on", '"Output:" of the prompt comes again')
    judge(answer "I am {{name}}.")                     # Reject("placeholder", '"{{name}}"')
    judge(answer "```python\\nprint(1)")                # Reject("open_fence", ...)

What is in code, and what the prompt itself has or asks about, is left alone.
"""

from __future__ import annotations

import re
from functools import partial

from jitune.construct.curate.filters import parts, units
from jitune.construct.curate.stage import Filter, Keep, Reject, Verdict
from jitune.data.record import Record

# Turns of chat templates: ChatML, Llama 2 and 3, Gemma, Phi, Mistral, DeepSeek, and Alpaca's and Vicuna's headings.
MARKER = re.compile(
    r"<\|(?:im_start|im_end|im_sep|endoftext|end_of_text|begin_of_text|eot_id|eom_id|start_header_id|end_header_id|"
    r"assistant|user|system|end|end_of_turn|pad|endofprompt|end_of_sentence)\|>|"
    r"<(?:start|end)_of_turn>|<｜[^｜<>\n]{1,40}｜>|\[/?INST\]|<</?SYS>>|</s>\s*\Z|\A\s*<s>|"
    r"^\s{0,3}#{2,3} ?(?:Instruction|Response|Input|Human|Assistant|User|System)s?:|^(?:USER|ASSISTANT): |"
    r"^\s{0,3}#{2,3} ?(?:指令|回答|响应|输入|用户|助手)[:：]", re.MULTILINE)
# A heading such as "Output:" that a prompt ends in, to be answered below or beside it.
CUE = re.compile(r"^[ \t]*([^\s:：][^\n:：]{0,30}[:：])[ \t]*\Z", re.MULTILINE)
SPEAKER = re.compile(r"^(?:Human|User|Question from user|用户|人类|ユーザー|사용자|Пользователь|Usuario|Utilisateur|"
                     r"Benutzer|"
                     r"المستخدم) ?[:：]",
                     re.MULTILINE)
# Prompts that want speakers, or templates, in the answer.
DIALOGUE = re.compile(r"dialog|conversation|chat|script|interview|transcript|role.?play|talk|speak|discuss|debate|"
                      r"story|"
                      r"对话|對話|聊天|采访|剧本|会話|対話|대화|диалог|разговор|беседа|conversaci|diálogo|gespräch|"
                      r"entretien|conversa|"
                      r"حوار|محادثة|बातचीत|संवाद|บทสนทนา|hội thoại|percakapan", re.IGNORECASE)
TEMPLATE = re.compile(r"templat|jinja|vue|angular|handlebars|mustache|django|helm|ansible|liquid|placeholder|latex|"
                      r"html|code|"
                      r"variable|模板|占位|变量|代码|テンプレート|템플릿|шаблон|plantilla|vorlage|modèle|"
                      r"قالب", re.IGNORECASE)
PLACEHOLDER = re.compile(r"(?<![\\{^_}$])\{\{ ?[^\W\d][\w .-]{0,38}\w ?\}\}(?!\})")
_FENCE = re.compile(r"^ {0,3}(?:[-*+>] {1,3}|\d{1,3}[.)] {1,3})?[ \t]*(`{3,}|~{3,})(.*)$", re.MULTILINE)
# How a sentence ends, in scripts that mark it. Thai, Lao and Khmer do not, so letters of theirs end nothing.
STOP = r".!?。！？｡．؟۔।॥።။…:："
OPEN_END = re.compile(r"[,;(\[{（「『“«、，；،؛—–-]\s*\Z")
_STOP = re.compile(f"[{re.escape(STOP)}][\"'”’»)\\]）」』*_`]*(?:\\s|\\Z|(?=[\u3000-\u9fff]))")
UNMARKED = re.compile("[\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f\u0f00-\u0fff]")
CHECKS = ("template_marker", "goes_on", "placeholder", "open_fence", "cut_off")
DEFAULT = "template_marker,goes_on,placeholder,open_fence"


def _template_marker(prompt: str, answer: str) -> str:
    found = MARKER.search(answer)
    return parts.shown(found[0]) if found and found[0].strip() not in prompt else ""


def _goes_on(prompt: str, answer: str) -> str:
    """A next example or turn after the answer: the prompt's last heading, or the user, speaks again."""
    cue = CUE.search(prompt[-200:])
    if cue and re.search(rf"^[ \t]*{re.escape(cue[1])}", answer, re.MULTILINE):
        return f"{parts.shown(cue[1])} of the prompt comes again"
    found = SPEAKER.search(answer)
    if found and not DIALOGUE.search(prompt[:4000]) and not SPEAKER.search(prompt):
        return f"{parts.shown(found[0])} speaks in the answer"
    return ""


def _placeholder(prompt: str, answer: str) -> str:
    found = PLACEHOLDER.search(units.prose(answer)) if "{{" in answer else None
    asked = found and (found[0] in prompt or TEMPLATE.search(prompt[:4000]))
    return parts.shown(found[0]) if found and not asked else ""


def _open_fence(prompt: str, answer: str) -> str:
    """A code block that is not closed (CommonMark 0.31, section 4.5)."""
    mark = ""
    for found in _FENCE.finditer(answer) if "```" in answer or "~~~" in answer else ():
        line, info = found[1], found[2].strip()
        if not mark:
            # Backticks behind backticks on one line are inline code.
            mark = line if "`" not in info else ""
        elif line.startswith(mark) and not info:
            mark = ""
    return f'"{mark}" is not closed' if mark else ""


def _cut_off(prompt: str, answer: str) -> str:
    """An end in the middle of a sentence: at a comma or bracket, or in a long last line without a stop."""
    text = answer.rstrip()
    last = text.rpartition("\n")[2]
    if not text or text.endswith("```") or UNMARKED.search(text[-20:]):
        return ""
    if OPEN_END.search(text) and any(c.isalnum() for c in last):
        return f"ends in {parts.shown(text[-30:])}"
    # Headings, items of lists and rows of tables have no stop.
    listed = re.match(r"\s*(?:[-*•·+|#>]|\d+[.)、]|[A-Za-z][.)]\s)", last)
    stops = len(_STOP.findall(text))
    if text[-1].isalnum() and not listed and stops >= 2 and _STOP.search(last) and units.words(last) >= 12:
        return f"ends in {parts.shown(text[-30:])}"
    return ""


_CHECKS = {"template_marker": _template_marker, "goes_on": _goes_on, "placeholder": _placeholder,
           "open_fence": _open_fence, "cut_off": _cut_off}


def judge(record: Record, *, checks: tuple[str, ...], max_size: int) -> Verdict:
    """Rejects under the name of the first check that finds something in an answer."""
    found = parts.of(record)
    prompt = "\n".join((*found.systems, *found.prompts))
    for text in found.answers:
        for name in checks:
            detail = _CHECKS[name](prompt, text if len(text) <= max_size else text[-max_size:])
            if detail:
                return Reject(name, detail)
    return Keep(record)


def build(*, checks: str = DEFAULT, max_size: int = 1_000_000) -> Filter:
    """The filter.

    Args:
      checks: out of template_marker, goes_on, placeholder, open_fence and cut_off, by commas. cut_off is off by
        default: many good answers end without a stop.
      max_size: characters at the end of an answer that are looked at.

    Raises:
      UserError: another check.
    """
    chosen = parts.names(checks, CHECKS, "artifacts: checks")
    size = int(parts.number(max_size, "artifacts: max_size", 1000))
    return Filter("artifacts", partial(judge, checks=chosen, max_size=size))
