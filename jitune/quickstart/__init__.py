"""The quickstart: a tiny model, instructions that the project writes itself, tuning, and what it changed."""
