"""What the two image domains share: data, evaluators, damages, files."""
