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

rng = np.random.default_rng(0)
for name, table in NETS.items():
    net = keras.Sequential(table)
    for layer in net.layers:
        positive = isinstance(layer, layers.BatchNormalization)  # the variances have to be
        low = 0.5 if positive else -0.3
        layer.set_weights([rng.uniform(low, low + 0.6, w.shape) for w in layer.get_weights()])
    net(np.zeros((1, *net.input_shape[1:]), np.float32))
    net.export(HERE / f"keras_{name}.onnx", format="onnx", verbose=False)
