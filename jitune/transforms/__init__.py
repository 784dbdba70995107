"""What is trained: pure functions over a model and its parameters.

    from jitune.transforms import chain, lora, quantize
    transform = chain(quantize("nf4"), lora(16, 32))
"""

import importlib

_HOMES = {"chain": "chain", "dora": "dora", "for_function": "weights", "freeze": "partial", "full": "full",
          "lora": "lora", "prefix": "prefix", "prompt": "prompt", "quantize": "quantize", "select": "partial",
          "tokens": "tokens"}  # fmt: skip
__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'jitune.transforms' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jitune.transforms.{_HOMES[name]}"), name)
