"""Metrics of texts and choices: plain functions of strings and numbers, free of jax."""
