"""The HTML pages of evaluations and of their comparisons."""
