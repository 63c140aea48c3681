from ..typing import Array

def forward(
    x: Array, uniform: Array, n: int, keep: float, out: Array, mask: Array, num_threads: int
) -> None: ...
def backward(
    dout: Array, mask: Array, n: int, streaming: bool, dx: Array, num_threads: int
) -> None: ...
