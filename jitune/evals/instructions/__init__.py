"""Instructions whose following a program can check, and the languages that they are written in."""
