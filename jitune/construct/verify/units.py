"""Units behind and before numbers: what they measure and how much of it. In: a text. Out: a Unit.

    unit_at(" km per hour", 0)     # (Unit("length", 1000, "km/hour", per=("time", 3600)), 12)
    unit_at(" apples", 0)          # (None, 0): what is counted is no unit
    ratio(km, miles)               # Fraction(15625, 25146): so many miles are one km; None where they do not compare

Exact factors only: the inch is 25.4 mm and the pound 453.59237 g by definition. What is not listed is no unit.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """measures: such as "length^2"; factor: how many of the base unit it is; name: for people; per: the same of what
    it is divided by."""

    measures: str
    factor: Fraction
    name: str
    per: tuple[str, Fraction] | None = None


def ratio(a: Unit, b: Unit) -> Fraction | None:
    """How many b one a is; None where they measure different things. A rate counts by what is above its line where
    the other one says no more: "$18" and "18 dollars a day"."""
    if {a.name, b.name} <= {"£", "GBP", "pound", "pounds"}:
        return Fraction(1)
    if a.measures != b.measures:
        return None
    if a.per is None or b.per is None:
        return a.factor / b.factor
    return a.factor / b.factor * b.per[1] / a.per[1] if a.per[0] == b.per[0] else None


def _table(rows: str) -> dict[str, tuple[str, Fraction]]:
    found = {}
    for row in rows.strip().splitlines():
        measure, factor, *names = row.split()
        found |= {name.replace("_", " "): (measure, Fraction(factor)) for name in names}
    return found


# measure, factor, names. Short names are told apart by their case.
UNITS = _table("""
length 1 m meter meters metre metres
length 1000 km kilometer kilometers kilometre kilometres kms
length 1/100 cm centimeter centimeters centimetre centimetres cms
length 1/1000 mm millimeter millimeters millimetre millimetres
length 201168/125 mi mile miles
length 1143/1250 yd yard yards yds
length 381/1250 ft foot feet
length 127/5000 in inch inches
time 1 s sec secs second seconds
time 1/1000 ms millisecond milliseconds
time 60 min mins minute minutes
time 3600 h hr hrs hour hours
time 86400 day days
time 604800 week weeks
month 1 month months
month 12 year years yr yrs
mass 1 g gram grams gramme grammes
mass 1000 kg kilogram kilograms kgs kilo kilos
mass 1/1000 mg milligram milligrams
mass 1000000 t tonne tonnes
mass 45359237/100000 lb lbs pound pounds
mass 45359237/1600000 oz ounce ounces
volume 1 L l liter liters litre litres
volume 1/1000 mL ml milliliter milliliters millilitre millilitres
dollars 1 $ dollar dollars USD usd bucks
dollars 1/100 ¢ cent cents
euros 1 € euro euros EUR
pounds 1 £ GBP
yen 1 ¥ yen JPY
rupees 1 ₹ rupee rupees Rs INR
share 1 % percent per_cent pct
angle 1 ° degree degrees deg
celsius 1 °C ℃
fahrenheit 1 °F ℉
speed_mph 1 mph
speed_kmh 1 kmh kph
""")
SPEEDS = {"speed_mph": ("mile", "hour"), "speed_kmh": ("km", "hour")}
POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
BEFORE = "$€£¥₹"  # signs that stand before a number
_names = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
ONE = re.compile(rf"\s*-?\s*(?:(?P<word>square|sq\.?|cubic|cu\.?)\s+)?(?P<name>{_names})"
                 r"(?P<power>\^?[23](?![0-9.]))?(?![\w°])", re.IGNORECASE)
PER = re.compile(r"\s*(?:/|\bper\b|\ban?\b(?=\s+(?:day|week|hour|minute|second|month|year)\b))", re.IGNORECASE)


def unit_at(text: str, start: int) -> tuple[Unit | None, int]:
    """The unit that begins at a place of the text, behind spaces, and where it ends; None and `start` without one."""
    found = _one_at(text, start)
    if found is None:
        return None, start
    unit, end = found
    per = PER.match(text, end)
    under = _one_at(text, per.end()) if per else None
    if under is None:
        return unit, end
    return unit._replace(name=f"{unit.name}/{under[0].name}", per=under[0][:2]), under[1]


def _one_at(text: str, start: int) -> tuple[Unit, int] | None:
    match = ONE.match(text, start)
    if match is None:
        return None
    name = _named(match["name"])
    if name is None or (name == "in" and re.match(r"\s*\w", text[match.end():])):  # "5 in total"
        return None
    measure, factor = UNITS[name]
    if measure in SPEEDS:
        over, under = (UNITS[one] for one in SPEEDS[measure])
        return Unit(*over, name, per=under), match.end()
    power = int((match["power"] or "0").strip("^")) or POWERS.get((match["word"] or "").lower().rstrip("."), 1)
    if power > 1:
        if measure != "length":
            return None
        name = f"{name}^{power}"
        if power == 3:  # a litre is a cubic decimetre
            return Unit("volume", factor**3 * 1000, name), match.end()
        return Unit(f"{measure}^{power}", factor**power, name), match.end()
    return Unit(measure, factor, name), match.end()


def _named(word: str) -> str | None:
    """The unit of a word; one of a letter or two only in its own case, so that "M" is no metre."""
    if word in UNITS:
        return word
    lower = word.lower()
    return lower if len(word) > 2 and lower in UNITS else {"KM": "km", "Km": "km", "KG": "kg", "Kg": "kg"}.get(word)


def sign(text: str) -> Unit | None:
    """The unit of a sign that stands before a number, such as "$"."""
    return Unit(*UNITS[text], text) if text in UNITS else None
