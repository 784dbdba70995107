"""Generators: whatever answers a prompt, behind one protocol."""
