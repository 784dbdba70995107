"""What is trained: pure functions over a model and its parameters."""
