"""What a record says of the network that turns a generator's output into pictures. It is never compressed."""

from __future__ import annotations

from typing import Any, Protocol


class Companion(Protocol):
    """A frozen decoder beside the network that is compressed."""

    name: str
    decodes: str  # what it turns into pictures, such as `latents`

    @property
    def fp32_bytes(self) -> int:
        """The bytes of its parameters as float32. No size or ratio holds them."""


def companion_settings(companion: Companion | None) -> dict[str, Any]:
    """Its name and bytes, for the settings of a record; nothing where there is no companion."""
    if companion is None:
        return {}
    return {"companion": companion.name, "companion_bytes": companion.fp32_bytes}


def companion_note(companion: Companion | None) -> list[str]:
    """What no size counts; nothing where there is no companion."""
    if companion is None:
        return []
    return [
        f"{companion.name} decodes the {companion.decodes}; it is not compressed, and no size holds its "
        f"{companion.fp32_bytes:,} bytes"
    ]
