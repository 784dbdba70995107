"""jitune train --config configs/example.py

A first run, from nothing and without the hub, in about a minute on two CPU cores:

    jitune init --family qwen3 --preset tiny --tokenizer-from configs/example.jsonl --out runs/model
    jitune data show configs/example.jsonl --model runs/model
    jitune train --config configs/example.py
    jitune generate --model runs/example/final --prompt "What is the capital of Peru?"

The model learns its 35 examples by heart; it is there to see every step, not to be useful.
"""

from pathlib import Path

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.path = "runs/model"
    config.data.train = str(Path(__file__).with_name("example.jsonl"))
    config.output_dir = "runs/example"
    config.seq_len = 128
    config.batch_size = 8
    config.steps = 300
    config.optimizer.learning_rate = 5e-3
    config.optimizer.warmup_steps = 20
    config.checkpoint_every = 100
    config.sample_every = 100
    config.sample_tokens = 16
    return config
