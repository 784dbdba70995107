'''Records to the texts that are scored: an answer, what stands before it, and what does without the instruction.

    asked = exchanges(record, "last")[0]            # Asked(before=({"role": "user", ...},), answer="5", input="")
    write(asked, "alpaca").context                  # "Below is an instruction ... ### Response:"
    write(asked, "alpaca").direct                   # "### Response:"

Three prompts:

    alpaca   Cherry's: Alpaca's, which ends "### Response:"; the answer alone has "### Response:" before it
    plain    Superfiltering's: "{instruction}\\n" or "{instruction}\\n{input}\\n"; nothing is before the answer alone
    chat     the model's own template with its generation prompt; the answer alone has the generation prompt before it

Alpaca's input is told from the instruction where the record's `meta` has it as "input". The first two prompts know one
instruction: of a longer conversation it is all that was said before, joined by blank lines.
'''

from __future__ import annotations

from typing import Any, NamedTuple

from jitune.data.record import Record, turns
from jitune.types import UserError

PROMPTS, TURNS = ("alpaca", "plain", "chat"), ("last", "all")
NO_ANSWER, NO_INSTRUCTION, TOO_LONG, TOO_SHORT, CERTAIN, REFUSED = 1, 2, 3, 4, 5, 6
WHY = ("", "no answer", "nothing was asked before the answer", "what stands before the answer fills max_length",
       "the answer has one token and nothing before it", "the answer alone is certain (a loss of 0)",
       "the chat template refuses the messages")  # fmt: skip
# Taori et al. 2023, the prompts of Alpaca's training.
ALPACA = ("Below is an instruction that describes a task. Write a response that appropriately completes the request."
          "\n\n### Instruction:\n{instruction}\n\n### Response:")
ALPACA_INPUT = ("Below is an instruction that describes a task, paired with an input that provides further context. "
                "Write a response that appropriately completes the request."
                "\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:")
RESPONSE = "### Response:"


class Asked(NamedTuple):
    """An answer and the messages before it. input: Alpaca's, which then ends the only message, or "". name: for errors.

    why: a number in `WHY` where there is nothing to score, else 0.
    """

    name: str
    before: tuple[dict, ...]
    answer: str
    input: str = ""
    tools: tuple[dict, ...] = ()
    why: int = 0


class Texts(NamedTuple):
    """context: what stands before the answer. direct: what does without the instruction.

    plain: whether a BOS goes in front where the tokenizer puts one; a chat template writes its own.
    """

    name: str
    context: str
    direct: str
    answer: str
    plain: bool = True


def name_of(record: Record) -> str:
    """A record, for errors: its source and its id."""
    source = record.provenance.source
    return f"{source}: record {record.id}" if source else f"record {record.id}"


def exchanges(record: Record, which: str = "last") -> list[Asked]:
    """The answers of a record that are scored; at least one, whose `why` says what is wrong where there is none.

    which: `last`: the last answer of the assistant, after all that was said before it; `all`: every one of them.
    Of a preference it is the chosen answer. Reasoning is not scored.
    """
    name, given = name_of(record), record.meta.get("input")
    messages = [*record.messages, *record.chosen]
    if record.text:
        messages = [{"role": role, "content": text} for role, text in turns(record)]
    answers = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    if not answers:
        return [Asked(name, tuple(messages), "", why=NO_ANSWER)]
    found = []
    for i in answers[-1:] if which == "last" else answers:
        before, answer = tuple(messages[:i]), messages[i].get("content") or ""
        asked_for = any((m.get("content") or "").strip() for m in before)
        split = len(before) == 1 and isinstance(given, str) and (before[0].get("content") or "").endswith(given)
        why = NO_ANSWER if not answer.strip() else 0 if asked_for else NO_INSTRUCTION
        found.append(Asked(name, before, answer, given if split else "", record.tools, why))
    return found


def write(asked: Asked, prompt: str, tokenizer: Any = None) -> Texts | None:
    """The texts of an answer, or None where the chat template refuses its messages.

    Raises UserError for a tokenizer without a chat template, or one without a generation prompt.
    """
    if prompt == "chat":
        return _chat(asked, tokenizer)
    instruction = "\n\n".join(m["content"] for m in asked.before if m.get("content"))
    if asked.input:
        instruction = instruction[: -len(asked.input)].removesuffix("\n\n")
    return write_parts(instruction, asked.input, asked.answer, prompt, name=asked.name)


def write_parts(instruction: str, input: str, answer: str, prompt: str, *, name: str = "") -> Texts:
    """The texts of an instruction, its input (or "") and the answer, as Alpaca's rows have them."""
    if prompt == "alpaca":
        template = ALPACA_INPUT if input else ALPACA
        whole = template.split("{instruction}")
        return Texts(name, whole[0] + instruction + whole[1].replace("{input}", input), RESPONSE, answer)
    return Texts(name, f"{instruction}\n{input}\n" if input else f"{instruction}\n", "", answer)


def _chat(asked: Asked, tokenizer: Any) -> Texts | None:
    """The template's text up to the answer; the header of an answer is what the generation prompt adds."""
    if not tokenizer.chat_template:
        raise UserError(f"{asked.name}: the tokenizer has no chat template; give prompt=alpaca or prompt=plain")
    options = {"tools": list(asked.tools) or None, "tokenize": False}
    try:
        bare = tokenizer.apply_chat_template(list(asked.before), add_generation_prompt=False, **options)
        whole = tokenizer.apply_chat_template(list(asked.before), add_generation_prompt=True, **options)
    except Exception:  # a template can raise anything, such as for roles that do not alternate
        return None
    header = whole[len(bare) :] if whole.startswith(bare) else ""
    if not header:
        raise UserError(f"{asked.name}: the chat template has no generation prompt that an answer alone could stand "
                        "after; give prompt=alpaca or prompt=plain")  # fmt: skip
    bos = tokenizer.bos_token or ""
    return Texts(asked.name, whole, (bos if bos and whole.startswith(bos) else "") + header, asked.answer, plain=False)
