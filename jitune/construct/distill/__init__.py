"""Data from a larger model: prompts, answers and instructions that a teacher writes."""
