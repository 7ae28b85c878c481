"""Helpers of every package: files, progress bars, memory, the cache, and text in Markdown."""
