"""jitune data curate --config configs/curate.py --config.input=FILES --config.output_dir=OUT

The filters and duplicates that most instruction data needs: no model, no network.
"""

from jitune.construct.curate.config import defaults


def get_config():
    config = defaults()
    config.stages = "mix"
    return config
