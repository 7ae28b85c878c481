"""Writes numbers as Markdown and pictures."""
