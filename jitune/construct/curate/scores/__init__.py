"""Scores by a model: how much an instruction helps, how hard and how good it is, what a text is like."""
