"""Running engines: pictures in, instances out.

    session.py      the engine with everything around it: `open_session`, `Session.predict`
    backends/       what executes an engine; build/ what makes one
    images.py       reading pictures;  letterbox.py  placing them on the engine's canvas
    paste.py        masks from 28x28 to the picture's pixels
    check/          how good the result is: COCO metrics, fidelity, reports

Importing this package imports numpy and nothing heavier.
"""

from .backends import Backend, NullBackend, choose_target, open_backend
from .images import as_image, list_images, read_image
from .letterbox import Placement, letterbox, letterbox_batches
from .paste import paste_masks
from .session import STAGES, Picture, Session, open_session

__all__ = [
    "STAGES",
    "Backend",
    "NullBackend",
    "Picture",
    "Placement",
    "Session",
    "as_image",
    "choose_target",
    "letterbox",
    "letterbox_batches",
    "list_images",
    "open_backend",
    "open_session",
    "paste_masks",
    "read_image",
]
