"""Molecules: drug-like ones as SMILES strings (MOSES), written by the text domain's transformer."""
