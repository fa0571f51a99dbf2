"""What a picture may be given as: the same pixels, and no copy where none is due."""

import numpy as np
import pytest
from PIL import Image

from maskrt.core import InputError
from maskrt.runtime import load_picture
from maskrt.runtime.pictures import is_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


class FromElsewhere:
    """An array of another library, which is known by DLPack alone."""

    def __init__(self, array: np.ndarray, device: int = 1) -> None:
        self._array, self._device = array, device

    def __dlpack__(self, **options: object) -> object:
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (self._device, 0)


def test_pil_images_of_every_mode() -> None:
    picture = Image.fromarray(PIXELS)
    np.testing.assert_array_equal(load_picture(picture), PIXELS)
    for mode in ("L", "P", "RGBA", "CMYK", "1"):
        expected = np.asarray(picture.convert(mode).convert("RGB"))
        np.testing.assert_array_equal(load_picture(picture.convert(mode)), expected)


def test_a_pil_image_is_turned_upright() -> None:
    picture = Image.fromarray(PIXELS)
    picture.getexif()[0x0112] = 6
    np.testing.assert_array_equal(load_picture(picture), np.rot90(PIXELS, -1))


def test_a_tensor_is_not_copied() -> None:
    assert np.shares_memory(load_picture(FromElsewhere(PIXELS)), PIXELS)
    assert np.shares_memory(load_picture(PIXELS), PIXELS)


@pytest.mark.parametrize("given", [PIXELS.transpose(2, 0, 1), np.ascontiguousarray(PIXELS)])
def test_channels_first_and_last(given: np.ndarray) -> None:
    np.testing.assert_array_equal(load_picture(FromElsewhere(given)), PIXELS)


def test_a_grey_tensor() -> None:
    expected = np.repeat(PIXELS[:, :, :1], 3, axis=2)
    np.testing.assert_array_equal(load_picture(FromElsewhere(PIXELS[:, :, 0])), expected)
    np.testing.assert_array_equal(load_picture(FromElsewhere(PIXELS[None, :, :, 0])), expected)


@pytest.mark.torch
def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(PIXELS)
    assert np.shares_memory(load_picture(tensor), PIXELS)
    np.testing.assert_array_equal(load_picture(tensor.permute(2, 0, 1).contiguous()), PIXELS)
    with pytest.raises(InputError, match="float32"):
        load_picture(tensor.float().requires_grad_())
    for other in (tensor.to("meta"), tensor.to_sparse(), tensor.bfloat16()):
        with pytest.raises(InputError, match="cannot be read as a numpy array"):
            load_picture(other)


def test_what_cannot_be_read_is_said() -> None:
    with pytest.raises(InputError, match=r"on a GPU.*\.cpu\(\)"):
        load_picture(FromElsewhere(PIXELS, device=2))
    with pytest.raises(InputError, match="not dict"):
        load_picture({})
    with pytest.raises(InputError, match="not generator: give its pictures to predict_stream"):
        load_picture(picture for picture in [PIXELS])
    with pytest.raises(InputError, match="floating-point pixels"):
        load_picture(Image.new("F", (3, 3)))


def test_one_picture_or_several() -> None:
    assert is_picture(PIXELS)
    assert not is_picture(PIXELS[None])
    assert is_picture(Image.new("L", (2, 2)))
    assert is_picture(FromElsewhere(PIXELS))
    assert not is_picture([PIXELS])
    assert not is_picture(iter([PIXELS]))
