"""The contracts of plug-ins: each is one function that raises `Broken` where a plug-in does not keep it."""
