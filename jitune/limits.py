"""How long a text a model was made for, and what asks for more.

    config = lift(config, allow=True, option="--allow_longer_context")   # no limit any more
    check_length(4096, config, "config.seq_len=4096", option="config.model.allow_longer_context")

Positions beyond `max_position_embeddings` are computed by rotary embeddings, but no model was trained on them, so they
must be asked for. Learned positions do not exist beyond it.
"""

from __future__ import annotations

import json

from jitune.models.config import ModelConfig
from jitune.types import UserError

# The option of a run that asks for more, and the one of the commands.
IN_CONFIG, IN_COMMANDS = "config.model.allow_longer_context=true", "--allow_longer_context"


def lift(config: ModelConfig, allow: bool, option: str = IN_CONFIG) -> ModelConfig:
    """The config without a limit of its context where that is asked for, else as it is.

    Raises UserError for learned positions.
    """
    if not allow or not config.max_positions:
        return config
    if config.learned_positions:
        raise UserError(f"{option}: the positions of {config.family} are learned, and this model has "
                        f"{config.max_positions} of them; there is no longer context to ask for")  # fmt: skip
    return config.replace(max_positions=0)


def turn(config: ModelConfig) -> int:
    """Tokens up to which every document's rotary embedding is the same (longrope); 0: it always is."""
    return min((rope.original_max_position for rope in config.ropes if rope.kind == "longrope"), default=0)


def under_prompt(config: ModelConfig) -> ModelConfig:
    """The config of a model with a trained prompt in front, whose keys are computed once for documents of all lengths.

    So its context, prompt included, ends where longrope begins to turn longer documents another way.
    """
    most = turn(config)
    return config.replace(max_positions=min(config.max_positions or most, most)) if most else config


def hint(config: ModelConfig, option: str = IN_COMMANDS) -> str:
    """What an error about the context ends with: the option that allows more, or that nothing does.

    option: "" where a command has none.
    """
    if config.learned_positions:
        return "; its positions are learned, and there are none beyond"
    if 0 < turn(config) == config.max_positions < json.loads(config.hf).get("max_position_embeddings", 0):
        return "; longrope turns longer texts another way, and a trained prompt in front cannot follow (a prefix can)"
    return f"; {option} allows more" if option else ""


def check_length(length: int, config: ModelConfig, what: str, *, option: str = IN_CONFIG) -> None:
    """Raises UserError, beginning with `what`, for more tokens than the model's context."""
    if 0 < config.max_positions < length:
        raise UserError(f"{what} is more than the model's context of {config.max_positions} tokens"
                        f"{hint(config, option)}")  # fmt: skip
