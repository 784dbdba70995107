"""Evaluation: what a model is worth in utility, faithfulness and safety, with error bars."""
