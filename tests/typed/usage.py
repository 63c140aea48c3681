"""The public API as a user's strict code has it: mypy --strict checks it, and pytest runs it."""

import tempfile
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastbn
from fastbn import (
    convert,
    data_utils,
    experiments,
    gradient_check,
    layer_utils,
    layers,
    optim,
    reference,
    vis_utils,
)
from fastbn.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from fastbn.solver import Solver, load_checkpoint
from fastbn.typing import (
    Array,
    BatchNormParam,
    Cache,
    ConvParam,
    DropoutParam,
    IntArray,
    NormParam,
    PoolParam,
)

rng = np.random.default_rng(0)
x: NDArray[np.float32] = rng.standard_normal((4, 6)).astype(np.float32)
w, b = rng.standard_normal((6, 5)), np.zeros(5)
gamma, beta = np.ones(6), np.zeros(6)
images = rng.standard_normal((2, 4, 6, 6))
filters, biases = rng.standard_normal((3, 4, 3, 3)), np.zeros(3)
labels = np.array([0, 1, 2, 3])


# Layers: (out, cache) forward, gradients backward

out, cache = layers.affine_forward(x, w, b)
assert_type(out, Array)
dx, dw, db = layers.affine_backward(out, cache)
assert_type(db, Array)
assert_type(layers.relu_forward(x), tuple[Array, Cache])
assert_type(layers.relu_backward(x, x), Array)
kept: NDArray[np.float32] = layers.relu_forward(x)[0]  # a result goes where its dtype is known
layers.affine_forward([[1, 2]], [[3], [4]], [0.5])  # whatever NumPy makes an array of

bn_param: BatchNormParam = {"mode": "train", "momentum": 0.8}
out, cache = layers.batchnorm_forward(x, gamma, beta, bn_param)
assert_type(layers.batchnorm_backward(out, cache), tuple[Array, Array, Array])
assert_type(layers.batchnorm_backward_alt(out, cache), tuple[Array, Array, Array])
assert_type(bn_param["running_mean"], Array)
layers.batchnorm_forward(x, gamma, beta, {"mode": "test"})
plain = {"mode": "train"}  # without an annotation, as the course's code has it
layers.batchnorm_forward(x, gamma, beta, plain)

four = np.ones(4), np.zeros(4)
out, cache = layers.spatial_batchnorm_forward(images, *four, {"mode": "train"})
assert_type(layers.spatial_batchnorm_backward(out, cache), tuple[Array, Array, Array])
ln_param: NormParam = {}
out, cache = layers.layernorm_forward(x, gamma, beta, ln_param)
assert_type(layers.layernorm_backward(out, cache), tuple[Array, Array, Array])
gn_param: NormParam = {"eps": 1e-3}
out, cache = layers.spatial_groupnorm_forward(images, *four, 2, gn_param)
assert_type(layers.spatial_groupnorm_backward(out, cache), tuple[Array, Array, Array])
out, cache = layers.spatial_quick_groupnorm_forward(images, *four, G=2, gn_param={})
assert_type(layers.spatial_quick_groupnorm_backward(out, cache), tuple[Array, Array, Array])

dropout_param: DropoutParam = {"p": 0.5, "mode": "train", "seed": 231}
out, cache = layers.dropout_forward(x, dropout_param)
assert_type(layers.dropout_backward(out, cache), Array)

conv_param: ConvParam = {"stride": 1, "pad": 1, "algorithm": "direct"}
out, cache = layers.conv_forward_naive(images, filters, biases, conv_param)
assert_type(layers.conv_backward_naive(out, cache), tuple[Array, Array, Array])
out, cache = layers.conv_forward_fast(images, filters, biases, {"stride": 1, "pad": 1})
assert_type(layers.conv_backward_fast(out, cache), tuple[Array, Array, Array])
out, cache = layers.conv_forward_im2col(images, filters, biases, conv_param)
assert_type(layers.conv_backward_im2col(out, cache), tuple[Array, Array, Array])
out, cache = layers.conv_forward_strides(images, filters, biases, conv_param)
assert_type(layers.conv_backward_strides(out, cache), tuple[Array, Array, Array])

pool_param: PoolParam = {"pool_height": 2, "pool_width": 2, "stride": 2}
out, cache = layers.max_pool_forward_naive(images, pool_param)
assert_type(layers.max_pool_backward_naive(out, cache), Array)
out, cache = layers.max_pool_forward_fast(images, pool_param)
assert_type(layers.max_pool_backward_fast(out, cache), Array)
out, cache = layers.max_pool_forward_im2col(images, pool_param)
assert_type(layers.max_pool_backward_im2col(out, cache), Array)
out, cache = layers.max_pool_forward_reshape(images, pool_param)
assert_type(layers.max_pool_backward_reshape(out, cache), Array)

loss, dscores = layers.softmax_loss(x, labels)
assert_type(loss, np.float64)
assert_type(dscores, Array)
assert_type(layers.svm_loss(x, labels), tuple[np.float64, Array])

cols = layers.im2col_cython(images, 3, 3, 1, 1)
assert_type(cols, Array)
assert_type(layers.col2im_cython(cols, 2, 4, 6, 6, 3, 3, 1, 1), Array)
six = cols.reshape(4, 3, 3, 2, 6, 6)
assert_type(layers.col2im_6d_cython(six, 2, 4, 6, 6, 3, 3, 1, 1), Array)
assert_type(layers.get_im2col_indices(images.shape, 3, 3), tuple[IntArray, IntArray, IntArray])
assert_type(layers.im2col_indices(images, 3, 3), Array)
assert_type(layers.col2im_indices(cols, images.shape), Array)

# Composed layers, and the same functions in plain NumPy

five = np.ones(5), np.zeros(5)
three = np.ones(3), np.zeros(3)
out, cache = layer_utils.affine_relu_forward(x, w, b)
assert_type(layer_utils.affine_relu_backward(out, cache), tuple[Array, Array, Array])
out, cache = layer_utils.affine_bn_relu_forward(x, w, b, *five, {"mode": "train"})
dx, dw, db, dgamma, dbeta = layer_utils.affine_bn_relu_backward(out, cache)
assert_type(dbeta, Array)
out, cache = layer_utils.affine_ln_relu_forward(x, w, b, *five, {})
dx, dw, db, dgamma, dbeta = layer_utils.affine_ln_relu_backward(out, cache)
out, cache = layer_utils.conv_relu_forward(images, filters, biases, conv_param)
assert_type(layer_utils.conv_relu_backward(out, cache), tuple[Array, Array, Array])
out, cache = layer_utils.conv_bn_relu_forward(
    images, filters, biases, *three, conv_param, {"mode": "train"}
)
dx, dw, db, dgamma, dbeta = layer_utils.conv_bn_relu_backward(out, cache)
out, cache = layer_utils.conv_relu_pool_forward(images, filters, biases, conv_param, pool_param)
assert_type(layer_utils.conv_relu_pool_backward(out, cache), tuple[Array, Array, Array])
out, cache = reference.conv_forward_naive(images, filters, biases, conv_param)
assert_type(reference.conv_backward_naive(out, cache), tuple[Array, Array, Array])

# Update rules, gradient checks, filters from weights

single = np.zeros(3, np.float32)
next_w, config = optim.sgd(single, np.ones(3))
assert_type(next_w, NDArray[np.float32])  # in place
assert_type(config, dict[str, Any])
assert_type(optim.sgd_momentum(single, np.ones(3), {"momentum": 0.5})[0], Array)
assert_type(optim.rmsprop(single, np.ones(3))[0], Array)
assert_type(optim.adam(single, np.ones(3), config=None)[0], Array)


def cube(point: NDArray[np.float64]) -> float:
    return float((point**3).sum())


point: NDArray[np.float64] = np.array([1.0, 2.0])
slope = gradient_check.eval_numerical_gradient(cube, point, verbose=False)
assert_type(slope, NDArray[np.float64])
assert_type(
    gradient_check.eval_numerical_gradient_array(lambda z: z**3, point, np.ones(2)),
    NDArray[np.float64],
)
assert_type(gradient_check.rel_error(slope, 3 * point**2), float)
assert_type(convert.affine_to_conv(w, b, (6, 1, 1)), tuple[Array, Array])
assert_type(vis_utils.visualize_grid(images), NDArray[np.float64])

# Nets and the solver


class ReferenceNet(FullyConnectedNet):
    """The same net on plain NumPy."""

    layers = reference


net = FullyConnectedNet([5], input_dim=6, num_classes=4, normalization="batchnorm", seed=1)
scores = net.loss(x)
assert_type(scores, Array)
total, grads = net.loss(x, labels)
assert_type(total, float)
assert_type(grads, dict[str, Array])
assert_type(TwoLayerNet(6, 5, 4).loss(x), Array)
convnet = ThreeLayerConvNet((4, 6, 6), num_filters=2, filter_size=3, hidden_dim=5, num_classes=4)
assert_type(convnet.loss(images, labels[:2])[1]["W1"], Array)
ReferenceNet([5], input_dim=6, num_classes=4).loss(x, labels)

solver = Solver(
    net,
    {"X_train": x, "y_train": labels, "X_val": x, "y_val": labels},
    update_rule="adam",
    optim_config={"learning_rate": 1e-3},
    num_epochs=2,
    batch_size=2,
    num_train_samples=None,
    verbose=False,
)
solver.train()
assert_type(solver.loss_history, list[float])
assert_type(solver.check_accuracy(x, labels), float)
assert_type(solver.best_val_acc, float)

with tempfile.TemporaryDirectory() as folder:
    net.save(Path(folder) / "net.npz")
    net.load(Path(folder) / "net.npz")
    solver.checkpoint_name = Path(folder) / "run"
    solver.train()
    assert_type(load_checkpoint(f"{folder}/run_epoch_4.pkl"), dict[str, Any])

# The package

fastbn.set_num_threads(2)
assert_type(fastbn.get_num_threads(), int)
fastbn.set_num_threads(None)
fastbn.set_conv_algorithm("direct")
assert_type(fastbn.get_conv_algorithm(), str)
fastbn.set_conv_algorithm("auto")
fastbn.set_dropout_convention("keep")
assert_type(fastbn.get_dropout_convention(), str)
assert_type(fastbn.show_config("dict"), dict[str, dict[str, Any]])
fastbn.show_config()
assert_type(fastbn.__version__, str)


def swap() -> None:
    """What needs a checkout of the course, or minutes; it is checked and not run."""
    with fastbn.accelerate("cs231n", verify=True) as report:
        print(report)
    assert_type([row.name for row in report.rows if row.swapped], list[str])
    assert_type(report.left, dict[str, str])
    report.undo()
    assert_type(data_utils.get_CIFAR10_data(num_test=10)["X_train"], Array)
    result = experiments.batchnorm.run(epochs=1, hidden=[20, 20], out="results")
    assert_type(result, dict[str, Any])
    assert_type(experiments.batchnorm.table(result), str)
    assert_type(experiments.speed.conclusion(experiments.speed.run(only="relu")), str)
    experiments.batchnorm.plot(result).savefig("batchnorm.png")
