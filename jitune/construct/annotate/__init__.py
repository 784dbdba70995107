"""A page to annotate on: a small server, a log that loses nothing, and what comes out of it."""
