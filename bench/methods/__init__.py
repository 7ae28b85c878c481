"""Compression methods, one family a file. `bench/methods/notation.py` parses and writes their names."""
