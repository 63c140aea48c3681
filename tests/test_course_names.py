"""Every name of the course's modules: positional order, keyword spelling and defaults.

The signatures are those of the handouts, 2015 to 2026; where years differ, each year's is a line.
"""

import ast
import importlib
import inspect

import numpy as np
import pytest

POOL, CONV, COLS = "x, pool_param", "x, w, b, conv_param", "padding=1, stride=1"
FIELD = "field_height, field_width"

SIGNATURES = {
    "layers": [
        "affine_forward(x, w, b)",
        "affine_backward(dout, cache)",
        "relu_forward(x)",
        "relu_backward(dout, cache)",
        "svm_loss(x, y)",
        "softmax_loss(x, y)",
        "batchnorm_forward(x, gamma, beta, bn_param)",
        "batchnorm_backward(dout, cache)",
        "batchnorm_backward_alt(dout, cache)",
        "layernorm_forward(x, gamma, beta, ln_param)",
        "layernorm_backward(dout, cache)",
        "dropout_forward(x, dropout_param)",
        "dropout_backward(dout, cache)",
        f"conv_forward_naive({CONV})",
        "conv_backward_naive(dout, cache)",
        f"max_pool_forward_naive({POOL})",
        "max_pool_backward_naive(dout, cache)",
        "spatial_batchnorm_forward(x, gamma, beta, bn_param)",
        "spatial_batchnorm_backward(dout, cache)",
        "spatial_groupnorm_forward(x, gamma, beta, G, gn_param)",
        "spatial_groupnorm_backward(dout, cache)",
        "spatial_quick_groupnorm_forward(x, gamma, beta, G, gn_param)",
        "spatial_quick_groupnorm_backward(dout, cache)",
    ],
    "fast_layers": [
        *(f"conv_forward_{kind}({CONV})" for kind in ("fast", "im2col", "strides")),
        *(f"conv_backward_{kind}(dout, cache)" for kind in ("fast", "im2col", "strides")),
        *(f"max_pool_forward_{kind}({POOL})" for kind in ("fast", "im2col", "reshape")),
        *(f"max_pool_backward_{kind}(dout, cache)" for kind in ("fast", "im2col", "reshape")),
    ],
    "im2col": [
        f"get_im2col_indices(x_shape, {FIELD}, {COLS})",
        f"im2col_indices(x, {FIELD}, {COLS})",
        f"col2im_indices(cols, x_shape, field_height=3, field_width=3, {COLS})",
    ],
    "im2col_cython": [
        f"im2col_cython(x, {FIELD}, padding, stride)",
        f"col2im_cython(cols, N, C, H, W, {FIELD}, padding, stride)",
        "col2im_6d_cython(cols, N, C, H, W, HH, WW, pad, stride)",
    ],
    "layer_utils": [
        "affine_relu_forward(x, w, b)",
        "affine_relu_backward(dout, cache)",
        "affine_bn_relu_forward(x, w, b, gamma, beta, bn_param)",
        "affine_bn_relu_backward(dout, cache)",
        "affine_ln_relu_forward(x, w, b, gamma, beta, ln_param)",
        "affine_ln_relu_backward(dout, cache)",
        f"conv_relu_forward({CONV})",
        "conv_relu_backward(dout, cache)",
        "conv_bn_relu_forward(x, w, b, gamma, beta, conv_param, bn_param)",
        "conv_bn_relu_backward(dout, cache)",
        f"conv_relu_pool_forward({CONV}, pool_param)",
        "conv_relu_pool_backward(dout, cache)",
    ],
    "optim": [f"{rule}(w, dw, config=None)" for rule in
              ("sgd", "sgd_momentum", "rmsprop", "adam")],
    "solver": [
        "Solver(model, data)",
        "Solver._reset(self)",
        "Solver._step(self)",
        "Solver._save_checkpoint(self)",
        "Solver.check_accuracy(self, X, y, num_samples=None, batch_size=100)",
        "Solver.train(self)",
    ],
    "gradient_check": [
        "eval_numerical_gradient(f, x, verbose=True, h=1e-5)",
        "eval_numerical_gradient_array(f, x, df, h=1e-5)",
        "eval_numerical_gradient_blobs(f, inputs, output, h=1e-5)",
        "eval_numerical_gradient_net(net, inputs, output, h=1e-5)",
        "grad_check_sparse(f, x, analytic_grad, num_checks=10, h=1e-5)",
    ],
    "data_utils": [
        "load_pickle(f)",
        "load_CIFAR_batch(filename)",
        "load_CIFAR10(ROOT)",
        "get_CIFAR10_data(num_training=49000, num_validation=1000, num_test=1000)",
        "get_CIFAR10_data(num_training=49000, num_validation=1000, num_test=1000, "
        "subtract_mean=True)",
        "load_tiny_imagenet(path, dtype=np.float32, subtract_mean=True)",
        "load_models(models_dir)",
        "load_imagenet_val(num=None)",
    ],
    "vis_utils": [
        "visualize_grid(Xs, ubound=255.0, padding=1)",
        "vis_grid(Xs)",
        "vis_nn(rows)",
    ],
    "classifiers.fc_net": [
        "TwoLayerNet(input_dim=3072, hidden_dim=100, num_classes=10, weight_scale=1e-3, reg=0.0)",
        "TwoLayerNet.loss(self, X, y=None)",
        "TwoLayerNet.save(self, fname)",
        "TwoLayerNet.load(self, fname)",
        "FullyConnectedNet(hidden_dims, input_dim=3072, num_classes=10, dropout_keep_ratio=1, "
        "normalization=None, reg=0.0, weight_scale=1e-2, dtype=np.float32, seed=None)",
        "FullyConnectedNet.loss(self, X, y=None)",
        "FullyConnectedNet.save(self, fname)",
        "FullyConnectedNet.load(self, fname)",
    ],
    "classifiers.cnn": [
        "ThreeLayerConvNet(input_dim=(3, 32, 32), num_filters=32, filter_size=7, hidden_dim=100, "
        "num_classes=10, weight_scale=1e-3, reg=0.0, dtype=np.float32)",
        "ThreeLayerConvNet.loss(self, X, y=None)",
    ],
}  # fmt: skip


def _find(module, path):
    found = importlib.import_module(f"fastbn.{module}")
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(
    ("module", "signature"), [(m, s) for m, lines in SIGNATURES.items() for s in lines]
)
def test_signature(module, signature):
    path, _, arguments = signature.partition("(")
    wanted = ast.parse(f"lambda {arguments[:-1]}: 0", mode="eval").body.args
    names = [argument.arg for argument in wanted.args]
    defaults = [
        eval(compile(ast.Expression(value), "", "eval"), {"np": np}) for value in wanted.defaults
    ]
    parameters = list(inspect.signature(_find(module, path)).parameters.values())
    own, more = parameters[: len(names)], parameters[len(names) :]
    assert [p.name for p in own] == names
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in own)
    without = len(names) - len(defaults)
    assert all(p.default is p.empty for p in own[:without])
    assert [p.default for p in own[without:]] == defaults
    # What fastbn adds comes after, and may be left out.
    assert all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in more)


@pytest.mark.parametrize(
    "line",
    [
        "from fastbn.layers import *",
        "from fastbn.fast_layers import *",
        "from fastbn.layer_utils import *",
        "from fastbn.im2col import *",
        "from fastbn.im2col_cython import col2im_cython, im2col_cython, col2im_6d_cython",
        "from fastbn import optim",
        "from fastbn.solver import Solver",
        "from fastbn.data_utils import get_CIFAR10_data, load_CIFAR10, load_tiny_imagenet",
        "from fastbn.data_utils import load_models, load_imagenet_val",
        "from fastbn.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array",
        "from fastbn.gradient_check import grad_check_sparse",
        "from fastbn.vis_utils import visualize_grid",
        "from fastbn.classifiers.fc_net import *",
        "from fastbn.classifiers.cnn import *",
        "from fastbn.classifiers.fc_net import TwoLayerNet, FullyConnectedNet",
        "from fastbn.classifiers.cnn import ThreeLayerConvNet",
    ],
)
def test_import_line_of_the_notebooks(line):
    """Each as it stands in some year's notebook or module, with fastbn for cs231n."""
    namespace = {}
    exec(line, namespace)
    assert ("np" in namespace) == line.endswith("*")


#: The constructor's calls of each year's notebook: arguments, and what the net makes of them.
NETS = [
    ({"dropout": 0, "use_batchnorm": True}, ("batchnorm", False)),
    ({"dropout": 0, "use_batchnorm": False}, (None, False)),
    ({"dropout": 1, "normalization": "layernorm"}, ("layernorm", False)),
    ({"dropout": 0.75, "seed": 123}, (None, True)),
    ({"dropout_keep_ratio": 1, "normalization": "batchnorm"}, ("batchnorm", False)),
    ({"dropout_keep_ratio": 0.5, "normalization": None}, (None, True)),
]


@pytest.mark.parametrize(("kwargs", "expected"), NETS)
def test_fully_connected_net_of_each_year(kwargs, expected):
    net = _find("classifiers.fc_net", "FullyConnectedNet")(
        [7, 5], input_dim=15, num_classes=10, reg=0.1, weight_scale=5e-2, dtype=np.float64, **kwargs
    )
    assert (net.normalization, net.use_dropout) == expected
    loss, grads = net.loss(np.ones((4, 15)), np.arange(4))
    assert np.isfinite(loss) and grads.keys() == net.params.keys()
