from ..typing import Array

def scratch_size(D: int, relu: bool) -> int: ...
def forward(
    x: Array,
    N: int,
    D: int,
    gamma: Array,
    beta: Array,
    eps: float,
    relu: bool,
    streaming: bool,
    out: Array,
    stats: Array,
    num_threads: int,
) -> None: ...
def backward(
    dout: Array,
    x: Array,
    N: int,
    D: int,
    chunks: int,
    gamma: Array,
    beta: Array | None,
    stats: Array,
    streaming: bool,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
    partial: Array,
    scratch: Array,
    num_threads: int,
) -> None: ...
