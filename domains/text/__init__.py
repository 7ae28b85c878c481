"""Text: verses of the King James Bible, written by a small causal transformer."""
