"""Images from a generative adversarial network."""
