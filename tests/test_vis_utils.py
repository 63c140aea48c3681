"""Image grids with the course's layout, and what is drawn of trainings and filters."""

import io
import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fastbn.classifiers.cnn import ThreeLayerConvNet
from fastbn.classifiers.fc_net import FullyConnectedNet
from fastbn.solver import Solver
from fastbn.vis_utils import (
    plot_comparison,
    plot_filters,
    plot_history,
    vis_grid,
    vis_nn,
    visualize_grid,
)


def ramp(start, shape=(2, 3, 1)):
    return np.arange(start, start + math.prod(shape), dtype=np.float64).reshape(shape)


# Grids


def test_visualize_grid_scales_each_image_and_pads_between():
    grid = visualize_grid([ramp(0), ramp(100), ramp(-7), 10 * ramp(3)])
    assert grid.shape == (5, 7, 1) and grid.dtype == np.float64
    one = np.arange(6).reshape(2, 3) / 5 * 255.0
    expected = np.zeros((5, 7))
    for y in (0, 3):
        for x in (0, 4):
            expected[y : y + 2, x : x + 3] = one
    np.testing.assert_array_equal(grid[..., 0], expected)


@pytest.mark.parametrize(
    ("number", "side"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4), (16, 4), (17, 5)]
)
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_visualize_grid_places_images_row_by_row(number, side, padding, rng):
    images = rng.standard_normal((number, 4, 2, 3))
    grid = visualize_grid(images, ubound=1.0, padding=padding)
    assert grid.shape == (4 * side + padding * (side - 1), 2 * side + padding * (side - 1), 3)
    left = grid.copy()
    for n in range(number):
        y, x = (n // side) * (4 + padding), (n % side) * (2 + padding)
        image = images[n]
        scaled = (image - image.min()) / (image.max() - image.min())
        np.testing.assert_array_equal(grid[y : y + 4, x : x + 2], scaled)
        left[y : y + 4, x : x + 2] = 0
    assert not left.any()


def test_visualize_grid_of_a_constant_image_is_zero():
    grid = visualize_grid([np.full((2, 2, 1), 7), [[[1], [2]], [[3], [5]]]], padding=0)
    np.testing.assert_array_equal(grid[:2, :2], 0)
    np.testing.assert_array_equal(grid[:2, 2:, 0], [[0, 63.75], [127.5, 255]])


def test_vis_grid_scales_all_together_and_draws_lines_below_and_right():
    grid = vis_grid(np.array([ramp(2), ramp(6), ramp(4)]))
    expected = np.zeros((6, 8))
    expected[0:2, 0:3] = np.arange(6).reshape(2, 3) / 9
    expected[0:2, 4:7] = np.arange(4, 10).reshape(2, 3) / 9
    expected[3:5, 0:3] = np.arange(2, 8).reshape(2, 3) / 9
    assert grid.shape == (6, 8, 1)
    np.testing.assert_allclose(grid[..., 0], expected, rtol=1e-15)
    assert not vis_grid(np.full((3, 2, 2, 3), 5.0)).any()


def test_vis_nn_puts_rows_below_one_another():
    a, b = np.full((1, 2, 1), 0.25), np.array([[[0.0], [0.5]]])
    grid = vis_nn([[a, b, a], [b, b, a]])
    # Lines of 1: the highest value here.
    np.testing.assert_array_equal(
        grid[..., 0],
        [
            [0.25, 0.25, 1, 0, 0.5, 1, 0.25, 0.25, 1],
            [1] * 9,
            [0, 0.5, 1, 0, 0.5, 1, 0.25, 0.25, 1],
            [1] * 9,
        ],
    )
    # Of pixels 0 to 255, a line of 1 is nearly black.
    grid = vis_nn([[np.array([[[0], [255]]], np.uint8)]])
    np.testing.assert_array_equal(grid[..., 0], [[0, 1, 1 / 255], [1 / 255] * 3])
    assert not vis_nn([[np.ones((2, 2, 3))]]).any()


@pytest.mark.parametrize(
    ("dtype", "result"),
    [(np.uint8, np.float64), (bool, np.float64), (np.float32, np.float32), (">f8", np.float64)],
)
def test_grid_dtypes(dtype, result):
    images = np.array([[0, 1], [1, 1]]).reshape(2, 2, 1, 1).astype(dtype)
    before = images.copy()
    for grid in (vis_grid(images), vis_nn([images])):
        assert grid.dtype == result and grid.min() == 0 and grid.max() == 1
    assert visualize_grid(images).dtype == np.float64
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("function", [visualize_grid, vis_grid])
@pytest.mark.parametrize(
    ("Xs", "error", "message"),
    [
        (
            np.ones((2, 3, 3)),
            ValueError,
            r"Xs must be images \(N, H, W, C\).*got shape \(2, 3, 3\)",
        ),
        (np.ones((0, 3, 3, 1)), ValueError, "at least one pixel"),
        (np.ones((2, 0, 3, 1)), ValueError, "at least one pixel"),
        (np.ones((1, 1, 1, 1), complex), TypeError, "Xs must hold real numbers; got dtype complex"),
        (np.array("a"), TypeError, "Xs must hold real numbers"),
        (np.full((1, 1, 1, 1), np.nan), ValueError, "Xs must be finite"),
        (np.full((1, 1, 1, 1), -np.inf), ValueError, "Xs must be finite"),
    ],
)
def test_bad_images(function, Xs, error, message):
    with pytest.raises(error, match=message):
        function(Xs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ubound": "x"}, TypeError, "ubound must be a number; got 'x'"),
        ({"ubound": np.inf}, ValueError, "ubound must be finite; got inf"),
        ({"padding": 1.0}, TypeError, "padding must be an integer; got 1.0"),
        ({"padding": -1}, ValueError, "padding must be at least 0; got -1"),
    ],
)
def test_bad_grid_options(options, error, message):
    with pytest.raises(error, match=message):
        visualize_grid(np.ones((1, 1, 1, 1)), **options)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"rows must be one or more rows of one length; got the lengths \[\]"),
        ([[np.ones((1, 1, 1))], []], r"got the lengths \[1, 0\]"),
        ([[], []], r"images of one shape; got the shapes \[\]"),
        ([[np.ones((1, 1, 1)), np.ones((1, 2, 1))]], r"got the shapes \[\(1, 1, 1\), \(1, 2, 1\)"),
        ([[np.ones((2, 2))]], "rows must be images"),
    ],
)
def test_bad_rows(rows, message):
    with pytest.raises(ValueError, match=message):
        vis_nn(rows)


# Figures


def drawn(figure):
    """The figure as it would be saved; drawing is what would warn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")
    return figure


def history(losses, train=(0.1, 0.5), val=(0.2, 0.4)):
    return {"loss_history": losses, "train_acc_history": train, "val_acc_history": val}


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def overlaps(figure):
    """Whether a legend lies on the data area of any panel."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
    assert legends
    return any(
        legend.get_window_extent(renderer).overlaps(axes.get_window_extent(renderer))
        for legend in legends
        for axes in figure.axes
    )


def test_plot_history_draws_the_numbers():
    figure = drawn(plot_history(history([4.0, 2.0, 3.0, 1.0]), "Digits"))
    left, right = figure.axes
    np.testing.assert_array_equal(
        lines(left)["each step"], [[1, 4.0], [2, 2.0], [3, 3.0], [4, 1.0]]
    )
    np.testing.assert_allclose(lines(left)["mean of 3 steps"][:, 1], [3, 3, 2, 2])
    np.testing.assert_array_equal(lines(right)["training"], [[0, 0.1], [1, 0.5]])
    np.testing.assert_array_equal(lines(right)["validation"], [[0, 0.2], [1, 0.4]])
    assert figure.get_suptitle() == "Digits" and not overlaps(figure)


def test_plot_history_of_a_solver():
    rng = np.random.RandomState(0)
    data = {"X_train": rng.randn(20, 4), "y_train": rng.randint(3, size=20)}
    data |= {"X_val": data["X_train"], "y_val": data["y_train"]}
    net = FullyConnectedNet([5], input_dim=4, num_classes=3)
    solver = Solver(net, data, num_epochs=2, batch_size=5, verbose=False)
    solver.train()
    left, right = drawn(plot_history(solver)).axes
    np.testing.assert_array_equal(lines(left)["each step"][:, 1], solver.loss_history)
    np.testing.assert_array_equal(lines(right)["validation"][:, 1], solver.val_acc_history)


@pytest.mark.parametrize(
    "losses",
    [[None] * 4, [2.0, np.nan, np.inf, 1.0], [], [1.0], [1.0, 1e300, 2.0], [1e308, -1e308]],
)
def test_losses_that_diverged_leave_gaps(losses):
    figure = drawn(plot_history(history(losses)))
    values = lines(figure.axes[0])["each step"][:, 1]
    np.testing.assert_array_equal(
        values, [x if x is not None and abs(x) < 1e100 else np.nan for x in losses]
    )
    drawn(plot_comparison({"a": history(losses), "b": history([1.0])}))


def test_plot_comparison_has_three_panels_with_every_training():
    trainings = {f"net {n}": history(np.full(6 * n, float(n)), (0, n / 9)) for n in range(1, 8)}
    figure = drawn(plot_comparison(trainings, "Nets"))
    loss, train, val = figure.axes
    assert [list(lines(axes)) for axes in figure.axes] == [list(trainings)] * 3
    # Losses against epochs: six steps and forty-two steps both are one epoch.
    for n, line in enumerate(lines(loss).values(), 1):
        np.testing.assert_allclose(line[-1], [1, n])
    assert loss.get_yscale() == "log"
    np.testing.assert_array_equal(lines(train)["net 3"], [[0, 0], [1, 3 / 9]])
    np.testing.assert_array_equal(lines(val)["net 3"], [[0, 0.2], [1, 0.4]])
    # Colour and dash together tell them apart.
    styles = {(line.get_color(), line.get_linestyle()) for line in loss.get_lines()}
    assert len(styles) == 7
    assert not overlaps(figure) and figure.get_suptitle() == "Nets"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plot_history({}), KeyError, "history must have the key 'loss_history'"),
        (
            lambda: plot_history(history([1j])),
            TypeError,
            "must hold real numbers.*comp",
        ),
        (
            lambda: plot_history(history([1.0], val=0.5)),
            ValueError,
            r"val_acc_history must have one axis; got shape \(\)",
        ),
        (lambda: plot_history([1.0]), TypeError, "must be a Solver or a mapping.*got list"),
        (lambda: plot_comparison({}), ValueError, "at least one training"),
        (lambda: plot_comparison([history([1.0])]), TypeError, "must be a mapping; got list"),
        (
            lambda: plot_filters(np.ones((3, 3))),
            ValueError,
            r"\(F, C, HH, WW\).*got shape \(3, 3\)",
        ),
        (lambda: plot_filters(np.full((1, 1, 2, 2), np.nan)), ValueError, "w must be finite"),
    ],
)
def test_figures_of_nothing(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_rows_of_an_array(rng):
    rows = rng.random((3, 2, 4, 5, 3))
    np.testing.assert_array_equal(vis_nn(rows), vis_nn([list(row) for row in rows]))
    with pytest.raises(MemoryError):  # at once, and not after a list of each row
        vis_nn(np.broadcast_to(1.0, (1 << 44, 1, 2, 2, 3)))
    with pytest.raises(ValueError, match="at least one pixel; got shape"):
        vis_nn(np.ones((0, 2, 4, 5, 3)))


def test_plot_filters_in_colour_and_in_grey(rng):
    net = ThreeLayerConvNet(num_filters=5, filter_size=3)
    # Six grey images, in three columns like the five filters.
    grey = rng.standard_normal((3, 2, 3, 3))
    for w, images in (
        (net.params["W1"], net.params["W1"].transpose(0, 2, 3, 1)),
        (grey, grey.reshape(6, 3, 3, 1)),
    ):
        figure = drawn(plot_filters(w, "First layer"))
        (axes,) = figure.axes
        drawing = axes.get_images()[0].get_array()
        # Two rows, without the square grid's third; between the images neither black nor white.
        grid = visualize_grid(images, ubound=1.0)[:7]
        gap = np.ones((7, 11), bool)
        for n in range(len(images)):
            gap[4 * (n // 3) : 4 * (n // 3) + 3, 4 * (n % 3) : 4 * (n % 3) + 3] = False
        assert drawing.shape == (7, 11, 3)
        expected = np.broadcast_to(grid, drawing.shape)
        np.testing.assert_array_equal(drawing[~gap], expected[~gap])
        assert np.ptp(drawing[gap], axis=0).max() == 0 and np.ptp(drawing[gap][0]) > 0.3
        assert figure.get_suptitle() == "First layer"
