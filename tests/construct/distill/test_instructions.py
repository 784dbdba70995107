"""The filters of instructions: each rule, both policies, and counts on a model's real outputs."""

import json
import re
import string
from collections import Counter

import pytest

from jitune.construct.distill.instructions import ALPACA, BLACKLIST, Gate, refused, tidy
from jitune.construct.distill.numbered import continued, listed
from jitune.types import UserError


@pytest.mark.parametrize("text, reason", [
    ("Name three primes", "too_short"),
    ("Name four primes now", None),
    (" ".join(["word"] * 150), None),
    (" ".join(["word"] * 151), "too_long"),
    ("Describe what the image shows us", "blacklisted"),
    ("Please GO TO the next shop", "blacklisted"),
    ("Describe an imagery of the sea", None),  # words, not parts of words
    ("Sing me some music please now", None),
    ("Write a program that sorts words", "write_a_program"),
    ("- Name four primes now", "punctuation"),
    ("'Name' four primes now", "punctuation"),
    ("Écris quatre mots en français", "not_ascii"),
    ("", "empty"),
])
def test_the_published_filters(text, reason):
    found = refused(text, policy="english", blacklist=BLACKLIST)
    assert (found and found[0]) == reason


def test_alpaca_refuses_more_words():
    assert refused("Sing me some music please now", policy="english", blacklist=ALPACA) == ("blacklisted", "music")


@pytest.mark.parametrize("text, reason", [
    ("写一首关于大海的诗，四行。", None),
    ("写诗", "too_short"),
    ("Écris quatre mots en français", None),
    ("¿Cuántos primos hay bajo cien?", None),
    ("「四つの素数を教えてください」と言う", "punctuation"),
    ("- Name four primes now", "punctuation"),
    ("$5 are how many euros?", "punctuation"),
])
def test_the_same_in_any_script(text, reason):
    found = refused(text, policy="unicode", blacklist=BLACKLIST)
    assert (found and found[0]) == reason


def test_tidy():
    assert tidy(" name the  NATO\nstates ", policy="english") == "Name the nato states"  # as published
    assert tidy(" name the  NATO\nstates ", policy="unicode") == "Name the NATO states"


def test_items_of_lists():
    assert continued(" Name it.\n10. Sort these:\n1) a\n11 . Sing.") == ["Name it.", "Sort these:\n1) a", "Sing."]
    assert listed("Sure!\n9. Name it.\n\n**10.** Sort these.\n11) Sing.") == ["Name it.", "Sort these.", "Sing."]
    assert listed("I cannot do that.") == []


def test_a_gate_remembers_what_it_has_taken():
    gate = Gate("unicode", BLACKLIST, 0.7, ["Name four prime numbers now."], option="config.x")
    assert gate.refuses("Name four prime numbers!")[0] == "too_similar"
    assert gate.refuses("Tell me a tale of the sea.") is None
    reason, detail = gate.refuses("Tell me a tale of the lake.")
    assert reason == "too_similar" and detail == "ROUGE-L 0.86 with 'Tell me a tale of the sea.'"
    with pytest.raises(UserError, match="config.x.policy='french' is not one of unicode, english"):
        Gate("french", BLACKLIST, 0.7, [], option="config.x")


def published(text: str) -> bool:
    """Whether the published filters take an instruction; written anew from the paper's list of them."""
    words = len(re.findall(r"\S+", text))
    listed = r"images?|graphs?|pictures?|files?|maps?|draw|plot|go to"
    return (3 < words <= 150 and not re.search(rf"(?i)\b({listed})\b", text) and text[:15] != "Write a program"
            and text[0] not in string.punctuation and ord(text[0]) < 128)


def test_on_what_davinci_said(shared):
    """Lines of davinci's raw continuations as instructions: the same are taken, and each reason has some."""
    counts = Counter()
    for line in open(shared / "data/self_improvement/davinci_predictions.jsonl", encoding="utf-8"):
        said = json.loads(line)["response"]
        for piece in filter(None, (tidy(piece, policy="english") for piece in said.split("\n"))):
            found = refused(piece, policy="english", blacklist=BLACKLIST)
            assert (found is None) == published(piece), piece
            counts[found[0] if found else "taken"] += 1
    assert counts == {"taken": 11778, "too_short": 10906, "punctuation": 315, "blacklisted": 207,
                      "write_a_program": 40, "too_long": 24}
