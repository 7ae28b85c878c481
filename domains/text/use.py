"""What generated verses are good for: more training text."""

from __future__ import annotations

from domains.language.byte_model import StringsOfUse
from domains.text.data import verses


class ByteModel(StringsOfUse):
    """Utility: bits saved a byte of real test verses."""

    description = "an n-gram model of bytes trained on the samples: bits saved a byte of real verses"

    def real(self) -> list[str]:
        return verses("test")
