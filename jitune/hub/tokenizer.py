"""Tokenizers of checkpoint directories: loading, saving, and the digest that tells two apart."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from jitune.types import UserError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "spiece.model")


def import_transformers():
    """Imports transformers quietly: it is used here without torch, and says so at each start otherwise."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import transformers

    return transformers


def load_tokenizer(directory: str | Path) -> Any | None:
    """The tokenizer of a checkpoint directory, or None where the directory has none.

    Raises UserError where its files are broken. Code that comes with a checkpoint is never run.
    """
    directory = Path(directory)
    if not any((directory / name).exists() for name in TOKENIZER_FILES):
        return None
    transformers = import_transformers()
    try:
        return transformers.AutoTokenizer.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers raises whatever its parsers raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{directory}: the tokenizer does not load: {reason}") from error


def tokenizer_digest(tokenizer: Any) -> str:
    """sha256 over the vocabulary, the merge rules, the added tokens and the chat template."""
    state = hashlib.sha256()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state.update(backend.to_str().encode() if backend is not None else json.dumps(
        tokenizer.get_vocab(), sort_keys=True).encode())
    state.update(json.dumps([tokenizer.chat_template, tokenizer.eos_token, tokenizer.bos_token]).encode())
    return state.hexdigest()
