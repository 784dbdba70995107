"""Personal data and secrets by patterns: one named entry a kind, each with a check of what it found.

    find("Mail ann@acme.io or call +49 30 901820.", KINDS)
    # [Match("email", 5, 16), Match("phone", 25, 38)]
    find("ann@example.com, 192.168.0.1, 4111 1111 1111 1111", KINDS)    # []: made for examples

Figures are checked where they can be: cards by Luhn (ISO/IEC 7812-1), IBANs by their remainder by 97 and length
(ISO 13616), addresses of networks by the standard library. What standards set aside for documentation, or payment
providers for tests, is nobody's: RFC 2606, 5737, 3849, 7042, and private networks. Digits of every script count.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from jitune.construct.curate.filters import units


class Match(NamedTuple):
    """text[start:end] is of a kind."""

    kind: str
    start: int
    end: int


class Kind(NamedTuple):
    """One kind of personal data.

    Attributes:
      pattern: what it looks like.
      holds: says of a match whether it is one.
      signs: a text with none of these has none of the kind. Cheap to look for.
      least: how often one of the signs comes at least.
    """

    pattern: re.Pattern
    holds: Callable[[re.Match], bool] = lambda match: True
    signs: tuple[str, ...] = ("",)
    least: int = 1


# Names for documentation and tests (RFC 2606, RFC 6761), and senders that are nobody.
RESERVED = re.compile(r"(?:^|\.)(?:example|test|invalid|localhost|local)$|(?:^|\.)example\.(?:com|org|net|edu|"
                      r"co\.\w+)$|"
                      r"^(?:domain|email|yourdomain|yourcompany|company|mycompany|website|site|yoursite|abc|xyz)\.com$",
                      re.IGNORECASE)
# Published by payment providers for tests.
TEST_CARDS = frozenset("""
    4111111111111111 4242424242424242 4012888888881881 4000056655665556 5555555555554444 5105105105105100
    2223003122003222 378282246310005 371449635398431 6011111111111117 6011000990139424 30569309025904
    38520000023237 3530111333300000 3566002020360505 4222222222222 5200828282828210 4000000000000002
""".split())
# Lengths of IBANs (the registry of SWIFT); of other countries none is taken.
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24,
    "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "TN": 24, "TR": 26, "UA": 29, "VA": 22, "XK": 20,
}
# The examples of the registry and of textbooks.
TEST_IBANS = frozenset(("GB82WEST12345698765432", "DE89370400440532013000", "GB29NWBK60161331926819",
                        "FR1420041010050500013M02606", "NL91ABNA0417164300", "CH9300762011623852957"))


def digits(text: str) -> str:
    """The digits of a text, of any script, as 0 to 9."""
    return "".join(str(unicodedata.digit(c)) for c in text if c.isdecimal())


def luhn(number: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return bool(number) and total % 10 == 0


def iban(text: str) -> bool:
    """Whether a text is a valid IBAN: its country's length, and remainder 1 by 97 (ISO 13616)."""
    code = re.sub(r"\s", "", text).upper()
    if not code.isascii() or len(code) != IBAN_LENGTHS.get(code[:2]) or not code.isalnum() or code in TEST_IBANS:
        return False
    return int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1


def _email(match: re.Match) -> bool:
    user, _, domain = match[0].rpartition("@")
    return not RESERVED.search(domain) and not re.fullmatch(
        r"(?:your|my|user|name|first|last|someone|no-?reply|john|jane)?[._-]?(?:email|name|user|someone|example)\d*",
        user, re.IGNORECASE)


def _card(match: re.Match) -> bool:
    number = digits(match[0])
    starts = number[0] in "3456" or 2221 <= int(number[:4]) <= 2720
    return 13 <= len(number) <= 19 and starts and len(set(number)) > 2 and number not in TEST_CARDS and luhn(number)


def _phone(match: re.Match) -> bool:
    """Of 8 to 15 digits (E.164), not all the same or in order, and not of the exchange 555, which fiction uses."""
    number = digits(match[0])
    fiction = "555" in number[-10:-4] or number[-10:] in ("1234567890", "0123456789", "9876543210", "1231231234")
    return 8 <= len(number) <= 15 and len(set(number)) > 2 and not fiction


def _ssn(match: re.Match) -> bool:
    """As the Social Security Administration gives them; the numbers of its advertisements are nobody's."""
    area, group, serial = match[0].split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000" \
        and match[0] not in ("078-05-1120", "219-09-9999", "123-45-6789", "111-11-1111")


def _address(match: re.Match) -> bool:
    try:
        return ipaddress.ip_address(match[0].strip("[]")).is_global and match[0] not in PUBLIC
    except ValueError:
        return False


# Public name servers are nobody's.
PUBLIC = ("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "1.2.3.4", "2.2.2.2", "3.3.3.3", "4.4.4.4")


def _mac(match: re.Match) -> bool:
    """Not one for documentation (RFC 7042), of all ones or zeros, or in order."""
    code = re.sub("[:-]", "", match[0]).lower()
    return not code.startswith(("00005e00", "0123456789", "aabbcc", "001122", "112233")) and len(set(code)) > 2


NO_KEY = ("example", "xxxx", "your", "1234567890", "abcdefgh", "placeholder", "....", "here")


def _secret(match: re.Match) -> bool:
    """Not a word that stands for a key: XXXX, EXAMPLE, your-key."""
    key = match[0].lower()
    return len(set(key[-16:])) > 5 and not any(word in key for word in NO_KEY)


EDGE, END = r"(?<![\w@.+-])", r"(?![\w@])"
TOKENS = (
    r"(?:AKIA|ASIA)[0-9A-Z]{16}", r"AIza[\w-]{35}", r"sk-(?:proj-|"
                                                    r"ant-[\w]{2,10}-)?[\w-]{20,200}", r"gh[pousr]_[A-Za-z0-9]{36,255}",
    r"github_pat_\w{22,255}", r"glpat-[\w-]{20,64}", r"xox[abeprs]-[\w-]{10,200}", r"hf_[A-Za-z]{34}",
    r"[rs]k_live_[A-Za-z0-9]{16,128}", r"SG\.[\w-]{16,64}\.[\w-]{16,64}", r"npm_[A-Za-z0-9]{36}", r"pypi-[\w-]{32,255}",
    r"eyJ[\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{10,2000}",
)
SIGNS = ("AKIA", "ASIA", "AIza", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "hf_",
         "k_live_", "SG.", "npm_", "pypi-", "eyJ")
# Where a number is only a telephone's if one says so before it.
CALL = (r"(?:tel|phone|call|mobile|cell|fax|whatsapp|telefon|teléfono|téléphone|telefone|handy|móvil|portable|电话|"
        r"電話|"
        r"手机|手機|"
        r"联系方式|携帯|전화|тел|телефон|هاتف|फ़ोन|फोन|โทร|điện thoại|telepon)\w{0,10}[^\w\n]{0,6}")
PHONE = (
    rf"{EDGE}\+\d{{1,3}}[ .()/\u00a0-]{{0,3}}\d(?:[ .()/\u00a0-]{{0,2}}\d){{6,13}}{END}",           # +49 30 901820
    r"(?<![\w.+/-])(?:1[-. ])?\(\d{3}\) ?\d{3}[-. ]\d{4}(?![\w-])",                                 # (212) 736-5000
    r"(?<![\w.+/=-])(?:1-)?[2-9]\d{2}([-.])[2-9]\d{2}\1\d{4}(?![\w-])",                             # 212-736-5000
    r"(?<![\w.+/-])0\d(?: \d{2}){4}(?![\w-])",                                                      # 01 42 68 53 00
    rf"(?i:(?<=\W)|\A){CALL}(?P<number>\(?\d(?:[ .()/-]{{0,2}}\d){{6,13}})(?![\w])",                # Tel.: 030 901820
)
KINDS: dict[str, Kind] = {
    "private_key": Kind(re.compile(r"-----BEGIN (?:[A-Z]{2,10} ){0,2}PRIVATE KEY(?: BLOCK)?-----"
                                   r"(?s:.{40,20000}?)(?:-----END [A-Z ]{1,40}-----|\Z)"), signs=("PRIVATE KEY",)),
    "api_key": Kind(re.compile(rf"(?<![\w-])(?:{'|'.join(TOKENS)})(?![\w-])"), _secret, SIGNS),
    "email": Kind(re.compile(r"(?<![\w.+%@/:-])[\w+%](?:[\w.+%-]{0,62}[\w+%-])?@(?:[\w-]{1,63}\.){1,6}"
                             r"[^\W\d_]{2,24}(?![\w@-])"), _email, ("@",)),
    "iban": Kind(re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])"),
                 lambda match: iban(match[0])),
    "credit_card": Kind(re.compile(r"(?<![\w.,/=-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|"
                                   r"\d{4}([ -])\d{6}\2\d{4,5})(?![\w-]|[.,]\d| \d)"), _card),
    "us_ssn": Kind(re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])", re.ASCII), _ssn, ("-",)),
    "phone": Kind(re.compile("|".join(PHONE)), _phone),
    # Four numbers after a word such as "version" are none.
    "ipv4": Kind(re.compile(r"(?<![\w.])(?<!v)(?<!version )(?<!Version )(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|"
                            r"\.\d)", re.ASCII), _address,
                 (".",), 3),
    "ipv6": Kind(re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{1,4}:{1,2}){2,7}[0-9a-fA-F]{1,4}(?![\w:])"), _address, (":",),
                 2),
    "mac": Kind(re.compile(r"(?<![\w:-])[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}(?![\w:-])"), _mac,
                (":", "-"), 5),
}
# Of these a text has none that has no digit, and of those below none without seven close by.
_NUMBER = frozenset(("iban", "ipv4"))
_LONG = frozenset(("credit_card", "us_ssn", "phone"))
_RUN = re.compile(r"\d(?:[ .()/\u00a0-]{0,3}\d){6}")


@lru_cache(maxsize=16)
def _chosen(kinds: tuple[str, ...]) -> list[tuple[str, bool, bool, Kind]]:
    """(name, whether it needs a digit, whether it needs seven, the kind) of each of these, in the order of KINDS."""
    return [(name, name in _NUMBER, name in _LONG, kind) for name, kind in KINDS.items() if name in kinds]


def find(text: str, kinds: Iterable[str]) -> list[Match]:
    """What a text has of the kinds, from left to right; where two overlap, the one of the earlier kind in KINDS."""
    found: list[Match] = []
    number = units.has_digit(text)
    run = number and _RUN.search(text) is not None
    for name, digit, seven, (pattern, holds, signs, least) in _chosen(tuple(kinds)):
        if digit and not number or seven and not run or not any(map(text.__contains__, signs)):
            continue
        if least > 1 and max(map(text.count, signs)) < least:
            continue
        for match in pattern.finditer(text):
            span = match.span("number") if name == "phone" and match["number"] else match.span()
            if holds(match) and not any(span[0] < other.end and other.start < span[1] for other in found):
                found.append(Match(name, *span))
    return sorted(found, key=lambda match: match.start)
