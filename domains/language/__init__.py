"""What the domains of sequences share: one causal transformer, its training, sampling and likelihood."""
