"""Compression methods, one family a file; `bench/methods/notation.py` reads and writes their names."""
