"""Hallucinated inputs: prompts that speak of what is not there, so that an answer can only make it up.

    judge(prompt "Summarize this page.\\n\\nhttps://x.org/a")        # Reject("url_only_input", ...)
    judge(prompt "Describe the following image.")                  # Reject("missing_media", "following image")
    judge(prompt "总结以下文章。")                                   # Reject("missing_text", "以下文章")
    judge(prompt "Summarize the following article: The city ...")  # Keep

Models that write instructions often write such (Taori et al. 2023 tell of Alpaca's inputs that are only a link).
An image may be told in words and an article may stand below, so a prompt lacks them only where nothing follows, or
before it. Phrases are in `missing_phrases`, one entry a language. Only the first prompt is looked at: in later
ones, what is "above" has been said.

`preset` names the word lists of papers, for the first prompt: "self_instruct" (Wang et al. 2023) and "alpaca", which
has more words. Both authors also dropped instructions that begin with a letter outside ASCII, which drops most
languages: that is `english_only`, and off.
"""

from __future__ import annotations

import re
import string
from functools import partial

from jitune.construct.curate.filters import parts, units
from jitune.construct.curate.filters.missing_phrases import LANGUAGES
from jitune.construct.curate.stage import Filter, Keep, Reject, Verdict
from jitune.data.record import Record
from jitune.types import UserError

URL = re.compile(r"(?:https?://|www\.)[^\s<>\"'，。；）)]{3,2000}", re.IGNORECASE)
# Tags that stand for what a model without eyes and ears never gets; HTML's own have attributes or are closed.
MEDIA_TAG = re.compile(r"<(?:image|img|audio|video|speech|ImageHere|image_\d+)>(?!.{0,300}</)|<\|(?:image|audio|"
                       r"video)\w*\|>|"
                       r"\[(?:image|img|audio|video|picture|图片|圖片|画像)\]|"
                       r"!\[[^\]\n]{0,200}\]\(\s*\)", re.IGNORECASE | re.DOTALL)
# Links that are no page to read, and tasks that work on a link itself.
ABOUT_LINKS = re.compile(r"https?://(?:\w+\.)*(?:example|localhost|127\.0)|\b(?:www\.)?example\.|code|html|function|"
                         r"program|"
                         r"script|\bparse|regex|curl|\bapi\b|domain|hostname|shorten|valid|redirect|python|java|"
                         r"command|"
                         r"代码|程序|函数|域名|コード|코드|код|функци|función|fonction|funktion|função", re.IGNORECASE)
# More words than this beside a link are a text of their own.
AROUND_URL = 25
SELF_INSTRUCT = ("image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw",
                 "plot", "go to")
PRESETS = {"self_instruct": SELF_INSTRUCT,
           "alpaca": (*SELF_INSTRUCT, "video", "audio", "music", "flowchart", "diagram")}
_WORDS = {name: re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE) for name, words in PRESETS.items()}
# A text that could hold what is spoken of begins after one of these, or on a line of its own.
FOLLOWS = re.compile(r"[:：\n\"“„«「『‘`([（]|(?<!\w)'|[.!?।؟]\s*\w|[。！？]\s*\w")
NO_TEXT = re.compile(r"[\w./-]{1,100}\.(?:jpe?g|png|gif|svg|webp|bmp|pdf|docx?|xlsx?|csv|txt|mp3|mp4|wav|"
                     r"mov)\b", re.IGNORECASE)
# Words after the mention, up to the end of the prompt, that still are the instruction.
REST = 25
CHECKS = ("url", "media_tag", "media", "text")


def _url(prompt: str, below: str) -> Reject | None:
    """A link where a text should be: alone as the input or the prompt, or with a few words around it."""
    if "://" not in prompt and "www." not in prompt.lower():
        return None
    if ABOUT_LINKS.search(prompt[:2000]):
        return None
    for text in (below.strip(), prompt.strip()):
        if text and URL.search(text) and not re.sub(r"[\s,;.•*-]|\d+\.|\b(?:url|link|website|source)s?\s*[:：]", "",
                                                    URL.sub("", text), flags=re.IGNORECASE):
            return Reject("url_only_input", parts.shown(text))
    words = units.words(URL.sub(" ", prompt))
    return Reject("url_in_prompt", parts.shown(URL.search(prompt)[0])) if words <= AROUND_URL and URL.search(prompt) \
        else None


def _missing(prompt: str, checks: tuple[str, ...]) -> Reject | None:
    """An image or a text that is spoken of, with nothing before or after it that could be it."""
    low = prompt.lower()
    for phrases in LANGUAGES.values():
        if not any(sign in low for sign in phrases.signs):
            continue
        for kind in ("media", "text"):
            mentions = list(getattr(phrases, kind).finditer(prompt)) if kind in checks else []
            if mentions and _nothing(prompt[:mentions[0].start()]) and _nothing(prompt[mentions[-1].end():]):
                return Reject(f"missing_{kind}", parts.shown(mentions[-1][0]))
    return None


def _nothing(rest: str) -> bool:
    """Whether the rest of a prompt is still the instruction, of a sentence and few words; names of files are none."""
    rest = NO_TEXT.sub("", rest).rstrip(".。:：?？!！ \t\r\n")
    return not FOLLOWS.search(rest) and units.words(rest) <= REST


def _preset(prompt: str, preset: str) -> Reject | None:
    first = prompt.strip()
    found = _WORDS[preset].search(first)
    if found:
        return Reject("keyword", f'"{found[0]}" is on the list of {preset}')
    if first.startswith("Write a program"):
        return Reject("write_a_program", '"Write a program"')
    if first[:1] and (first[0] in string.punctuation):
        return Reject("leading_punctuation", parts.shown(first))
    return None


def judge(record: Record, *, checks: tuple[str, ...], preset: str, english_only: bool, max_size: int) -> Verdict:
    """Rejects as url_only_input, url_in_prompt, media_tag, missing_media, missing_text; with a preset as keyword,
    write_a_program or leading_punctuation; as not_english with `english_only`."""
    found = parts.of(record)
    prompt = found.prompts[0][:max_size] if found.prompts else ""
    rejected = _url(prompt, parts.below(record, prompt)) if "url" in checks else None
    tag = MEDIA_TAG.search(prompt) if "media_tag" in checks and ("<" in prompt or "[" in prompt) else None
    if tag and rejected is None:
        rejected = Reject("media_tag", parts.shown(tag[0]))
    # A system prompt, a document or a tool may bring what is spoken of.
    bare = sum(map(units.words, found.systems)) < 50 and not record.tools
    if rejected is None and bare and len(prompt) <= 4000:
        rejected = _missing(prompt, checks)
    if rejected is None and preset:
        rejected = _preset(prompt, preset)
    if rejected is None and english_only and not prompt.strip()[:1].isascii():
        rejected = Reject("not_english", f"begins with U+{ord(prompt.strip()[0]):04X}, outside ASCII")
    return rejected or Keep(record)


def build(*, checks: str = ",".join(CHECKS), preset: str = "", english_only: bool = False,
          max_size: int = 100_000) -> Filter:
    """The filter.

    Args:
      checks: out of url, media_tag, media and text, by commas.
      preset: "self_instruct" or "alpaca", whose words no first prompt may have; "" for none.
      english_only: reject what begins with a letter outside ASCII, as both papers did; for English data alone.
      max_size: characters of the prompt that are looked at.

    Raises:
      UserError: another check or preset.
    """
    chosen = parts.names(checks, CHECKS, "hallucinated_input: checks")
    if preset and preset not in PRESETS:
        raise UserError(f"hallucinated_input: preset is {preset!r}; allowed are {', '.join(PRESETS)}, or none")
    size = int(parts.number(max_size, "hallucinated_input: max_size", 1))
    return Filter("hallucinated_input", partial(judge, checks=chosen, preset=preset, english_only=bool(english_only),
                                                max_size=size))
