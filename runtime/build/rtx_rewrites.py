"""The rewrites that spare TensorRT-RTX's program kernels and bytes, and change no result's meaning.

| rewrite | spares |
|---|---|
| `single_rows.py` | a copy of the features that a product of one row reads |
| `short_products.py` | what instances' own convolutions write and read between them |
| `joined_topk.py` | two kernels for each level of a pyramid |
| `own_concats.py` | tensors that are joined for two Gathers |
| `strided_pool.py` | the pooling that makes a pyramid's last level |
| `aligned_products.py` | a copy of what a layer of odd rows writes |

None of them is needed for a build.
"""

import onnx

from .aligned_products import align_products
from .joined_topk import join_topk
from .own_concats import give_gathers_own_concats
from .short_products import sum_short_products
from .single_rows import sum_single_rows
from .strided_pool import stride_convolutions

__all__ = ["spare_kernels"]


def spare_kernels(model: onnx.ModelProto) -> None:
    """Rewrite a graph of standard operators in place."""
    sum_single_rows(model)
    sum_short_products(model)
    join_topk(model)
    give_gathers_own_concats(model)
    stride_convolutions(model)
    align_products(model)
