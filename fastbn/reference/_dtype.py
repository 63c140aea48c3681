"""Which dtype a function computes in, and which it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..typing import DType


def promote(*arrays: ArrayLike | DType) -> tuple[DType, DType]:
    """Return (dtype to compute in, dtype to return) for arrays (or dtypes) used together."""
    dtypes = [a if isinstance(a, np.dtype) else np.asarray(a).dtype for a in arrays]
    dtype = np.result_type(*dtypes).newbyteorder("=")
    if dtype == np.float16:
        # Half precision is for storage: sums of a few thousand halves already lose all digits.
        return np.dtype(np.float32), dtype
    if dtype.kind not in "biuf":
        raise TypeError(f"arrays must hold real numbers, got dtype {dtype}")
    if dtype != np.float32:
        dtype = np.dtype(np.float64)
    return dtype, dtype


def working(*arrays: ArrayLike) -> tuple[Any, ...]:
    """Return the arrays in their common computing dtype, and after them the dtype to return."""
    compute, result = promote(*arrays)
    return *(np.asarray(a, dtype=compute) for a in arrays), result
