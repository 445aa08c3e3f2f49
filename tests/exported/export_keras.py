"""How the files keras_*.onnx were made: python export_keras.py, with Keras 3.15 on TensorFlow 2.21.

Small nets with random weights, on images (N, H, W, C), as Keras has them.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

HERE = Path(__file__).parent
NETS = {
    "grey": [
        layers.Input((20, 22, 1)),
        layers.Conv2D(4, 5, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(6, 3, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="relu"),
        layers.Dense(5, activation="softmax"),
    ],
    "colour": [
        layers.Input((17, 16, 3)),
        layers.Rescaling(1 / 255, offset=-0.5),
        layers.Conv2D(5, 3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.ZeroPadding2D(1),
        layers.Conv2D(4, 3, activation="relu"),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(3),
    ],
    "average": [
        layers.Input((16, 14, 3)),
        layers.Conv2D(5, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(3, 2, padding="same"),
        layers.Conv2D(4, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, activation="softmax"),
    ],
}


def conv(x, channels, kernel=3, stride=1, act=None):
    x = layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(act)(x) if act else x


def resnet(x):
    x = layers.MaxPooling2D(3, 2, padding="same")(conv(x, 4, 3, 2, "relu"))
    for channels, stride in ((4, 1), (6, 2)):
        y = conv(conv(x, channels, 3, stride, "relu"), channels)
        x = x if stride == 1 else conv(x, channels, 1, stride)
        x = layers.ReLU()(layers.Add()([y, x]))
    return layers.Dense(5)(layers.GlobalAveragePooling2D()(x))


def mobile(x):
    x = layers.ReLU(6.0)(conv(x, 4, 3, 2))
    y = conv(x, 8, 1, 1, "relu6")
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    y = conv(layers.ReLU(6.0)(layers.BatchNormalization()(y)), 4, 1)
    x = layers.GlobalMaxPooling2D()(layers.Add()([x, y]))
    return layers.Dense(5, activation="softmax")(x)


def squeeze(x):
    x = layers.Conv2D(6, 3, 2, activation="relu")(x)
    x = layers.Conv2D(3, 1, activation="swish")(x)
    # not "gelu", which becomes Erfc in the file, no operator of ONNX
    one = layers.Conv2D(4, 1, activation=lambda x: keras.activations.gelu(x, True))(x)
    three = layers.Conv2D(4, 3, padding="same", activation="tanh")(x)
    x = layers.BatchNormalization()(layers.Concatenate()([one, three]))
    x = layers.Conv2D(5, 1)(layers.Dropout(0.5)(x))
    return layers.Activation("softmax")(layers.GlobalAveragePooling2D()(x))


def acts(x):
    for channels, act in (
        (4, layers.LeakyReLU(0.2)),
        (5, layers.PReLU(shared_axes=[1, 2])),
        (6, layers.ELU(0.7)),
        (4, layers.Activation("softplus")),
        (5, layers.Activation("hard_swish")),
        (4, layers.Activation("sigmoid")),
    ):
        x = act(layers.Conv2D(channels, 3, padding="same")(x))
    x = layers.ZeroPadding2D(((1, 0), (0, 2)))(x)
    x = layers.Conv2D(4, 3, dilation_rate=2)(x)
    return layers.Dense(3)(layers.Flatten()(x))


BRANCHED = {"resnet": resnet, "mobile": mobile, "squeeze": squeeze, "acts": acts}
for name, make in BRANCHED.items():
    image = layers.Input((16, 14, 3))
    NETS[name] = keras.Model(image, make(image))

rng = np.random.default_rng(0)
for name, table in NETS.items():
    net = keras.Sequential(table) if isinstance(table, list) else table
    for layer in net.layers:
        positive = isinstance(layer, layers.BatchNormalization)  # the variances have to be
        low = 0.5 if positive else -0.3
        layer.set_weights([rng.uniform(low, low + 0.6, w.shape) for w in layer.get_weights()])
    net(np.zeros((1, *net.input_shape[1:]), np.float32))
    net.export(HERE / f"keras_{name}.onnx", format="onnx", verbose=False)
