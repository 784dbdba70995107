"""Data from the model itself: rounds of generating, checking, training and measuring."""
