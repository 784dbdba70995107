"""Pages: text is escaped, numbers are written in one place and keep all their digits."""

import math
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup

from jitune.report import page
from tests.report.made_run import HOSTILE

VOID = {"meta", "link", "br", "img"}


class Balance(HTMLParser):
    """Fails where a tag closes what is not open; collects the elements."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes what is not open"

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))


def parse(html: str) -> list[tuple[str, dict]]:
    parser = Balance()
    parser.feed(html)
    assert not parser.open
    return parser.seen


@pytest.mark.parametrize("given, shown", [
    (0, "0"), (1234567, "1,234,567"), (512.0, "512"), (0.123456, "0.1235"), (12.3456, "12.35"), (1234.5678, "1,235"),
    (2e-5, "2e-5"), (1.5e-7, "1.5e-7"), (-0.25, "-0.25"), (True, "yes"), (None, "–"), (math.nan, "–"),
    (math.inf, "–"), (np.float32(0.5), "0.5"), (np.int64(7), "7"), (1.5e20, "1.5e20"),
])
def test_numbers_have_four_digits(given, shown):
    assert page.number(given) == shown


def test_values_keep_all_their_digits():
    assert 'data-value="0.1234567890123"' in page.value(0.1234567890123) and ">0.1235<" in page.value(0.1234567890123)
    assert 'data-value="null"' in page.value(math.nan)
    assert page.value(0.43219, percent=True, plus_minus=0.01).striptags() == "43.2% ± 1.0%"
    assert page.value(3, unit="s").striptags() == "3 s" and page.value(None, unit="s").striptags() == "–"


def test_everything_given_is_escaped():
    html = page.page(
        HOSTILE, HOSTILE, page.section(HOSTILE, page.paragraph(HOSTILE), note=HOSTILE), page.code(HOSTILE),
        page.tiles([(HOSTILE, HOSTILE, HOSTILE)]), page.table([HOSTILE], [[HOSTILE]], caption=HOSTILE),
        page.sample(HOSTILE, [(HOSTILE, HOSTILE, HOSTILE)], label=HOSTILE), page.details(HOSTILE, HOSTILE),
        lead=HOSTILE, footer=HOSTILE,
    )
    assert html.count("&lt;script&gt;") == 23
    assert not {"script", "b"} & {tag for tag, _ in parse(html)}


def test_a_page_is_whole_and_loads_nothing():
    blocks = page.tiles([("a", 1), ("b", None)]), page.section("S", page.grid(page.code("x"))), ""
    html = page.page("T", *blocks, lead="l")
    elements = parse(html)
    assert not [a for _, a in elements if "src" in a] and "http:" not in html and "https:" not in html
    assert [a["href"] for _, a in elements if "href" in a] == ["data:,"]
    assert [tag for tag, _ in elements if tag in ("h1", "h2")] == ["h1", "h2"]


def test_columns_of_numbers_stand_to_the_right():
    html = page.table(["a", "b", "c"], [["x", 1, "y"], ["z", None, 2]])
    assert html.count('class="right"') == 3 and "<td class=\"right\">–</td>" in html  # the header and two cells of b
    assert page.table(["a", "b"], [["x", 1]], numeric=()).count("right") == 0
    with pytest.raises(ValueError, match="each row must have 2 cells"):
        page.table(["a", "b"], [["x"]])


def test_samples_say_whether_they_are_right():
    html = page.sample("Ask.", [("before", "", False), ("after", "Yes.", True), ("expected", "Yes.")])
    assert html.striptags() == "Ask. before × wrong(nothing) after ✓ rightYes. expectedYes."
    assert isinstance(html, Markup)
