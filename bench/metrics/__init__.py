"""Metrics: pure functions of features, samples or files; each is imported when it is used."""
