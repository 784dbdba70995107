"""Whether two models speak of the same tokens: what distillation by logits needs.

    size = check_vocabulary(student.tokenizer, teacher.tokenizer, student.config, teacher.config)    # 32000

Compared is which token has which id, special ones included. A model may have logits for more tokens than its tokenizer
(padding to a round number); they belong to no token, and distillation leaves them out. The roles of tokens may differ:
both models read what the student's tokenizer has rendered, and padding is never looked at. Which token ends a text is
worth a note, see `eos_note`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from jitune.types import UserError


def check_vocabulary(student: Any, teacher: Any, student_config: Any, teacher_config: Any, *,
                     what: str = "distill", names: tuple[str, str] = ("student", "teacher")) -> int:  # fmt: skip
    """The number of tokens that both models know, those of the tokenizers.

    student, teacher: tokenizers, or None where a model has none; the configs have `vocab_size`. what, names: begin an
    error, and stand for both models in it.

    Raises:
      UserError: the first difference of the vocabularies, or a model with fewer logits than tokens.
    """
    for name, tokenizer in zip(names, (student, teacher), strict=True):
        if tokenizer is None:
            raise UserError(f"{what}: the {name} has no tokenizer, so nothing says that both models have the same "
                            "vocabulary")  # fmt: skip
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    if ours != theirs:
        told = _difference(ours, theirs, names)
        raise UserError(f"{what}: {names[1]} and {names[0]} need the same vocabulary; {told}")
    size = max(ours.values()) + 1
    for name, config in zip(names, (student_config, teacher_config), strict=True):
        if config.vocab_size < size:
            raise UserError(f"{what}: the {name} has logits of {config.vocab_size} tokens, its tokenizer has {size}")
    return size


def eos_note(student: Any, teacher: Any) -> str:
    """A line for whoever distils where the two tokenizers end a text with different tokens, "" where they do not.

    The teacher gives the student's token little probability at the end of an answer then, and the student learns to go
    on. A tokenizer that names no such token has nothing to compare.
    """
    ours, theirs = student.eos_token_id, teacher.eos_token_id
    if ours == theirs or ours is None or theirs is None:
        return ""
    return (f"note: the teacher ends a text with {teacher.eos_token!r} (id {theirs}), the student with "
            f"{student.eos_token!r} (id {ours}); a student that learns from it may not end its answers")


def _difference(ours: dict[str, int], theirs: dict[str, int], names: tuple[str, str]) -> str:
    our, their = names
    sizes = "" if len(ours) == len(theirs) else f"the {their} has {len(theirs)} tokens, the {our} {len(ours)}; "
    mine, other = ({i: token for token, i in vocab.items()} for vocab in (ours, theirs))
    first = min(i for i in mine.keys() | other.keys() if mine.get(i) != other.get(i))
    told = [f"{vocab[first]!r}" if first in vocab else "no token" for vocab in (other, mine)]
    return f"{sizes}the first difference is id {first}: {told[0]} of the {their}, {told[1]} of the {our}"


def vocabulary_digest(tokenizer: Any) -> str:
    """sha256 over which token has which id."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()
