"""Every fast form against the textbook, over drawn layers and shapes; then whole nets."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fast import engine
from fast.cpu import CPU, bands, conv_pool, for_one_image, update, windows
from fast.cpu import conv as window_conv
from fast.cpu import toom_cook as toom_cook_conv
from fast.cpu.average_pool import SeparableAveragePool
from fast.cpu.bands import ConvBands, LinearBands
from fast.cpu.block_conv import BlockConv
from fast.cpu.conv import WindowConv
from fast.cpu.conv_pool import ConvPool
from fast.cpu.depthwise import DepthwiseConv
from fast.cpu.linear import KeptLinear
from fast.cpu.pointwise import CHUNK, KeptLRN, KeptReLU, KeptSiLU
from fast.cpu.pool import SeparableMaxPool
from fast.cpu.toom_cook import ToomCookConv
from fast.engine import Engine, Plain
from nn.activations import SiLU
from nn.average_pool import AveragePool
from nn.backend import to_host
from nn.conv import Conv
from nn.linear import Linear
from nn.lrn import LRN
from nn.nets import NETS, table
from nn.network import Network
from nn.pool import MaxPool
from nn.relu import ReLU
from nn.sgd import SGD
from tests.cases import axis, branched_net, pool_case, seeds, small_net
from tests.gradcheck import FLOAT32, relative_error

counts = st.integers(2, 3)
EXACT = {np.float64: 1e-11, np.float32: FLOAT32}


def compared(layers, shape, rng, dtype, forms=None, batches=(3, 1, 4), exact=None):
    """Run layers by an engine and by the textbook in float64, images of several batches, weights
    that change, with and without training; the forms that were used."""
    N, *image = shape
    book = Network(layers, tuple(image), rng).to(np, np.float64)
    for w in book.params().values():
        w[...] = rng.standard_normal(w.shape)
    fast = book.up_to(book.last).to(np, dtype)
    device = CPU if forms is None else CPU._replace(forms=[*forms, *CPU.forms])
    run, tolerance = Engine(fast, device), exact or EXACT[dtype]
    sgds = SGD(book), SGD(fast)
    for count in (N, *batches, N):
        for train in (True, False):
            x = rng.standard_normal((count, *image))
            kept = given = x.astype(dtype)
            kept = kept.copy()
            y, expected = run.bottom_up(given, train=train), book.bottom_up(x)
            assert y.dtype == dtype
            assert relative_error(y, expected, 1e-3) < tolerance
            dy = rng.standard_normal(expected.shape)
            grads, expected_grads = {}, {}
            dx = book.top_down(dy, expected_grads)
            assert relative_error(run.top_down(dy.astype(dtype), grads), dx, 1e-3) < tolerance
            assert grads.keys() == expected_grads.keys()
            for name, grad in expected_grads.items():
                assert relative_error(grads[name], grad, 1.0) < tolerance, name
            np.testing.assert_array_equal(given, kept)
        run.learn((dy / 1e3).astype(dtype), sgds[1], 0.1)
        book.learn(dy / 1e3, sgds[0], 0.1)
        for name, w in book.params().items():
            assert relative_error(fast.params()[name], w, 1.0) < tolerance, name
            fast.params()[name][...] = w  # errors must not add up
    return [type(step.form) for step in run.steps]


@st.composite
def conv_case(draw):
    (H, KH, SH, ph), (W, KW, SW, pw) = draw(axis()), draw(axis())
    groups = draw(st.integers(1, 3))
    C, F = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    layer = Conv(F, (KH, KW), (SH, SW), (ph, pw), groups)
    return layer, (draw(st.integers(1, 3)), H, W, C), np.random.default_rng(draw(seeds))


@given(case=conv_case(), cached=st.sampled_from([1, 2**19]))
def test_window_conv(case, cached):
    """In pieces of one image, or all of them at once."""
    layer, shape, rng = case
    with mock.patch.object(window_conv, "CACHED", cached):
        used = compared([("conv", layer)], shape, rng, np.float64, forms=[WindowConv])
    assert used == [WindowConv]


@st.composite
def depthwise_case(draw):
    DH, DW = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    (H, KH, SH, ph), (W, KW, SW, pw) = draw(axis(dilation=DH)), draw(axis(dilation=DW))
    C = draw(st.integers(2, 4))
    layer = Conv(C, (KH, KW), (SH, SW), (ph, pw), C, dilation=(DH, DW))
    return layer, (draw(st.integers(1, 3)), H, W, C), np.random.default_rng(draw(seeds))


@given(case=depthwise_case())
def test_depthwise_conv(case):
    layer, shape, rng = case
    assert compared([("conv", layer)], shape, rng, np.float64) == [DepthwiseConv]


@given(
    sizes=st.tuples(*(st.integers(1, 20) for _ in "HW")),
    kernel=st.tuples(*(st.integers(2, 7) for _ in "HW")),
    stride=st.tuples(*(st.integers(1, 4) for _ in "HW")),
    pad=st.tuples(*(st.integers(0, 3) for _ in "HW")),
    C=st.integers(2, 4),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=seeds,
)
def test_block_conv(sizes, kernel, stride, pad, C, dtype, seed):
    """Also where rows and columns below the last window belong to no block."""
    axes = list(zip(sizes, kernel, stride, pad, strict=True))
    assume(stride != (1, 1) and all(k > s and n + 2 * p >= k for n, k, s, p in axes))
    rng = np.random.default_rng(seed)
    conv, shape = Conv(17, kernel, stride, pad), (3, *sizes, C)
    exact = 1e-4 if dtype == np.float32 else None
    assert compared([("conv", conv)], shape, rng, dtype, exact=exact) == [BlockConv]


@given(
    case=conv_case(), units=st.integers(3, 9), processes=st.integers(2, 3), fewest=st.integers(1, 3)
)
@settings(max_examples=25)
def test_one_image_by_several_processes(case, units, processes, fewest):
    """Bands of rows where there are enough, else filters; and other parameters in between."""
    conv, (_, *image), rng = case
    conv.groups = 1
    net = Network([("conv", conv), ("fc", Linear(units))], tuple(image), rng).to(np, np.float64)
    with mock.patch.multiple(bands, LARGE=1, FEWEST=fewest):
        run = Engine(net.up_to("fc"), for_one_image(CPU, processes))
        try:
            for scale in (1, 2, 3):
                x = rng.standard_normal((1, *image))
                dy, grads, expected = rng.standard_normal((1, units)), {}, {}
                np.testing.assert_allclose(run.bottom_up(x), net.bottom_up(x), rtol=1e-9, atol=1e-9)
                assert [type(step.form) for step in run.steps] == [ConvBands, LinearBands]
                dx = net.top_down(dy, expected)
                np.testing.assert_allclose(run.top_down(dy, grads), dx, rtol=1e-9, atol=1e-9)
                for name, grad in expected.items():
                    np.testing.assert_allclose(grads[name], grad, rtol=1e-9, atol=1e-9)
                params = {name: scale * w for name, w in net.params().items()}
                net.set_params(params)
                run.network.set_params({name: w.copy() for name, w in params.items()})
        finally:
            run.device.crew.stop()


def test_dilated_convolutions_are_left_to_the_textbook():
    """Also where a form would fit the same convolution without gaps."""
    rng = np.random.default_rng(0)
    pooled = [("conv", Conv(8, 3, pad=2, dilation=2)), ("pool", MaxPool(2, 2))]
    assert compared(pooled, (2, 12, 14, 8), rng, np.float64) == [Plain, SeparableMaxPool]
    deep = Conv(32, 3, pad=2, dilation=2)  # by Toom and Cook, in float32
    assert compared([("conv", deep)], (2, 12, 14, 32), rng, np.float32) == [Plain]
    plain = Conv(32, 3, pad=1)
    assert compared([("conv", plain)], (2, 12, 14, 32), rng, np.float32) == [ToomCookConv]


@st.composite
def pooled_case(draw):
    """(Conv, MaxPool that tiles its map, shape of x)."""
    PH, PW, KH, KW, SH, SW = (draw(st.integers(1, n)) for n in (3, 3, 4, 4, 2, 2))
    pads = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in "HW"]
    sizes = []
    for P, K, S, pad in zip((PH, PW), (KH, KW), (SH, SW), pads, strict=True):
        size = (P * draw(st.integers(1, 3)) - 1) * S + K - sum(pad)
        while size < 1:
            size += P * S
        sizes.append(size + draw(st.integers(0, S - 1)))
    conv = Conv(draw(st.integers(1, 3)), (KH, KW), (SH, SW), tuple(pads))
    shape = draw(st.integers(1, 3)), *sizes, draw(st.integers(1, 2))
    return conv, MaxPool((PH, PW), (PH, PW)), shape


@given(case=pooled_case(), seed=seeds, cached=st.sampled_from([1, 2**19]))
def test_conv_pool(case, seed, cached):
    conv, pool, shape = case
    rng = np.random.default_rng(seed)
    with mock.patch.multiple(conv_pool, CACHED=cached, MOST_ZEROS=1000):
        layers = [("conv", conv), ("pool", pool)]
        assert compared(layers, shape, rng, np.float64) == [ConvPool]


@given(
    OH=st.integers(1, 9),
    OW=st.integers(1, 6),
    KH=st.integers(2, 6),
    KW=st.integers(1, 4),
    groups=st.integers(1, 2),
    pad=st.integers(0, 2),
    seed=seeds,
)
@settings(max_examples=60)
def test_toom_cook_in_float32(OH, OW, KH, KW, groups, pad, seed):
    """Where it would not pay as well: the sums are the same."""
    rng = np.random.default_rng(seed)
    H, W = (max(1, o + k - 1 - 2 * pad) for o, k in ((OH, KH), (OW, KW)))
    conv = Conv(4 * groups, (KH, KW), pad=pad, groups=groups)
    with mock.patch.object(toom_cook_conv, "pays", return_value=True):
        used = compared([("conv", conv)], (3, H, W, 3 * groups), rng, np.float32, exact=1e-4)
    assert used == [ToomCookConv]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv(50, 5), (4, 12, 12, 20)),  # LeNet's conv2
        (Conv(40, 3, pad=((1, 2), (0, 1)), groups=2), (3, 13, 9, 30)),
        (Conv(16, (6, 4), pad=2), (5, 7, 8, 8)),
    ],
)
def test_toom_cook_is_chosen_where_it_pays(layer, shape):
    rng = np.random.default_rng(0)
    used = compared([("conv", layer)], shape, rng, np.float32, batches=(9, 2))
    assert used == [ToomCookConv]


@given(case=pool_case(), ties=st.booleans(), piece=st.sampled_from((1, windows.PIECE)))
def test_max_pool(case, ties, piece):
    layer, shape, rng = case
    with mock.patch.object(windows, "PIECE", piece):  # 1: an image at a time
        assert compared([("pool", layer)], shape, rng, np.float64) == [SeparableMaxPool]
    if not ties:
        return
    x = rng.integers(0, 3, shape).astype(float)  # like MNIST's background
    book = Network([("pool", layer)], shape[1:])
    run = Engine(book.up_to("pool"), CPU)
    with mock.patch.object(windows, "PIECE", piece):
        np.testing.assert_array_equal(run.bottom_up(x), book.bottom_up(x))
    np.testing.assert_array_equal(run.steps[0].form.argmax, layer.argmax)


@given(case=pool_case(AveragePool), count_pad=st.booleans())
def test_average_pool(case, count_pad):
    layer, shape, rng = case
    layer.count_pad = count_pad
    assert compared([("pool", layer)], shape, rng, np.float64) == [SeparableAveragePool]


@given(
    size=st.sampled_from([1, 3, 5]),
    across=st.booleans(),
    shape=st.tuples(*(st.integers(1, n) for n in (3, 4, 5, 6))),
    seed=seeds,
)
def test_lrn_and_relu(size, across, shape, seed):
    rng = np.random.default_rng(seed)
    layers = [("relu", ReLU()), ("norm", LRN(size, 0.5, 0.75, 1.0, across))]
    assert compared(layers, shape, rng, np.float64) == [KeptReLU, KeptLRN]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_silu(dtype):
    """In one part and in several; numbers whose exponential is infinite are no trouble."""
    rng = np.random.default_rng(0)
    for shape in ((3, 5, 4, 2), (2, CHUNK // 20, 9, 3)):
        assert compared([("silu", SiLU())], shape, rng, dtype) == [KeptSiLU]
    far = np.array([[-1e4, -100.0, 0.0, 100.0, 1e4]], dtype)
    run = Engine(Network([("silu", SiLU())], (5,), rng), CPU)
    np.testing.assert_allclose(run.bottom_up(far), [[0, 0, 0, 100, 1e4]], atol=1e-30)
    np.testing.assert_allclose(run.top_down(np.ones_like(far)), [[0, 0, 0.5, 1, 1]], atol=1e-30)


@given(shape=st.tuples(*(st.integers(1, n) for n in (5, 4, 5, 6))), F=st.integers(1, 9), seed=seeds)
def test_linear_and_an_update_by_rows(shape, F, seed):
    rng = np.random.default_rng(seed)
    layers = [("fc", Linear(F)), ("top", Linear(2))]
    with mock.patch.multiple(update, CHUNK=3, PRODUCT=5):
        assert compared(layers, shape, rng, np.float64) == [KeptLinear, KeptLinear]


def test_ties_in_a_joined_pool_go_to_the_first_pixel():
    rng = np.random.default_rng(0)
    net = Network([("conv", Conv(2, 5)), ("pool", MaxPool(2, 2))], (8, 8, 1), rng)
    net.to(np, np.float64)
    run, x = Engine(net.up_to("pool"), CPU), np.ones((1, 8, 8, 1))
    np.testing.assert_allclose(run.bottom_up(x), net.bottom_up(x))
    assert type(run.steps[0].form) is ConvPool
    dy = np.ones((1, 2, 2, 2))
    np.testing.assert_allclose(run.top_down(dy), net.top_down(dy))


def test_what_fits_is_joined_and_only_then():
    rng = np.random.default_rng(0)
    layers = [("conv1", Conv(3, 5)), ("pool1", MaxPool(2, 2)), ("conv2", Conv(4, 3))]
    net = Network(layers, (12, 14, 1), rng)
    run = Engine(net, CPU)
    x = rng.standard_normal((2, 12, 14, 1)).astype(np.float32)

    def used(to=None):
        run.bottom_up(x, to)
        return [type(step.form) for step in run.steps]

    assert used() == used("pool1") + [WindowConv] == [ConvPool, WindowConv]
    assert used("conv1") == [WindowConv]
    branch = Network([*layers[:2], ("skip", MaxPool(2, 2), "conv1")], (12, 14, 1), rng)
    run = Engine(branch, CPU)
    assert used("skip") == [ConvPool]  # pool1 is not needed, so conv1 has one taker

    class Odd(MaxPool):  # whose forward could be another
        pass

    run = Engine(Network([layers[0], ("pool1", Odd(2, 2))], (12, 14, 1), rng), CPU)
    assert used() == [WindowConv, Plain]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nets_with_branches(dtype):
    net = branched_net()
    layers = [(name, layer, *net.sources[name]) for name, layer in net.layers.items()]
    used = compared(layers, (3, *net.input_shape), np.random.default_rng(1), dtype, exact=1e-3)
    assert Plain in used  # Add and Concat
    if dtype == np.float64:
        compared(layers, (3, *net.input_shape), np.random.default_rng(1), dtype)


def error_of_a_draw(book, run, dtype, rng):
    """The largest relative error of df/dx and of the gradients of two images; that of the scores
    is never large."""
    x = rng.standard_normal((2, *book.input_shape)).astype(dtype)
    y, expected = run.bottom_up(x), book.bottom_up(x.astype(np.float64))
    assert relative_error(y, expected) < EXACT[dtype]
    grads, expected_grads = {}, {}
    dy = rng.standard_normal(y.shape)
    pairs = [(run.top_down(dy.astype(dtype), grads), book.top_down(dy, expected_grads))]
    assert grads.keys() == expected_grads.keys()
    return max(relative_error(*p) for p in pairs + [(grads[k], expected_grads[k]) for k in grads])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NETS)
def test_the_nets_of_the_tables(name, dtype):
    """Whole nets against the textbook in float64. Where two numbers of a window differ by less than
    float32's rounding, the maximum may be the other one: that happens in one draw of ten or so of
    the larger nets, an error in all of them."""
    side = {"alexnet": 127, "zeilerfergus": 96, "alexnet-torchvision": 96}.get(name)
    shape = (side, side, 3) if side else NETS[name].input_shape
    rng = np.random.default_rng(0)
    net = Network(table(name, classes=7), shape, rng)
    for w in net.params().values():  # spread out, so that nothing drowns in rounding
        w[...] = rng.standard_normal(w.shape) / np.sqrt(max(1, w[..., 0].size))
    book, run = net.up_to(net.last).to(np, np.float64), engine(net.up_to(net.last).to(np, dtype))
    draws = 3 if dtype == np.float32 else 1
    assert any(error_of_a_draw(book, run, dtype, rng) < EXACT[dtype] for _ in range(draws))


def test_a_larger_batch_gives_up_the_plans_of_smaller_ones():
    net = small_net()
    run = Engine(net, CPU)
    made = []
    for count in (2, 5, 3, 5, 3):
        run.bottom_up(np.ones((count, 12, 14, 2), np.float32))
        made.append(list(run.plans.values()))
    assert len(made[1]) == 1  # the plan for 2 images is gone
    assert len(made[3]) == len(made[4]) == 2  # those for 5 and 3 stay
    assert all(a is b for a, b in zip(made[3], made[4], strict=True))


def test_an_engine_follows_the_dtype_and_refuses_what_does_not_belong():
    net = small_net()
    run, x = Engine(net, CPU), np.ones((2, 12, 14, 2), np.float32)
    with pytest.raises(ValueError, match="there was none"):
        run.top_down(np.zeros((2, 5), np.float32))
    assert run.bottom_up(x).dtype == np.float32
    with pytest.raises(ValueError, match=r"got dy \(1, 5\), but bottom_up gave \(2, 5\)"):
        run.top_down(np.zeros((1, 5), np.float32))
    net.to(np, np.float64)
    assert run.bottom_up(x).dtype == np.float64
    np.testing.assert_allclose(run.bottom_up(x), net.bottom_up(x.astype(np.float64)), rtol=1e-12)
    with pytest.raises(ValueError, match="floating-point numbers, got uint8"):
        run.bottom_up(np.zeros((2, 12, 14, 2), np.uint8))


def test_memory_that_ran_out_leaves_nothing_half_made():
    net, rng = small_net(), np.random.default_rng(0)
    run = Engine(net, CPU)
    few, more = (rng.standard_normal((n, 12, 14, 2)).astype(np.float32) for n in (2, 5))
    expected = net.bottom_up(more)
    for failing in ("y", "dx", "argmax", "columns"):
        run.bottom_up(few)
        with mock.patch("fast.room.Room.get", failing_at(failing)), pytest.raises(MemoryError):
            run.bottom_up(more)
        np.testing.assert_allclose(run.bottom_up(more), expected, rtol=1e-4, atol=1e-5)
        run.forget()


def failing_at(failing):
    from fast.room import Room

    real = Room.get

    def get(self, name, *arguments):
        if name == failing:
            raise MemoryError
        return real(self, name, *arguments)

    return get


def test_whole_nets_by_the_forms_of_a_device_equal_the_textbook(xp):
    """On a GPU, every form of its table."""
    rng = np.random.default_rng(0)
    for net in (small_net(), branched_net(), Network(table("alexnet", 7), (127, 127, 3), rng)):
        for w in net.params().values():
            w[...] = rng.standard_normal(w.shape) / np.sqrt(max(1, w[..., 0].size))
        book = net.up_to(net.last).to(np, np.float64)
        run = engine(net.up_to(net.last).to(xp, np.float64), xp)
        x = rng.standard_normal((3, *net.input_shape))
        assert relative_error(to_host(run.bottom_up(xp.asarray(x))), book.bottom_up(x)) < 1e-11
        dy, grads, expected = rng.standard_normal((3, *net.shapes[net.last])), {}, {}
        dx = book.top_down(dy, expected)
        assert relative_error(to_host(run.top_down(xp.asarray(dy), grads)), dx) < 1e-11
        for name, grad in expected.items():
            assert relative_error(to_host(grads[name]), grad) < 1e-11, name
