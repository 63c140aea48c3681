"""The course's studies of normalization, and the speed of the layers.

Each module has ``run(**options) -> result``, which is plain data, and what shows a result:
``plot(result)``, a Matplotlib figure, ``table(result)`` and ``conclusion(result)``, text.
``fastbn experiment`` runs them from the command line.

Modules
-------
batchnorm
    A deep net with and without batch (or layer) normalization.
weight_scale
    Best accuracies and final loss against the scale of the initial weights.
batch_size
    What the batch size does to a normalized net.
speed
    Every layer and training steps: NumPy, fastbn, and PyTorch where it is installed.
"""

from . import batch_size, batchnorm, speed, weight_scale
