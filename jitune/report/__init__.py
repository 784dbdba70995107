"""Reports: HTML pages that hold everything they show, and what they are made of."""
