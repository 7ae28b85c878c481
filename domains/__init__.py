"""The domains that ship with the benchmark; each is one folder, found through the entry points in
pyproject.toml.
"""
