"""Curation: records in, those worth training on out, and a reason for each of the others."""
