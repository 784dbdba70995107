"""From `config.transform` to a `Transform`."""

from __future__ import annotations

from jitune.transforms.full import full
from jitune.types import Transform, UserError

TRANSFORMS = {"full": lambda options: full()}


def make_transform(options) -> Transform:
    """Makes the transform that `options.name` names. Raises UserError where it is not known."""
    if options.name not in TRANSFORMS:
        raise UserError(f"config.transform.name={options.name!r} is not known; known are {', '.join(TRANSFORMS)}")
    return TRANSFORMS[options.name](options)
