"""What a step costs before it is run: memory, FLOPs, bytes, and what moves between devices."""
