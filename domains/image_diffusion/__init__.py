"""Images from a diffusion model."""
