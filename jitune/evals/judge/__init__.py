"""Judges: language models and people that say how good answers are, and classifiers that score texts."""
