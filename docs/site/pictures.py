"""README's picture: a held-out scene by the FP32 and by the INT8 engine, one colour a class.

    python docs/site/pictures.py            writes docs/fp32_int8.png

The demo model is compiled for `cpu`, calibrated on 64 training scenes.
"""

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

import maskrt
from maskrt.demo import weights_path
from maskrt.demo.scenes import CLASS_NAMES, scene, write_coco

OUT = Path(__file__).resolve().parents[1] / "fp32_int8.png"
SCENE, GAP, TOP = 2, 8, 22


def main() -> None:
    """Compile, run, draw."""
    picture = scene(SCENE, split="val").image
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pictures = write_coco(place / "calibration", 64, split="train").parent / "images"
        bundle = maskrt.compile(
            "maskrt:maskrcnn_scenes", place / "demo.maskrt", weights=weights_path(),
            input_size=(320, 320), precision="int8", calibration=pictures,
            class_names=("background", *CLASS_NAMES),
        )  # fmt: skip
        maskrt.build(bundle, "cpu", precision="fp32")
        found = []
        for precision in ("fp32", "int8"):
            with maskrt.load(bundle, target="cpu", precision=precision) as session:
                found.append(session.predict(picture))
        drawn = [instances.draw(picture) for instances in found]
    height, width = picture.shape[:2]
    canvas = Image.new("RGB", (2 * width + GAP, height + TOP), "white")
    pen = ImageDraw.Draw(canvas)
    for place, (name, pixels) in enumerate(zip(("FP32", "INT8"), drawn, strict=True)):
        canvas.paste(Image.fromarray(pixels), (place * (width + GAP), TOP))
        pen.text((place * (width + GAP), 4), f"{name} engine, CPU", fill="black")
    canvas.quantize(128).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
