from ..typing import Array

def scratch_size(H: int, W: int, kh: int, kw: int, stride: int, num_threads: int) -> int: ...
def has_places(kh: int, kw: int, stride: int) -> bool: ...
def forward(
    x: Array,
    P: int,
    H: int,
    W: int,
    kh: int,
    kw: int,
    stride: int,
    out: Array,
    places: Array | None,
    work: Array,
    num_threads: int,
) -> None: ...
def backward(
    dout: Array,
    x: Array,
    places: Array | None,
    P: int,
    H: int,
    W: int,
    kh: int,
    kw: int,
    stride: int,
    shared: bool,
    streaming: bool,
    dx: Array,
    work: Array,
    num_threads: int,
) -> None: ...
