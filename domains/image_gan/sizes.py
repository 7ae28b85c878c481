"""How large the networks are. Apart from them, so that listing models loads no torch."""

from __future__ import annotations

from typing import Any

LATENT = 64

SIZES: dict[str, dict[str, Any]] = {  # name -> channels at 4x4, 7x7, 14x14, 28x28               parameters
    "xs": dict(widths=(56, 48, 32, 16)),  # 135,841
    "s": dict(widths=(128, 96, 64, 32)),  # 457,313
    "m": dict(widths=(256, 208, 128, 64)),  # 1,691,137
}
# the same for all sizes: the discriminator does not shrink with the generator
DISCRIMINATOR_WIDTHS = (48, 96, 192)
