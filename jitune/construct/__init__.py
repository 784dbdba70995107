"""Instruction data is made here: read from what experts annotated, measured, curated."""
