"""Structured weights: what stands in the place of a weight, and how it behaves under what models do with one."""
