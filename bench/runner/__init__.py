"""Runs measurements: one cell, a session with one model, a sweep of cells."""
