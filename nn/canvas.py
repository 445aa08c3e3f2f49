"""What a unit sees of an image, and the net on images just as large as that."""

from nn.geometry import NO_PAD, extent
from nn.lrn import LRN
from nn.network import IMAGE, Network


def seen_by(network: Network, layer: str, unit: int) -> list[tuple] | None:
    """[(first row, last row), (first column, last column)] that the unit at (unit, unit) sees.

    They can lie beyond the image's border, in the padding. From the layer down, windows of size k
    at stride s turn outputs a .. b into inputs a s - pad .. b s - pad + k - 1; where branches part,
    the largest counts. None if the unit sees all of any image.
    """
    seen = {layer: [(unit, unit)] * 2}
    for name in reversed(network.needed_for(layer)):
        here = network.layers[name]
        if here.kernel is None:
            return None
        reach = extent(here.kernel, here.dilation)
        axes = zip(seen[name], reach, here.stride, here.pad, strict=True)
        inputs = [(a * s - before, b * s - before + k - 1) for (a, b), k, s, (before, _) in axes]
        for source in network.sources[name]:
            pairs = zip(seen.get(source, inputs), inputs, strict=True)
            seen[source] = [(min(a, c), max(b, d)) for (a, b), (c, d) in pairs]
    return seen[IMAGE]


def receptive_field(network: Network, layer: str) -> tuple:
    """(height, width) that one unit of `layer` sees, the largest over all paths down."""
    seen = seen_by(network, layer, 0)
    if seen is None:
        return network.input_shape[:2]
    return tuple(last - first + 1 for first, last in seen)


def on_canvas(network: Network, layer: str) -> tuple[Network, tuple | None]:
    """The net up to `layer`, on images as large as one unit of it sees, and where that unit is.

    The images are cut out of larger ones, so there is no padding at their borders. Nets with
    branches or LRN within channels keep it, so that maps fit; there the unit is one whose windows
    all end before the padding begins. (row, column) is None for the centre of the map. If a unit
    sees all of an image, the image stays as it is.
    """
    part = network.up_to(layer)
    field, (H, W, C) = receptive_field(part, layer), network.input_shape
    takers = [source for sources in part.sources.values() for source in sources]
    within = [lrn for lrn in part.layers.values() if isinstance(lrn, LRN) and not lrn.across]
    if len(takers) == len(set(takers)) and not within:  # no branches
        if field[0] >= H or field[1] >= W:
            return part, None
        for below in part.layers.values():
            below.pad = NO_PAD
        return part.up_to(layer, (*field, C)), None
    seen, next_seen = seen_by(part, layer, 0), seen_by(part, layer, 1)
    if seen is None:
        return part, None
    position, size = [], []
    for (first, last), (next_first, _) in zip(seen, next_seen, strict=True):
        step = next_first - first
        position.append(max(0, -(first // step)))  # the first unit that sees no padding
        size.append(position[-1] * step + last + 1)
    if size[0] >= H or size[1] >= W:
        return part, None
    return part.up_to(layer, (*size, C)), tuple(position)
