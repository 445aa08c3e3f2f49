"""Make zoo/*.onnx and zoo.npz, tiny nets as people have them, and resnet_cifar.onnx and its .npz:
python export_zoo.py

Each net goes through both exporters of PyTorch, NAME.onnx (torch.export) and NAME_old.onnx
(TorchScript). zoo.npz has PyTorch's scores of some images, and df/dx for a random upstream dy.
"""

import io
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

HERE = Path(__file__).parent
IMAGES = (2, 3, 16, 16)


def conv_bn(C, channels, kernel=3, stride=1, groups=1, act=None):
    pad = kernel // 2
    conv = nn.Conv2d(C, channels, kernel, stride, pad, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), *([act] if act else []))


class Block(nn.Module):
    """Of ResNet-18."""

    def __init__(self, C, channels, stride=1, act=F.relu):
        super().__init__()
        self.first, self.second = conv_bn(C, channels, 3, stride), conv_bn(channels, channels)
        self.down = conv_bn(C, channels, 1, stride) if stride > 1 or C != channels else None
        self.act = act

    def forward(self, x):
        y = self.second(self.act(self.first(x)))
        y += x if self.down is None else self.down(x)
        return self.act(y)


class ResNet(nn.Module):
    def __init__(self, act=F.relu, blocks=2):
        super().__init__()
        self.stem, self.act, layers, C = conv_bn(3, 4, 7, 2), act, [], 4
        for channels, stride in ((4, 1), (6, 2), (8, 2), (8, 1)):
            for n in range(blocks):
                layers.append(Block(C, channels, 1 if n else stride, act))
                C = channels
        self.layers, self.fc = nn.Sequential(*layers), nn.Linear(8, 5)
        self.pool, self.avgpool = nn.MaxPool2d(3, 2, 1), nn.AdaptiveAvgPool2d((1, 1))

    def forward(self, x):
        x = self.layers(self.pool(self.act(self.stem(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Fire(nn.Module):
    def __init__(self, C, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(C, squeeze, 1)
        self.one = nn.Conv2d(squeeze, expand, 1)
        self.three = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self):
        super().__init__()
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), pool, Fire(8, 3, 5), Fire(10, 3, 5)
        )
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(10, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1))
        )

    def forward(self, x):
        return torch.flatten(self.classifier(self.features(x)), 1)


class Inception(nn.Module):
    def __init__(self, C):
        super().__init__()
        relu = nn.ReLU()
        self.one = conv_bn(C, 3, 1, act=relu)
        self.two = nn.Sequential(conv_bn(C, 2, 1, act=relu), conv_bn(2, 4, 3, act=relu))
        self.three = nn.Sequential(conv_bn(C, 2, 1, act=relu), conv_bn(2, 3, 5, act=relu))
        self.four = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv_bn(C, 2, 1, act=relu))

    def forward(self, x):
        return torch.cat([self.one(x), self.two(x), self.three(x), self.four(x)], 1)


class GoogLeNet(nn.Module):
    """With an aux head, which the exporter keeps as a second output."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second = conv_bn(3, 6, 3, 2), Inception(6), Inception(12)
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 5))
        self.dropout, self.fc = nn.Dropout(0.2), nn.Linear(12, 5)

    def forward(self, x):
        x = self.first(F.relu(self.stem(x)))
        aux = self.aux(x)
        x = F.adaptive_avg_pool2d(self.second(x), 1)
        return self.fc(self.dropout(torch.flatten(x, 1))), aux


class Dense(nn.Module):
    """A layer of DenseNet: its normalisation comes after Concat, so it cannot be folded."""

    def __init__(self, C):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(C), nn.Conv2d(C, 6, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(6), nn.Conv2d(6, 3, 3, padding=1, bias=False)

    def forward(self, *maps):
        x = torch.cat(maps, 1)
        return self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 4, 3, 2)
        self.layers = nn.ModuleList([Dense(4), Dense(7), Dense(10)])
        self.transition = nn.Sequential(
            nn.BatchNorm2d(13), nn.ReLU(), nn.Conv2d(13, 6, 1, bias=False), nn.AvgPool2d(2, 2)
        )
        self.norm, self.fc = nn.BatchNorm2d(6), nn.Linear(6, 5)

    def forward(self, x):
        maps = [F.relu(self.stem(x))]
        for layer in self.layers:
            maps.append(layer(*maps))
        x = F.relu(self.norm(self.transition(torch.cat(maps, 1))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class Inverted(nn.Module):
    """A bottleneck of MobileNetV2."""

    def __init__(self, C, channels, stride, act):
        super().__init__()
        self.conv = nn.Sequential(
            conv_bn(C, 2 * C, 1, act=act),
            conv_bn(2 * C, 2 * C, 3, stride, groups=2 * C, act=act),
            conv_bn(2 * C, channels, 1),
        )
        self.skip = stride == 1 and C == channels

    def forward(self, x):
        return x + self.conv(x) if self.skip else self.conv(x)


class MobileNet(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(3, 4, 3, 2, act=act),
            Inverted(4, 6, 1, act),
            Inverted(6, 6, 1, act),
            Inverted(6, 8, 2, act),
            Inverted(8, 8, 1, act),
            conv_bn(8, 12, 1, act=act),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, 5))

    def forward(self, x):
        return self.classifier(self.features(x).mean([2, 3]))


class CSP(nn.Module):
    """As in YOLO: one tensor into two branches, one of them longer, joined again."""

    def __init__(self):
        super().__init__()
        act = nn.SiLU()
        self.stem = conv_bn(3, 6, 3, 2, act=act)
        self.left, self.right = conv_bn(6, 3, 1, act=act), conv_bn(6, 3, 1, act=act)
        self.block = nn.Sequential(conv_bn(3, 3, 1, act=act), conv_bn(3, 3, 3, act=act))
        self.last, self.pool = conv_bn(6, 6, 3, 2, act=act), nn.MaxPool2d(5, 1, 2)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x)
        right = self.right(x)
        x = self.last(torch.cat([self.left(x), right + self.block(right)], 1))
        x = torch.cat([x, self.pool(x)], 1)
        return self.fc(torch.amax(x, (2, 3)))


class Chain(nn.Module):
    """Convolutions with these activations between them, then scores."""

    def __init__(self, *acts, end=None, pool=None):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(3 if n == 0 else 6, 6, 3, padding=n % 2) for n in range(len(acts))
        )
        self.acts = nn.ModuleList(act for act in acts if isinstance(act, nn.Module))
        self.functions, self.end = acts, end
        self.pool, self.fc = pool or nn.AdaptiveAvgPool2d(1), nn.Linear(6, 5)

    def forward(self, x):
        for conv, act in zip(self.convs, self.functions, strict=True):
            x = act(conv(x))
        scores = self.fc(torch.flatten(self.pool(x), 1))
        return self.end(scores) if self.end else scores


class Constants(nn.Module):
    """Weights that reach their operators through other nodes."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 27) / 5)
        self.matrix = nn.Parameter(torch.randn(5, 4, 49) / 15)
        self.scale = nn.Parameter(torch.rand(4) + 0.5)
        self.b = nn.Parameter(torch.randn(5).double())

    def forward(self, x):
        x = F.conv2d(x, self.w.view(4, 3, 3, 3), stride=2)
        x = torch.tanh(x * self.scale.unsqueeze(1).unsqueeze(2) + self.scale.view(1, 4, 1, 1))
        return x.reshape(x.size(0), -1) @ self.matrix.reshape(5, -1).t() + self.b.float()


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.pad1, self.conv1 = nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(3, 4, 3, 2)
        self.conv2, self.fc = nn.Conv2d(4, 6, 3, dilation=2, padding=2), nn.Linear(6, 5)

    def forward(self, x):
        x = F.relu(self.conv1(self.pad1(x)))
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
        return self.fc(
            F.adaptive_max_pool2d(F.hardswish(self.conv2(F.pad(x, [1, 0]))), 1).flatten(1)
        )


class Dilated(nn.Module):
    """The rates of DeepLab's pyramid, side by side and added."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2)
        self.rates = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=r, dilation=r) for r in (1, 2, 3))
        self.wide = nn.Conv2d(8, 5, (2, 3), dilation=(3, 2))

    def forward(self, x):
        x = F.leaky_relu(self.stem(x), 0.2)
        one, two, three = (F.elu(rate(x)) for rate in self.rates)
        return self.wide(torch.cat([one + two, three], 1)).amax((2, 3))


class Norms(nn.Module):
    """Batch normalisation wherever it can stand."""

    def __init__(self):
        super().__init__()
        self.first, self.conv1, self.conv2 = (
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 4, 3),
            nn.Conv2d(3, 4, 3),
        )
        self.sum, self.both, self.after = nn.BatchNorm2d(4), nn.BatchNorm2d(8), nn.BatchNorm2d(4)
        self.flat, self.fc = nn.BatchNorm1d(8), nn.Linear(8, 5)
        self.last = nn.BatchNorm1d(5)

    def forward(self, x):
        x = self.first(x)
        a, b = self.conv1(x), self.conv2(x)
        a = self.after(a) + a  # two take what conv1 gives
        x = torch.cat([F.softplus(self.sum(a + b)), b], 1)
        x = F.max_pool2d(torch.relu(self.both(x)), 2)
        x = self.flat(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return self.last(self.fc(torch.sigmoid(x)))


def relu6_by_clamp(x):
    return x.clamp(0, 6)


def clip_by_minimum(x):
    return torch.maximum(torch.minimum(x, torch.tensor(0.5)), torch.tensor(-0.25))


def swish_by_hand(x):
    return x * torch.sigmoid(x)


def gelu_by_hand(x):
    return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * torch.pow(x, 3))))


def hard_swish_by_hand(x):
    return x * F.relu6(x + 3) / 6


NETS = {
    "resnet": ResNet,
    "squeezenet": SqueezeNet,
    "googlenet": GoogLeNet,
    "densenet": DenseNet,
    "mobilenet": lambda: MobileNet(nn.ReLU6()),
    "csp": CSP,
    "leaky": lambda: Chain(nn.LeakyReLU(0.1), nn.LeakyReLU(0.3)),
    "prelu": lambda: Chain(nn.PReLU(6), nn.PReLU(), end=nn.PReLU(5)),
    "elu": lambda: Chain(nn.ELU(), nn.ELU(0.5)),
    "sigmoid": lambda: Chain(nn.Sigmoid(), nn.Tanh(), end=torch.sigmoid),
    "silu": lambda: Chain(nn.SiLU(), swish_by_hand, nn.Hardswish(), hard_swish_by_hand),
    "gelu": lambda: Chain(nn.GELU(), nn.GELU("tanh"), gelu_by_hand),
    "softplus": lambda: Chain(nn.Softplus(), nn.Softplus(), end=lambda x: x.softmax(1)),
    "clip": lambda: Chain(nn.ReLU6(), relu6_by_clamp, nn.Hardtanh(), clip_by_minimum),
    "mixed": lambda: Chain(
        nn.LeakyReLU(), nn.ELU(), nn.GELU(), nn.Softplus(), nn.Tanh(), nn.SiLU()
    ),
    "maxpool": lambda: Chain(nn.GELU("tanh"), nn.ReLU(), pool=nn.AdaptiveMaxPool2d(1)),
    "constants": Constants,
    "padded": Padded,
    "dilated": Dilated,
    "norms": Norms,
    "swishnet": lambda: MobileNet(nn.Hardswish()),
    "preluresnet": lambda: ResNet(nn.PReLU(), 1),
}


# Other options of the older exporter: more nodes, and operators as they once were.
OLD = {
    "constants": {"do_constant_folding": False},
    "padded": {"do_constant_folding": False},
    "gelu": {"opset_version": 17},
    "silu": {"opset_version": 13},
    "clip": {"opset_version": 10},
    "elu": {"opset_version": 9},
    "softplus": {"opset_version": 12},
    "norms": {"opset_version": 13},
}
NEW = {"gelu": {"opset_version": 18}}


def randomize(net):
    """Scores that no activation flattens, and statistics of batches that are no 0 and 1."""
    for array in net.parameters():
        if array.ndim > 1:
            nn.init.kaiming_normal_(array.data, nonlinearity="linear")
            array.data *= 1.5
    for name, array in (*net.named_parameters(), *net.named_buffers()):
        if array.dtype == torch.float32 and array.ndim == 1 and "norm" not in name:
            nn.init.uniform_(array, -0.3, 0.5)
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for array in (module.weight, module.running_var):
                nn.init.uniform_(array, 0.5, 1.5)
            for array in (module.bias, module.running_mean):
                nn.init.uniform_(array, -0.5, 0.5)


def tidy(model):
    """Without the paths and stacks that the exporter notes beside each node."""
    for node in model.graph.node:
        kept = [p for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        node.ClearField("doc_string")
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    for where in (model.metadata_props, model.graph.metadata_props, model.graph.value_info):
        del where[:]
    del model.functions[:]
    return model


def export(net, path, old, shape=IMAGES, **options):
    x, stream = torch.zeros(shape), io.BytesIO()
    if old:
        torch.onnx.export(
            net,
            (x,),
            stream,
            input_names=["x"],
            dynamic_axes={"x": {0: "N"}},
            dynamo=False,
            **options,
        )
        model = onnx.load_from_string(stream.getvalue())
    else:
        batch = torch.export.Dim("N")
        program = torch.onnx.export(
            net,
            (x,),
            input_names=["x"],
            dynamic_shapes=[{0: batch}],
            dynamo=True,
            verbose=False,
            **options,
        )
        model = program.model_proto
    onnx.save(tidy(model), path)


class CifarResNet(nn.Module):
    """For images of 32 x 32 pixels: no pool below the blocks."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 6, act=nn.ReLU())
        self.layers = nn.Sequential(Block(6, 6), Block(6, 8, 2), Block(8, 12, 2))
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.layers(self.stem(x)), 1), 1))


def cifar():
    """resnet_cifar.onnx, to go on training, and its parameters' gradients in .npz.

    Its normalisation is folded before, so that the parameters are the same as in the file.
    """
    torch.manual_seed(0)
    net, x = CifarResNet(), torch.randn(64, 3, 32, 32)
    for _ in range(50):
        net(x)  # the statistics of its batch normalisation
    net.eval()
    for pair in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        if len(pair) > 1 and isinstance(pair[1], nn.BatchNorm2d):
            pair[0], pair[1] = fuse_conv_bn_eval(pair[0], pair[1]), nn.Identity()
    net.requires_grad_(True)
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32), np.float32)
    pixels = torch.tensor(x, requires_grad=True)
    scores = net(pixels)
    dy = np.random.default_rng(1).standard_normal(scores.shape, np.float32)
    scores.backward(torch.tensor(dy))
    found = {"scores": scores.detach().numpy(), "dx": pixels.grad.numpy()}
    found |= {name: p.grad.numpy() for name, p in net.named_parameters()}
    np.savez_compressed(HERE / "resnet_cifar.npz", **found)
    for parameter in net.parameters():
        parameter.grad = None
    export(net, HERE / "resnet_cifar.onnx", old=True, shape=(2, 3, 32, 32))


def main(names):
    warnings.simplefilter("ignore")
    if names == ["cifar"] or not names:
        cifar()
    expected = {}
    x = np.random.default_rng(0).standard_normal(IMAGES, np.float32)
    for name, make in NETS.items():
        torch.manual_seed(len(name))
        net = make().eval()
        randomize(net)
        end = getattr(net, "end", None)
        if end is not None and not isinstance(end, nn.Module):
            net.end = None  # a last softmax or sigmoid is left out of the scores
        pixels = torch.tensor(x, requires_grad=True)
        scores = net(pixels)
        scores = scores[0] if isinstance(scores, tuple) else scores
        dy = np.random.default_rng(1).standard_normal(scores.shape, np.float32)
        scores.backward(torch.tensor(dy))
        expected[f"{name}.scores"] = scores.detach().numpy()
        expected[f"{name}.dx"] = pixels.grad.numpy()
        net.end = end
        if names and name not in names:
            continue
        for old in (True, False):
            path = HERE / "zoo" / f"{name}{'_old' if old else ''}.onnx"
            export(net, path, old, **(OLD if old else NEW).get(name, {}))
    np.savez_compressed(HERE / "zoo.npz", **expected)


if __name__ == "__main__":
    main(sys.argv[1:])
