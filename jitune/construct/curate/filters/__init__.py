"""Filters that look at one record at a time and need no model: one file a filter, each with `build(**options)`."""
