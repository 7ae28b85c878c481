"""Training models by their recipes; resumable."""
