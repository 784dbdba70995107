"""How far people agree on labels, what they say together, and how far each can be relied on."""
