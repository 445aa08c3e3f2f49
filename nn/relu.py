"""The rectified linear unit: y = max(x, 0); gradient passes where x > 0, and not at 0."""

from nn.backend import array_module
from nn.layer import Layer


class ReLU(Layer):
    """y = max(x, 0), element by element; x and y of any shape."""

    def forward(self, x, train=False):
        xp = array_module(x)
        self.positive = xp.greater(x, 0, out=self.buffers.get("positive", x.shape, bool, xp))
        return xp.maximum(x, 0, out=self.buffers.get("y", x.shape, x.dtype, xp))

    def backward(self, dy, param_grads=True, input_grad=True):
        xp = array_module(dy)
        dx = self.buffers.get("dx", dy.shape, dy.dtype, xp)
        return xp.multiply(dy, self.positive, out=dx)
