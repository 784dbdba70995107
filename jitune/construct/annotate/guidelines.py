"""Guidelines in Markdown, as a block of HTML that holds no markup of theirs but what Markdown means.

    block("# Rate\\n\\nSee <b>this</b>.")   # Markup("<h3>Rate</h3>\\n<p>See &lt;b&gt;this&lt;/b&gt;.</p>\\n")

HTML in them is shown as text, of images the words remain (nothing is loaded), and links open beside the page.
"""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from jitune.types import UserError

LARGEST = 2**20  # bytes


def read(path: str | Path) -> Markup:
    """The block of a file.

    Raises:
      UserError: it cannot be read, is not UTF-8, or is larger than 1 MB.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"--guidelines {path}: cannot be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise UserError(f"--guidelines {path}: is larger than 1 MB; guidelines are read by people")
    try:
        return block(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"--guidelines {path}: is not valid UTF-8 at byte {error.start}") from None


def block(text: str) -> Markup:
    """Markdown as escaped HTML; its headings go below those of the page."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        for child in token.children or ():
            if child.type == "image":
                child.type, child.children = "text", None  # whose content is the words that stand for it
            if child.type == "link_open":
                child.attrSet("target", "_blank")
                child.attrSet("rel", "noopener noreferrer")
    return Markup(parser.renderer.render(tokens, parser.options, {}))
