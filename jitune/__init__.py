"""jitune: instruction tuning in JAX, from data to report.

    pretrained = jitune.load("path/to/hf/checkpoint", dtype="float32")
    logits = jitune.logits(pretrained.model, pretrained.params, tokens)
    jitune.save("out", pretrained)

Names are resolved on first use, so that importing jitune neither imports jax nor starts a backend.
"""

import importlib
import time

__version__ = "0.1.0"
IMPORTED = time.perf_counter()

_HOMES = {
    "load": "jitune.hub.weights",
    "save": "jitune.hub.weights",
    "logits": "jitune.objectives.loss",
    "Model": "jitune.types",
    "Pretrained": "jitune.types",
    "Transform": "jitune.types",
    "UserError": "jitune.types",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'jitune' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
