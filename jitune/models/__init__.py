"""Language models: HF configs, Linen layers, one decoder, the families it serves."""
