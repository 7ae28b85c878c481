"""The commands, grouped by purpose.

Each command parses options, makes one call and prints text or JSON. It imports torch late.
"""
