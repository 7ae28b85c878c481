"""Turns records into numbers: scores, intervals, tests. It writes no text."""
