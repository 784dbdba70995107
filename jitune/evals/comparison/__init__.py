"""Two evaluations of the same questions side by side."""
