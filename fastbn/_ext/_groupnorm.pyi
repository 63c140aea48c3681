from ..typing import Array

def forward(
    x: Array,
    N: int,
    C: int,
    L: int,
    G: int,
    gamma: Array,
    beta: Array,
    eps: float,
    streaming: bool,
    out: Array,
    stats: Array,
    num_threads: int,
) -> None: ...
def backward(
    dout: Array,
    x: Array,
    N: int,
    C: int,
    L: int,
    G: int,
    gamma: Array,
    stats: Array,
    streaming: bool,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
    partial: Array,
    num_threads: int,
) -> None: ...
