"""What a chat template writes around a user's text: a tokenizer in, the texts that raw completion needs out.

    around = pieces(tokenizer)     # of ChatML:
    around.before       # "<|im_start|>user\\n"                    up to where the user's text begins
    around.after        # "<|im_end|>\\n<|im_start|>assistant\\n"  from its end to where the answer begins
    around.between      # "<|im_end|>\\n<|im_start|>user\\n"       from an answer to the next user's text
    around.stops        # ("<|im_end|>", "<|im_start|>")          what ends a user's turn

They are found by rendering conversations of texts that no template has, so that any template will do that writes a
turn's text as it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jitune.types import UserError

# Letters alone, which no template trims or escapes.
QUESTION, ANSWER, NEXT = "QjtquestionQ", "QjtanswerQ", "QjtnextQ"


class Pieces(NamedTuple):
    """Texts around turns; see the module's docstring. between is None where a template has no second turn."""

    before: str
    after: str
    between: str | None
    stops: tuple[str, ...]

    def conversation(self, turns: list[tuple[str, str]]) -> str:
        """(question, answer) pairs up to where the next user's text begins."""
        text = self.before
        for question, answer in turns:
            text += f"{question}{self.after}{answer}{self.between}"
        return text


def pieces(tokenizer: Any, *, chat_template: str | None = None, system: str = "") -> Pieces:
    """What the template of a tokenizer writes, with a system message where one is given.

    A BOS that the tokenizer puts in front of plain texts itself is left out: it comes again when the text is asked.

    Raises:
      UserError: there is no template; it fails on one question, or does not write the texts of turns as they are.
    """
    if not (chat_template or tokenizer.chat_template):
        raise UserError("magpie: the teacher's tokenizer has no chat template; name one "
                        "(config.teacher.chat_template), or give config.magpie.pre_query and post_query as texts")
    opening = [{"role": "system", "content": system}] if system else []
    user, said = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}

    def rendered(*messages: dict) -> str:
        try:
            return tokenizer.apply_chat_template([*opening, *messages], chat_template=chat_template, tokenize=False,
                                                 add_generation_prompt=messages[-1]["role"] == "user")
        except Exception as error:  # a template can raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            what = "a system message and a question" if system else "a question"
            raise UserError(f"magpie: the chat template fails on {what}: {reason}") from error

    before, found, after = rendered(user).partition(QUESTION)
    if not found or QUESTION in after:
        raise UserError("magpie: the chat template does not write a question once, as it is; give config.magpie."
                        "pre_query and post_query as texts")
    if system and system.strip() not in before:
        raise UserError("magpie: the chat template has no place for a system message in front of the question")
    return Pieces(_without_bos(tokenizer, before), after, _between(rendered, user, said), _stops(tokenizer, after))


def _between(rendered, user: dict, said: dict) -> str | None:
    try:
        text = rendered(user, said, {"role": "user", "content": NEXT})
    except UserError:
        return None
    _, found, rest = text.partition(ANSWER)
    between, there, _ = rest.partition(NEXT)
    return between if found and there else None


def _without_bos(tokenizer: Any, text: str) -> str:
    bos = tokenizer.bos_token
    ids = tokenizer("")["input_ids"][:1]
    return text.removeprefix(bos) if bos and ids == [tokenizer.bos_token_id] else text


def _stops(tokenizer: Any, after: str) -> tuple[str, ...]:
    """Special tokens behind a question, in their order, else its first line with text; and the tokenizer's EOS."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    special = {t for t in added | set(tokenizer.all_special_tokens) if t in after}
    found = sorted(special, key=after.find)
    if not found:
        lead = after[: len(after) - len(after.lstrip())]
        line = next(iter(after.strip().splitlines()), "")
        found = [f"{lead}{line}"] if line else [lead] if lead else []
    eos = tokenizer.eos_token
    return tuple(dict.fromkeys([*found, *([eos] if eos else [])]))
