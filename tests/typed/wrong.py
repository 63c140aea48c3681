"""Mistakes that a type checker finds. `warn_unused_ignores` fails for one that it no longer does.

It is never run.
"""

import numpy as np

import fastbn
from fastbn import gradient_check, layers, optim
from fastbn.classifiers import FullyConnectedNet
from fastbn.solver import Solver
from fastbn.typing import (
    BatchNormParam,
    ConvParam,
    DropoutParam,
    NormParam,
    PoolParam,
    SolverOptions,
)

x, gamma, beta = np.zeros((4, 3)), np.ones(3), np.zeros(3)

# Keys and values of parameter dicts
mode: BatchNormParam = {"mode": "testing"}  # type: ignore[typeddict-item]
no_mode: BatchNormParam = {"eps": 1e-5}  # type: ignore[typeddict-item]
eps: NormParam = {"eps": "small"}  # type: ignore[typeddict-item]
keep: DropoutParam = {"mode": "train", "p": 1, "keep": 0.5}  # type: ignore[typeddict-unknown-key]
no_pad: ConvParam = {"stride": 1}  # type: ignore[typeddict-item]
padding: ConvParam = {"stride": 1, "pad": 0, "padding": 0}  # type: ignore[typeddict-unknown-key]
way: ConvParam = {"stride": 1, "pad": 0, "algorithm": "fft"}  # type: ignore[typeddict-item]
square: PoolParam = {"pool_height": 2, "stride": 2}  # type: ignore[typeddict-item]
epochs: SolverOptions = {"num_epochs": "ten"}  # type: ignore[typeddict-item]
layers.conv_forward_fast(x, x, x, 1)  # type: ignore[arg-type]
layers.batchnorm_forward(x, gamma, beta, None)  # type: ignore[arg-type]

# Arguments and results
layers.affine_forward(x, gamma)  # type: ignore[call-arg]
layers.relu_forward(x, inplace=True)  # type: ignore[call-arg]
out = layers.affine_forward(x, x, beta)
print(out.shape)  # type: ignore[attr-defined]
dx, dw = layers.affine_backward(x, out[1])  # type: ignore[misc]
loss: str = layers.softmax_loss(x, [0, 1])[0]  # type: ignore[assignment]
layers.im2col_cython(x, "3", 3, 0, 1)  # type: ignore[arg-type]
layers.softmax_forward(x)  # type: ignore[attr-defined]
optim.sgd([1.0], [1.0])  # type: ignore[arg-type]
optim.adam(x, x, {0: 1})  # type: ignore[dict-item]
gradient_check.eval_numerical_gradient(3, x)  # type: ignore[arg-type]

# Nets, the solver, the package
net = FullyConnectedNet(100)  # type: ignore[arg-type]
scores, grads = net.loss(x, "labels")  # type: ignore[call-overload]
net.loss(x, np.arange(4)).sum()  # type: ignore[attr-defined]
net.save(3)  # type: ignore[arg-type]
Solver(net, {}, learning_rate=1e-3)  # type: ignore[call-arg]
Solver(net, {}, num_epochs="ten")  # type: ignore[arg-type]
Solver(net)  # type: ignore[call-arg]
fastbn.set_num_threads("2")  # type: ignore[arg-type]
fastbn.show_config("json")  # type: ignore[call-overload]
fastbn.accelerate(3)  # type: ignore[arg-type]
fastbn.accelerate("cs231n", True)  # type: ignore[call-arg]
fastbn.accelerate("cs231n").redo()  # type: ignore[attr-defined]
fastbn._ext.relu.forward(x)  # type: ignore[call-arg]
