"""How prompts speak of what should stand below or be attached, in fourteen languages: one entry a language.

    LANGUAGES["en"].media.search("Describe the attached photo.")[0]    # "attached photo"
    LANGUAGES["en"].text.search("Summarize the article below.")[0]     # "article below"

Adding a language is one entry here and one row of the test.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Phrases(NamedTuple):
    """Of a language.

    Attributes:
      media: an image, recording or file that is given, attached or below.
      text: an article, table, list or the like that follows or is attached.
      signs: parts of words without which no phrase is there, in small letters; cheap to look for.
    """

    media: re.Pattern
    text: re.Pattern
    signs: tuple[str, ...]


def _phrases(signs: str, media: str, text: str) -> Phrases:
    return Phrases(re.compile(media, re.IGNORECASE), re.compile(text, re.IGNORECASE), tuple(signs.split("|")))


_MEDIA_EN = (r"(?:images?|pictures?|photos?|photographs?|screenshots?|videos?|audio(?: clip| file)?|recordings?|"
             r"graphs?|charts?|diagrams?|figures?|illustrations?|pdfs?|spreadsheets?|attachments?)")
_TEXT_EN = (r"(?:articles?|passages?|texts?|paragraphs?|documents?|emails?|stor(?:y|ies)|essays?|poems?|sentences?|"
            r"excerpts?|tables?|lists?|code|snippets?|reviews?|tweets?|dialogues?|conversations?|letters?|reports?|"
            r"statements?|files?)")
_BETWEEN = r"(?:\w[\w-]{0,20} ){0,2}"

LANGUAGES = {
    "en": _phrases(
        "attach|follow|accompany|upload|below|above|i sent",
        rf"\b(?:attached|following|accompanying|uploaded) {_BETWEEN}{_MEDIA_EN}\b|"
        rf"\b{_MEDIA_EN} (?:\w+ )?(?:below|attached|above|i (?:sent|uploaded|attached))\b",
        rf"\b(?:following|attached) {_BETWEEN}{_TEXT_EN}\b|\b{_TEXT_EN} (?:\w+ )?(?:below|attached|that follows)\b"),
    "zh": _phrases(
        "以下|下面|下列|附|上传|上傳|下方",
        r"(?:(?<![字个分岁元级0-9])以下|下面|下列|附件|附上|所附|上传|上傳|下方)(?:的|中的|这张|這張|这幅|那张|一张|"
        r"这个|这段|给出的)*(?:图片|圖片|图像|圖像|照片|图表|圖表|"
        r"截图|视频|影片|音频|"
        r"录音|示意图|图形|流程图|插图)",
        r"(?:(?<![字个分岁元级0-9])以下|下面|下列|附件|所附|下方)(?:的|中的|这篇|這篇|这段|這段|这个|一篇|一段|"
        r"给出的|给定的)*(?:文章|段落|文本|文字|句子|邮件|故事|诗|表格|"
        r"列表|代码|"
        r"对话|短文|报告|评论|文件|文档|信件)"),
    "ja": _phrases(
        "以下|次|下記|添付|下",
        r"(?:以下|次|下記|添付|下)(?:の|された)?(?:画像|写真|図|グラフ|チャート|動画|音声|スクリーンショット|イラスト)",
        r"(?:以下|次|下記|添付)(?:の|された)?(?:記事|文章|段落|テキスト|文書|メール|物語|詩|文|表|リスト|コード|会話|"
        r"レビュー|ファイル)"),
    "ko": _phrases(
        "다음|아래|첨부",
        r"(?:다음|아래|첨부된|첨부한|첨부)(?:의)? ?(?:이미지|사진|그림|그래프|차트|동영상|비디오|오디오|도표|스크린샷)",
                   r"(?:다음|아래|첨부된|첨부)(?:의)? ?(?:기사|글|문단|텍스트|문서|이메일|이야기|시|문장|표|목록|"
                   r"코드|대화|리뷰|파일)"),
    "es": _phrases(
        "siguiente|adjunt|abajo|continuación",
        r"\b(?:siguientes? |adjunt[oa]s? )(?:imagen|imágenes|fotos?|fotografía|vídeo|video|audio|gráfic[oa]|"
        r"diagrama|figura|"
        r"captura)|\b(?:imagen|foto|fotografía|vídeo|video|audio|gráfico|diagrama|figura) (?:adjunt[oa]|siguiente|"
        r"de abajo)",
        r"\b(?:siguientes? |adjunt[oa]s? )(?:artículos?|textos?|párrafos?|pasajes?|documentos?|correos?|historias?|"
        r"ensayos?|"
        r"poemas?|frases?|oraci(?:ón|ones)|tablas?|listas?|códigos?|diálogos?|archivos?)|"
        r"\b(?:artículo|texto|párrafo|documento|correo|código|archivo) (?:adjunto|siguiente|a continuación)"),
    "fr": _phrases(
        "suivant|ci-|joint",
        r"\b(?:image|photo|vidéo|graphique|diagramme|figure|capture d'écran|enregistrement|illustration)s? "
        r"(?:suivante?s?|ci-dessous|ci-jointe?s?|jointe?s?)",
        r"\b(?:article|texte|paragraphe|passage|document|e-mail|courriel|histoire|essai|poème|phrase|tableau|liste|"
        r"code|"
        r"dialogue|fichier)s? (?:suivante?s?|ci-dessous|ci-jointe?s?|joints?)"),
    "de": _phrases(
        "folgend|angehängt|beigefügt|unten|anhang",
        r"\b(?:folgende[nsmr]?|angehängte[nsmr]?|beigefügte[nsmr]?|untenstehende[nsmr]?) (?:bild|foto|video|audio|"
        r"grafik|"
        r"diagramm|abbildung|screenshot|aufnahme)\w{0,3}|\b(?:bild|foto|video|diagramm|grafik) (?:unten|im anhang)",
        r"\b(?:folgende[nsmr]?|angehängte[nsmr]?|beigefügte[nsmr]?|untenstehende[nsmr]?) (?:artikel|text|absatz|"
        r"abschnitt|"
        r"dokument|e-mail|geschichte|aufsatz|gedicht|s[aä]tz|tabelle|liste|code|dialog|datei)\w{0,3}"),
    "it": _phrases(
        "seguent|allegat|qui sotto",
        r"\b(?:seguent[ei]|allegat[oa]) (?:immagin[ei]|foto|video|audio|grafico|diagramma|figura)|"
        r"\b(?:immagine|foto|video|grafico|diagramma|figura) (?:seguente|allegat[oa]|qui sotto)",
        r"\b(?:seguent[ei]|allegat[oa]) (?:articol[oi]|test[oi]|paragraf[oi]|document[oi]|e-?mail|stori[ae]|"
        r"poesi[ae]|fras[ei]|"
        r"tabell[ae]|list[ae]|codice|dialogo|file)|\b(?:articolo|testo|paragrafo|documento) (?:seguente|allegato|"
        r"qui sotto)"),
    "pt": _phrases(
        "seguinte|anex|abaixo|a seguir",
        r"\b(?:seguintes? |anexad[oa]s? )(?:imagem|imagens|fotos?|vídeo|áudio|gráfico|diagrama|figura)|"
        r"\b(?:imagem|foto|vídeo|áudio|gráfico|diagrama|figura) (?:abaixo|seguinte|anex[oa]|a seguir)",
        r"\b(?:seguintes? |anexad[oa]s? )(?:artigos?|textos?|parágrafos?|documentos?|e-?mails?|histórias?|poemas?|"
        r"frases?|"
        r"tabelas?|listas?|códigos?|diálogos?|arquivos?)|\b(?:artigo|texto|parágrafo|documento|código) (?:abaixo|"
        r"a seguir)"),
    "ru": _phrases(
        "следующ|прикре|приложенн|ниже",
        r"(?:следующ|прикреплённ|прикрепленн|приложенн|нижеприведенн)\w{2,4} (?:изображени|картинк|фото|видео|аудио|"
        r"график|"
        r"диаграмм|рисун|схем|скриншот)\w*|(?:изображени|картинк|фото|график|диаграмм|рисунк)\w* ниже",
        r"(?:следующ|прикреплённ|прикрепленн|приложенн|нижеприведенн)\w{2,4} (?:стать|текст|абзац|отрыв|документ|письм|"
        r"рассказ|истори|стих|предложени|таблиц|спис|код|диалог|файл)\w*|(?:стать|текст|абзац|документ|"
        r"таблиц)\w* ниже"),
    "ar": _phrases(
        "التالي|المرفق|أدناه|الآتي",
        r"(?:الصورة|الصور|الفيديو|الرسم البياني|المخطط|التسجيل|الشكل) (?:التالي|التالية|المرفق|المرفقة|أدناه|الآتية)",
        r"(?:المقال|المقالة|النص|الفقرة|المستند|الرسالة|القصة|القصيدة|الجملة|الجمل|الجدول|القائمة|الكود|الحوار|الملف) "
        r"(?:التالي|التالية|المرفق|المرفقة|أدناه|الآتية|الآتي)"),
    "hi": _phrases(
        "निम्न|संलग्न|नीचे",
        r"(?:निम्नलिखित|निम्न|संलग्न|नीचे दी गई|नीचे दिए गए) (?:छवि|चित्र|तस्वीर|फोटो|वीडियो|ग्राफ|चार्ट|आरेख)",
                   r"(?:निम्नलिखित|निम्न|संलग्न|नीचे दिए गए|नीचे दी गई) (?:लेख|पाठ|अनुच्छेद|दस्तावेज़|ईमेल|कहानी|"
                   r"कविता|वाक्य|तालिका|सूची|कोड|संवाद|फ़ाइल)"),
    "vi": _phrases(
        "sau|dưới|đính kèm",
        r"(?:hình ảnh|bức ảnh|ảnh|video|biểu đồ|sơ đồ|bản ghi âm) (?:sau|dưới đây|bên dưới|đính kèm)",
                   r"(?:bài báo|bài viết|đoạn văn|văn bản|tài liệu|email|câu chuyện|bài thơ|câu|bảng|danh sách|"
                   r"đoạn mã|tệp) "
                   r"(?:sau|sau đây|dưới đây|bên dưới|đính kèm)\b"),
    "id": _phrases(
        "berikut|di bawah|terlampir",
        r"(?:gambar|foto|video|audio|grafik|diagram) (?:berikut|di bawah|terlampir)",
                   r"(?:artikel|teks|paragraf|dokumen|email|cerita|esai|puisi|kalimat|tabel|daftar|kode|dialog|"
                   r"berkas|file) "
                   r"(?:berikut|di bawah|terlampir)"),
}
