"""Grey pictures of garments from the transformer of the text domain, over the codes of a frozen tokenizer."""
