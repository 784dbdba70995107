"""Length: records whose prompt, answer or conversation is too short or too long.

    build(min_answer_words=3).judge(record)    # Reject("answer_too_short", "2 words, at least 3")
    build(preset="self_instruct")              # prompts of 4 to 150 words (Wang et al. 2023, the released code)

Words are counted so that translations of one text are equally long in any script (`units.words`). The prompt is the
first message of the user; of answers, each is looked at.
"""

from __future__ import annotations

from functools import partial

from jitune.construct.curate.filters import parts, units
from jitune.construct.curate.stage import Filter, Keep, Reject, Verdict
from jitune.data.record import Record, all_texts
from jitune.types import UserError

# Options that a name stands for. Self-Instruct's code rejects an instruction of 3 words or fewer, or of over 150.
PRESETS = {"": {}, "self_instruct": {"min_prompt_words": 4, "max_prompt_words": 150}}
LIMITS = {f"{end}_{part}_{unit}": 0 for part in ("prompt", "answer") for unit in ("words", "characters")
          for end in ("min", "max")} | {"min_turns": 0, "max_turns": 0}
SIZE = 200_000


def judge(record: Record, *, limits: dict[str, int], max_characters: int) -> Verdict:
    """Rejects as too_long, prompt_too_short, prompt_too_long, answer_too_short, answer_too_long, too_few_turns or
    too_many_turns; a limit of 0 is none. A record over `max_characters` in all is not looked into."""
    size = sum(map(len, all_texts(record)))
    if max_characters and size > max_characters:
        return Reject("too_long", f"{size:,} characters, at most {max_characters:,}")
    found = parts.of(record)
    turns = len(found.prompts)
    if turns < limits["min_turns"]:
        return Reject("too_few_turns", f"{turns} turn{'s' * (turns != 1)} of the user, at least {limits['min_turns']}")
    if limits["max_turns"] and turns > limits["max_turns"]:
        return Reject("too_many_turns", f"{turns} turn{'s' * (turns != 1)} of the user, at most {limits['max_turns']}")
    for part, texts in (("prompt", found.prompts[:1]), ("answer", found.answers)):
        for text in texts:
            rejected = _measured(text, part, limits)
            if rejected:
                return rejected
    return Keep(record)


def _measured(text: str, part: str, limits: dict[str, int]) -> Reject | None:
    for unit, measure in (("characters", len), ("words", units.words)):
        low, high = limits[f"min_{part}_{unit}"], limits[f"max_{part}_{unit}"]
        if not (low or high):
            continue
        count = measure(text.strip())
        told = f"{count} {unit if count != 1 else unit[:-1]}"
        if count < low:
            return Reject(f"{part}_too_short", f"{told}, at least {low}")
        if high and count > high:
            return Reject(f"{part}_too_long", f"{told}, at most {high}")
    return None


def build(*, preset: str = "", max_characters: int = SIZE, **limits: int) -> Filter:
    """The filter.

    Args:
      preset: "" or "self_instruct"; what is given besides goes before it.
      max_characters: of all texts of a record together; 0 for any.
      limits: min_ and max_ of prompt_words, prompt_characters, answer_words, answer_characters and turns (the
        user's); 0 for none.

    Raises:
      UserError: an unknown preset or limit, a negative one, or a minimum above its maximum.
    """
    if preset not in PRESETS:
        raise UserError(f"length: preset is {preset!r}; allowed are {', '.join(filter(None, PRESETS))}, or none")
    for name, value in limits.items():
        if name not in LIMITS:
            raise UserError(f"length: there is no option {name!r}; allowed are {', '.join(LIMITS)}")
        parts.number(value, f"length: {name}")
    limits = LIMITS | PRESETS[preset] | limits
    for name, high in limits.items():
        low = limits["min_" + name[4:]]
        if name.startswith("max_") and 0 < high < low:
            raise UserError(f"length: min_{name[4:]} is {low}, above {name}, which is {high}")
    parts.number(max_characters, "length: max_characters")
    return Filter("length", partial(judge, limits=limits, max_characters=max_characters))


build.extra = LIMITS
