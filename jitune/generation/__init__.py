"""Generation: prompts in, tokens, text and log-probabilities out."""
