"""Readers: what experts and annotation tools export, as records."""
