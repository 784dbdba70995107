"""Verifiers: whether an answer is right, by what can be checked."""
