"""Chooses the device that a command runs on."""

from __future__ import annotations

from bench.errors import BadInput


def pick_device(name: str) -> str:
    """`auto` -> `cuda` where a GPU is usable, else `cpu`.

    Raises `BadInput` for a device that is unknown or absent.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        usable = ["auto", "cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise BadInput(f"device {name!r} is not available; allowed: {', '.join(usable)}")
    return name
