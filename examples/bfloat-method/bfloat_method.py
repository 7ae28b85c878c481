from dataclasses import dataclass

from bench.interfaces import Method, StoredTensor
from bench.layers import weights_of


@dataclass(frozen=True)
class BFloat(Method):
    name = "bfloat"
    description = "weights rounded to bfloat16"
    quantizes = False  # True where it chooses indices into a grid: a chain may hold one such method

    def __call__(self, compressed, context):
        names = [
            n
            for n in weights_of(compressed.network)
            if n not in context.excluded and not compressed.tensors[n].quantized
        ]
        rounded = {name: compressed.tensors[name].dequantize().bfloat16().float() for name in names}
        changed = {
            name: StoredTensor(tuple(value.shape), values=value, mask=compressed.tensors[name].mask)
            for name, value in rounded.items()
        }
        kept = {
            name: context.excluded[name]
            for name in weights_of(compressed.network)
            if name in context.excluded
        }
        return compressed.replace(changed, kept)
