"""Where branches meet: images that are added up, or put side by side."""

from nn.join import Add, Concat


def add_up(net, node, *places):
    """The sum of tensors of one shape."""
    if len({place.in_file() for place in places}) > 1:
        shapes = ", ".join(str(place.in_file()) for place in places)
        raise ValueError(f"adds {shapes}: only tensors of one shape can be added")
    return net.add(node, Add(), *alike(net, node, places))


def concat(net, node, *places):
    first = places[0]
    if len(places) < len(node.inputs):
        raise ValueError("puts a constant beside the images: only tensors of images can be joined")
    axis = node.get("axis", kind=int)
    if axis is None or axis % first.rank != first.axis:
        raise ValueError(f"joins along the axis {axis}: only channels can be put side by side")
    return net.add(node, Concat(), *alike(net, node, places))


def alike(net, node, places):
    """The places in one order of axes; flat numbers of one kind. ValueError if that cannot be."""
    if len({place.rank for place in places}) > 1:
        raise ValueError("joins images with flat numbers")
    if all(place.single for place in places):
        if places[0].rank == 2 and len({len(place.shape) for place in places}) > 1:
            return [net.vector(node, place) for place in places]
        return places
    if places[0].flat and node.op == "Concat":
        raise ValueError("joins flattened images of more than one pixel")
    if len({place.channels_last for place in places}) > 1:
        raise ValueError("joins images of two orders of axes")
    return places
