"""How long a text a model was made for, and what asks for more.

    config = lift(config, allow=True, option="--allow_longer_context")   # no limit any more
    check_length(4096, config, "config.seq_len=4096", option="config.model.allow_longer_context")

Positions beyond `max_position_embeddings` are computed by rotary embeddings, but no model was trained on them, so they
must be asked for. Learned positions do not exist beyond it.
"""

from __future__ import annotations

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


def hint(config: ModelConfig, option: str = IN_COMMANDS) -> str:
    """What an error about the context ends with: the option that allows more, or that there is none."""
    if config.learned_positions:
        return "; its positions are learned, and there are none beyond"
    return f"; {option} allows more"


def check_length(length: int, config: ModelConfig, what: str, *, option: str = IN_CONFIG) -> None:
    """Raises UserError, beginning with `what`, for more tokens than the model's context."""
    if 0 < config.max_positions < length:
        raise UserError(f"{what} is more than the model's context of {config.max_positions} tokens"
                        f"{hint(config, option)}")  # fmt: skip
