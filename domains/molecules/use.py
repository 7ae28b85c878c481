"""What generated molecules are good for: more training strings."""

from __future__ import annotations

from domains.language.byte_model import StringsOfUse
from domains.molecules.data import molecules


class ByteModel(StringsOfUse):
    """Utility: bits saved a byte of real test molecules."""

    description = "an n-gram model of bytes trained on the samples: bits saved a byte of real molecules"

    def real(self) -> list[str]:
        return molecules("test")
