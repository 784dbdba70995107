"""What is trained: pure functions over a model and its parameters.

    from jitune.transforms import chain, lora, quantize
    transform = chain(quantize("nf4"), lora(16, 32))

Inside the package, import from the modules (`from jitune.transforms.lora import lora`): here a name is the function.
"""

from jitune.transforms.chain import chain
from jitune.transforms.dora import dora
from jitune.transforms.full import full
from jitune.transforms.lora import lora
from jitune.transforms.partial import freeze, select
from jitune.transforms.prefix import prefix
from jitune.transforms.prompt import prompt
from jitune.transforms.quantize import quantize
from jitune.transforms.tokens import tokens
from jitune.transforms.weights import for_function

__all__ = ["chain", "dora", "for_function", "freeze", "full", "lora", "prefix", "prompt", "quantize", "select",
           "tokens"]  # fmt: skip
