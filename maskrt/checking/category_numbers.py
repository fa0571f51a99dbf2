"""Labels and COCO's categories, where no class names tell what is what.

Models of COCO by other projects (SOLO's and YOLACT's authors, AdelaiDet, mmdetection, detectron2)
have labels 1 to 80, and COCO's annotations have categories 1 to 90, with gaps. AP would compare one
class's detections with another's annotations: near 0, and of FP32, too, so that no drop shows it.
"""

from ..core import InputError
from ..core.bundle import Manifest
from ..runtime.check import CocoDataset

__all__ = ["check_numbering"]


def check_numbering(manifest: Manifest, dataset: CocoDataset) -> None:
    """Refuse categories that a model without class names has no labels for.

    Raises:
        InputError: there is such a category.
    """
    labels = manifest.source.get("labels")
    if manifest.class_names is not None or labels is None:
        return  # names are compared where pictures are evaluated
    for category, name in dataset.categories.items():
        if category > labels:
            raise InputError(
                f"{dataset.source} has category {category} ({name!r}), and the model's labels are "
                f"1 to {labels}: number the categories as the model was trained."
            )
