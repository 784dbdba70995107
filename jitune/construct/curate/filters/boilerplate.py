"""Boilerplate: what assistants say of themselves and around an answer, in many languages.

    judge(answer "As an AI language model, I have no favourite. ...")     # Reject("ai_self_reference", ...)
    judge(answer "... in 2021. I hope this helps!")                        # Reject("closing", ...)
    judge(answer "Sure! Here is a poem: ...")                              # Keep, unless checks name "opening"

One entry a kind and a language; adding a language is one entry of each.
"""

from __future__ import annotations

import re
from functools import partial

from jitune.construct.curate.filters import parts, units
from jitune.construct.curate.stage import Filter, Keep, Reject, Verdict
from jitune.data.record import Record

SELF = {
    "en": r"as an? (?:ai|artificial intelligence|large language|language)(?:[- ](?:language|powered|based))*"
          r"(?:[- ](?:model|assistant|chatbot|system|bot))?(?: \w{1,20}){0,4},|"
          r"i(?:'m| am) (?:just |only |merely )?an? (?:ai|artificial intelligence|large language|language)"
          r"(?: language)? (?:model|assistant|chatbot)|developed by openai|trained by openai",
    "zh": r"(?:作为|作為|身为|身為)(?:一个|一個|一名|一款)?(?:ai|人工智能|人工智慧|大型语言模型|语言模型|語言模型)|"
          r"我(?:只)?是(?:一个|一個|一名|一款)(?:ai|人工智能|人工智慧|语言模型|語言模型|大型语言模型)",
    "ja": r"(?:ai|人工知能|言語モデル)(?:言語モデル|アシスタント|モデル)?(?:として|であるため|なので、)|"
          r"私はai(?:です|であり)",
    "ko": r"(?:ai|인공지능|인공 지능|언어 모델)(?: 언어 모델| 모델| 어시스턴트| 비서)?(?:로서|이기 때문에|이므로)",
    "es": r"como (?:un |una )?(?:modelo de lenguaje|ia\b|inteligencia artificial|asistente (?:de ia|virtual))",
    "fr": r"en tant qu(?:e |')(?:une? )?(?:modèle de langage|ia\b|intelligence artificielle|"
          r"assistante? (?:ia|virtuel))",
    "de": r"als (?:ein |eine )?(?:ki\b|ki-|künstliche intelligenz|sprachmodell|(?:großes |ki-)sprachmodell)",
    "it": r"(?:come|in quanto) (?:un |un'|una )?(?:modello linguistico|ia\b|intelligenza artificiale|"
          r"assistente (?:ai|ia))",
    "pt": r"como (?:um |uma )?(?:modelo de linguagem|ia\b|inteligência artificial|assistente (?:de ia|virtual))",
    "ru": r"(?:как|я[ ,—-]{1,4}(?:всего лишь |просто )?)(?: )?(?:искусственный интеллект|языковая модель|"
          r"ии[- ](?:модель|ассистент)|"
          r"большая языковая модель)|будучи (?:языковой моделью|искусственным интеллектом)",
    "vi": r"(?:là|với tư cách là) (?:một )?(?:mô hình ngôn ngữ|trí tuệ nhân tạo|trợ lý ai)",
    "id": r"sebagai (?:sebuah )?(?:model bahasa|ai\b|kecerdasan buatan|asisten ai)",
    "ar": r"(?:بصفتي|كوني|باعتباري|كـ?)\s?(?:نموذج(?:ا|ًا)? (?:ل?لغ|ذكاء)|ذكاء(?:ً|ا)? اصطناعي|مساعد)",
    "hi": r"एक (?:ai|एआई|कृत्रिम बुद्धिमत्ता|भाषा मॉडल)(?: भाषा मॉडल| मॉडल| सहायक)? (?:के रूप में|होने के नाते)",
    "th": r"ในฐานะ(?:ที่เป็น)?\s?(?:ai|โมเดลภาษา|แบบจำลองภาษา|ปัญญาประดิษฐ์)",
    "bn": r"(?:একটি |একজন )?(?:ai|এআই|কৃত্রিম বুদ্ধিমত্তা|ভাষা মডেল)(?: ভাষা মডেল| মডেল)? হিসাবে",
}
CUTOFF = {
    "en": r"knowledge cut-?\s?off|as of my (?:last|latest|most recent) (?:knowledge |training )?(?:update|cut-?off|"
          r"data)|"
          r"my (?:training data|knowledge) (?:only |ends|was last|goes up|is limited to|extends|(?:only )?goes)|"
          r"(?:do not|don't) have (?:real[- ]time|access to (?:real[- ]time|current|up-to-date))",
    "zh": r"(?:知识|知識|训练数据|訓練資料)(?:库)?(?:的)?截止|截至我(?:的)?(?:最后|上次|知识|训练)|我的(?:知识|"
          r"训练数据)(?:只|仅|更新)到?",
    "ja": r"(?:知識|学習データ|トレーニングデータ)(?:の)?(?:カットオフ|は\d{4}年)",
    "ko": r"(?:지식|학습 데이터)(?:의)? ?(?:컷오프|기준일|는 \d{4}년)",
    "es": r"(?:fecha de corte|corte) de (?:mi )?(?:conocimiento|entrenamiento)|hasta mi última actualización",
    "fr": r"date (?:de coupure|limite) de mes connaissances|(?:lors de|jusqu'à) ma dernière (?:mise à jour|formation)",
    "de": r"wissensstichtag|stand meine[sr] (?:letzten|wissens|training)|mein wissensstand",
    "it": r"(?:data di cutoff|ultimo aggiornamento) (?:delle mie|della mia|dei miei)",
    "pt": r"data de corte d[oe] (?:meu )?(?:conhecimento|treinamento)|até (?:a )?minha última atualização",
    "ru": r"(?:по состоянию на|на момент) (?:мое|моё|моего)\w* последне\w* обновлени|мои (?:знания|данные) ограничены",
}
CLOSING = {
    "en": r"i hope (?:this|that|these|it|my answer)(?: \w{1,20}){0,3} (?:helps?|helped|is helpful|was helpful|"
          r"assists?)",
    "zh": r"希望(?:这|這|以上|我的|对您|对你|能|可以)[^。！!\n]{0,20}(?:帮助|幫助)",
    "ja": r"(?:お役に立て|お役に立ち|参考になれ)(?:れば|ば|ましたら)?(?:幸い|嬉しい|うれしい|いいです)",
    "ko": r"도움이 되(?:었으면|셨으면|길|시길|셨길|었기를|기를)",
    "es": r"espero que (?:esto|te|le|les|mi respuesta)[^.!?\n]{0,30}(?:ayud|útil|sirv)",
    "fr": r"j'espère que (?:cela|ça|cette|ceci|ces)[^.!?\n]{0,30}(?:aid|utile)",
    "de": r"ich hoffe,? (?:das|dies|diese)[^.!?\n]{0,40}(?:hilf|hilfreich|weiter)",
    "it": r"spero (?:che )?(?:questo|ti|le|vi|sia)[^.!?\n]{0,30}(?:aiut|util)",
    "pt": r"espero que (?:isso|isto|te|lhe|tenha)[^.!?\n]{0,30}(?:ajud|útil)",
    "ru": r"надеюсь,? (?:это|что это|мой ответ|эта)[^.!?\n]{0,30}(?:помо|полез)",
    "vi": r"hy vọng (?:điều này|thông tin này|câu trả lời)[^.!?\n]{0,30}(?:giúp|hữu ích)",
    "id": r"semoga (?:ini |informasi ini |jawaban ini )?(?:membantu|bermanfaat)",
    "ar": r"(?:آمل|أتمنى|اتمنى) أن[^.!؟\n]{0,40}(?:مفيد|يساعد|ساعد)",
    "hi": r"(?:आशा|उम्मीद) है[^।!?\n]{0,60}(?:मदद|सहाय|उपयोगी)",
    "th": r"หวังว่า[^\n]{0,40}(?:ช่วย|เป็นประโยชน์)",
    "bn": r"আশা করি[^।!?\n]{0,60}(?:সাহায্য|সহায়)",
}
OFFER = {
    "en": r"let me know if (?:you(?:'d| would)? (?:have|need|want|like)|there(?:'s| is) anything|i can)|"
          r"feel free to (?:ask|reach out|let me know)|is there anything else i can|if you have any (?:other|more|"
          r"further)",
    "zh": r"(?:如果|如有)[^。！!\n]{0,30}(?:请|請|欢迎)?(?:随时|隨時)(?:告诉我|告訴我|提问|联系我|问我|向我)",
    "ja": r"(?:他に|何か)[^。\n]{0,20}(?:お気軽に|遠慮なく)", "ko": r"(?:더 궁금|추가 질문|"
                                                       r"다른 질문)[^.\n]{0,30}(?:말씀|알려|문의)",
    "es": r"no dudes en (?:preguntar|decirme|pedir)|hay algo más en lo que pueda",
    "fr": r"n'hésitez pas à (?:me |poser|demander)", "de": r"lass(?:en sie)? (?:es )?mich wissen|zögern sie nicht|"
                                                           r"melde dich gern",
    "it": r"non esitare a|fammi sapere se", "pt": r"não hesite em|me avise se",
    "ru": r"(?:дайте|дай) (?:мне )?знать,? если|не стесняйтесь (?:спрашивать|обращаться)", "id": r"jangan ragu untuk",
}
OPENING = {
    "en": r"(?:sure|certainly|of course|absolutely|great question|no problem)\b[!,.:]",
    "zh": r"(?:当然|當然|好的|没问题|沒問題|当然可以)[！，。!,：:]", "ja": r"(?:もちろん|はい、|承知|"
                                                       r"かしこまり)", "ko": r"(?:물론|네,|알겠습니다)",
    "es": r"¡?(?:claro|por supuesto|desde luego)\b", "fr": r"(?:bien sûr|certainement|avec plaisir)\b",
    "de": r"(?:natürlich|klar|gerne|selbstverständlich)\b[!,.:]", "it": r"(?:certo|certamente|volentieri)\b[!,.:]",
    "pt": r"(?:claro|com certeza|certamente)\b[!,.:]", "ru": r"(?:конечно|разумеется|безусловно)[!,.:]",
}
# Characters at the beginning and the end that are read; the rest of a long answer is about its subject.
END = 400
KINDS = {"ai_self_reference": SELF, "knowledge_cutoff": CUTOFF, "closing": CLOSING, "offer": OFFER, "opening": OPENING}
DEFAULT = "ai_self_reference,knowledge_cutoff,closing"
UNSPACED = ("zh", "ja", "ko", "th")


def _compiled(table: dict[str, str]) -> tuple[re.Pattern, re.Pattern]:
    """The phrases that begin where a word does, and those of scripts where words are not set apart."""
    spaced = "|".join(phrases for language, phrases in table.items() if language not in UNSPACED)
    return re.compile(rf"\b(?:{spaced})"), re.compile("|".join(table[language] for language in UNSPACED
                                                                if language in table))


# A text in ASCII with none of these has no phrase of the kind. Cheap to look for.
ASCII_SIGNS = {
    "ai_self_reference": ("as a ai", "as an ai", "as a art", "as an art", "as a l", "as an l", "i'm ", "i am ",
                          "openai", "como ", "en tant qu", "als ", "come ", "in quanto ", "sebagai "),
    "knowledge_cutoff": ("knowledge cut", "as of my ", "my training data ", "my knowledge ", "have real", "have access",
                         "corte", "date ", "wissens", "stand meine", "cutoff", "ultimo agg"),
    "closing": ("i hope ", "espero que ", "ich hoffe", "spero ", "semoga "),
}
_PATTERNS = {kind: _compiled(table) for kind, table in KINDS.items()}


def _where(text: str, kind: str) -> str:
    """What is read for a kind: the last line, the first, or the beginning and the end."""
    if kind in ("closing", "offer"):
        return text.rstrip()[-END:].rpartition("\n")[2]
    if kind == "opening":
        return text.lstrip()[:60]
    return text if len(text) <= 2 * END else f"{text[:END]}\n{text[-END:]}"


def find(text: str, kind: str) -> str:
    """What an answer says of a kind, or ""."""
    where = _where(text, kind).lower()
    ascii = where.isascii()
    if ascii and kind in ASCII_SIGNS and not units.has_any(where, ASCII_SIGNS[kind]):
        return ""
    where = where if ascii else where.replace("’", "'").replace("‘", "'")
    spaced, unspaced = _PATTERNS[kind]
    found = spaced.search(where) or (None if ascii else unspaced.search(where))
    return found[0] if found and (kind != "opening" or found.start() < 3) else ""


def judge(record: Record, *, checks: tuple[str, ...]) -> Verdict:
    """Rejects under the kind's name if any answer has a phrase of it."""
    for text in parts.of(record).answers:
        for kind in checks:
            found = find(text, kind)
            if found:
                return Reject(kind, parts.shown(found))
    return Keep(record)


def build(*, checks: str = DEFAULT) -> Filter:
    """The filter.

    Args:
      checks: kinds by commas, out of ai_self_reference, knowledge_cutoff, closing ("I hope this helps!"), offer ("Let
        me know if ...") and opening ("Sure! Here is").

    Raises:
      UserError: another kind.
    """
    return Filter("boilerplate", partial(judge, checks=parts.names(checks, KINDS, "boilerplate: checks")))
