"""Running engines: pictures in, instances out.

    session.py      the engine with everything around it: `Session.predict`;  open.py  opening it
    stream.py       pictures read ahead of the engine: `Session.predict_stream`
    in_flight.py    batches of a stream through a device, one uploaded while one is computed
    backends/       what executes an engine; build/ what makes one
    pictures.py     what a picture may be given as;  images.py  reading files
    letterbox.py    placing a picture on the engine's canvas
    postprocess.py  outputs to instances
    paste.py        masks from 28x28 over the box to the picture's pixels
    canvas_masks.py masks from a quarter of the canvas to the picture's pixels
    power.py        what a Jetson draws meanwhile
    check/          how good the result is: COCO metrics, fidelity, reports

Importing this package imports numpy and nothing heavier.

In: a rendered graph to build, or a bundle with an engine, and pictures. Out: engines that know
themselves, instances, reports.
Imported by the rooms of `maskrt/`; imports `plugins` and `core`.
"""

from .backends import Backend, NullBackend, choose_target, open_backend
from .images import as_image, list_images, read_image
from .letterbox import Placement, letterbox, letterbox_batches, placed_batches
from .open import open_session
from .paste import paste_masks
from .pictures import Picture, load_picture
from .session import STAGES, Session
from .stream import Frame

__all__ = [
    "STAGES",
    "Backend",
    "Frame",
    "NullBackend",
    "Picture",
    "Placement",
    "Session",
    "as_image",
    "choose_target",
    "letterbox",
    "letterbox_batches",
    "list_images",
    "load_picture",
    "open_backend",
    "open_session",
    "paste_masks",
    "placed_batches",
    "read_image",
]
