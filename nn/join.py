"""Where branches of a net meet: the sum of maps (ResNet), maps side by side (SqueezeNet)."""

from nn.backend import Array, array_module
from nn.layer import Layer


class Add(Layer):
    """y = x1 + x2 + ..., all of one shape. Each of them gets the same derivative, dy."""

    joins = True

    def output_shape(self, input_shape: list[tuple]) -> tuple:
        if len(set(input_shape)) != 1:
            raise ValueError(f"only maps of one shape can be added, got {input_shape}")
        return input_shape[0]

    def forward(self, x: list[Array], train: bool = False) -> Array:
        self.count = len(x)
        return sum(x[1:], x[0])

    def backward(self, dy: Array) -> list[Array]:
        return [dy] * self.count


class Concat(Layer):
    """The channels of x1, then those of x2, ...: (N, H, W, C1), (N, H, W, C2) -> C1 + C2 of them.

    Each gets the part of dy that is its own.
    """

    joins = True

    def output_shape(self, input_shape: list[tuple]) -> tuple:
        if len({shape[:-1] for shape in input_shape}) != 1:
            raise ValueError(f"maps side by side must be of one size, got {input_shape}")
        return *input_shape[0][:-1], sum(shape[-1] for shape in input_shape)

    def forward(self, x: list[Array], train: bool = False) -> Array:
        self.ends = [sum(part.shape[-1] for part in x[:k]) for k in range(1, len(x))]
        return array_module(x[0]).concatenate(x, axis=-1)

    def backward(self, dy: Array) -> list[Array]:
        return array_module(dy).split(dy, self.ends, axis=-1)
