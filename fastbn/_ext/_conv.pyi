from ..typing import Array

ALGORITHMS: dict[str, int]

def forward_scratch(
    x: Array, w: Array, pad: int, stride: int, way: int, num_threads: int
) -> int: ...
def backward_scratch(
    x: Array, w: Array, pad: int, stride: int, way: int, num_threads: int
) -> int: ...
def forward(
    x: Array,
    w: Array,
    b: Array,
    pad: int,
    stride: int,
    way: int,
    out: Array,
    rectified: Array | None,
    scratch: Array,
    num_threads: int,
) -> None: ...
def backward(
    dout: Array,
    x: Array,
    w: Array,
    pad: int,
    stride: int,
    way: int,
    dx: Array,
    dw: Array,
    db: Array,
    scratch: Array,
    num_threads: int,
) -> None: ...
