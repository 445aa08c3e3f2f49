"""Make the .onnx files beside this one, with PyTorch's two exporters: python export.py"""

import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

HERE = Path(__file__).parent


class Nets:
    """Small nets as people write them."""

    class TwoLayers(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, stride=2)
            self.fc = nn.Linear(4 * 4 * 3, 5)

        def forward(self, x):
            return self.fc(torch.flatten(torch.relu(self.conv((x - 0.4) / 0.2)), 1))

    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 4, 5), nn.Conv2d(4, 8, 5)
            self.fc1, self.fc2 = nn.Linear(8 * 16, 30), nn.Linear(30, 10)

        def forward(self, x):
            x = nn.functional.max_pool2d(self.conv1(x), 2)
            x = nn.functional.max_pool2d(self.conv2(x), 2)
            x = x.view(x.size(0), -1)
            return self.fc2(nn.functional.relu(self.fc1(x)))

    class AlexNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, 6, 7, stride=2),
                nn.ReLU(),
                nn.LocalResponseNorm(5, alpha=0.5),
                nn.MaxPool2d(3, 2, ceil_mode=True),
                nn.Conv2d(6, 8, 3, padding=1, groups=2),
                nn.ReLU(),
                nn.LocalResponseNorm(3, alpha=0.5, k=2.0),
                nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
            )
            self.classifier = nn.Sequential(
                nn.Dropout(0.3), nn.Linear(8 * 5 * 5, 20), nn.ReLU(), nn.Linear(20, 7)
            )

        def forward(self, x):
            return self.classifier(torch.flatten(self.features(x), 1))

    class VGG(nn.Module):
        def __init__(self):
            super().__init__()
            block1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()
            block2 = nn.Conv2d(6, 9, 3, padding=1), nn.BatchNorm2d(9), nn.ReLU()
            self.features = nn.Sequential(
                nn.BatchNorm2d(3), *block1, nn.MaxPool2d(2), *block2, nn.MaxPool2d(2)
            )
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.bn, self.fc = nn.BatchNorm1d(9), nn.Linear(9, 6)

        def forward(self, x):
            x = torch.flatten(self.avgpool(self.features(x)), 1)
            return torch.softmax(self.fc(self.bn(x)), 1)


def export(name, net, shape, **options):
    """Save the net, without the paths and stacks that the exporter notes beside each node."""
    path = HERE / f"{name}.onnx"
    net.eval()
    torch.onnx.export(net, (torch.zeros(shape),), path, input_names=["x"], **options)
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [p for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    onnx.save(model, path)


def main():
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    old, new = {"dynamo": False}, {"dynamo": True, "external_data": False}
    batch = {0: "N"}
    free = {0: "N", 2: "H", 3: "W"}
    vgg = Nets.VGG()
    for norm in vgg.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for array in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(array, 0.5, 1.5)
    export("two_layers", Nets.TwoLayers(), (1, 3, 9, 8), **new, dynamic_shapes=[batch])
    export("lenet", Nets.LeNet(), (1, 1, 28, 28), **old, dynamic_axes={"x": batch})
    export("alexnet", Nets.AlexNet(), (2, 3, 41, 41), **new, dynamic_shapes=[batch])
    export("alexnet_old", Nets.AlexNet(), (2, 3, 41, 41), **old)
    kept = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    export("vgg", vgg, (2, 3, 16, 16), **old, **kept, dynamic_axes={"x": free})


if __name__ == "__main__":
    main()
