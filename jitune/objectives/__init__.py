"""Training objectives: what a batch's loss is."""
