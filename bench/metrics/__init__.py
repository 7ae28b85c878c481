"""Metrics: pure functions of features, samples or files. Each module is imported at first use."""
