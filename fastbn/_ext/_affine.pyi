from ..typing import Array

def scratch_sizes(M: int, N: int, K: int, itemsize: int) -> tuple[int, int]: ...
def matmul(
    a: Array,
    b: Array,
    bias: Array | None,
    out: Array,
    shared: Array,
    panels: Array,
    num_threads: int,
) -> None: ...
def column_sums(x: Array, out: Array, num_threads: int) -> None: ...
