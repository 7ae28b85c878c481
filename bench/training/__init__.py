"""Trains models by their recipes. Training can be resumed."""
