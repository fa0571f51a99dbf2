"""Instances drawn, and taken one by one."""

import numpy as np
import pytest

from maskrt.core import Instances, marks
from maskrt.core.marks import Shown, colour_of, draw


def _row(size: tuple[int, int], count: int = 3) -> Instances:
    """Instances beside each other, of classes 1, 2, …, the best first."""
    height, width = size
    masks = np.zeros((count, height, width), bool)
    boxes = np.zeros((count, 4), np.float32)
    for index in range(count):
        left = width * index // count
        right = left + width // (2 * count)
        masks[index, height // 2 : height // 2 + height // 4, left:right] = True
        boxes[index] = left, height // 2, right, height // 2 + height // 4
    return Instances(
        boxes, np.linspace(0.9, 0.6, count, dtype=np.float32), np.arange(count) + 1, size,
        ("background", "cat", "dog", "cow"), masks,
    )  # fmt: skip


def test_classes_have_colours_of_their_own() -> None:
    colours = [colour_of(label) for label in range(1, 22)]
    assert len(set(colours)) == 21
    found = _row((200, 300))
    blank = np.full((200, 300, 3), 255, np.uint8)
    both = found.draw(blank)
    alone = found.select(np.array([1])).draw(blank)
    left, top, right, bottom = found.boxes[1].astype(int)
    np.testing.assert_array_equal(both[top:bottom, left:right], alone[top:bottom, left:right])
    assert tuple(both[bottom - 2, right - 2]) != tuple(both[bottom + 3, right + 3])


def test_tracks_decide_the_colour_and_are_named() -> None:
    found = _row((400, 600), count=1)
    blank = np.full((400, 600, 3), 255, np.uint8)
    outlines = [tuple(found.draw(blank, track_ids=np.array([n]))[200, 50]) for n in (1, 2, 0)]
    assert outlines == [colour_of(1), colour_of(2), (128, 128, 128)]
    assert (found.draw(blank, track_ids=np.array([1])) != found.draw(blank)).any()


def test_letters_and_lines_grow_with_the_picture() -> None:
    heights, widths = [], []
    for scale in (1, 4):
        size = (480 * scale, 640 * scale)
        found = _row(size, count=1)
        drawn = found.draw(np.full((*size, 3), 255, np.uint8))
        coloured = (drawn == colour_of(1)).all(axis=2)
        above = np.flatnonzero(coloured[: size[0] // 2 - 2].any(axis=1))
        heights.append(len(above))
        widths.append(int(coloured[size[0] * 5 // 8, : size[1] // 4].sum()))
    assert heights[0] >= 9
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.2)
    assert widths[1] >= 3 * widths[0]


def test_captions_do_not_hide_each_other() -> None:
    """Four instances at one place: there is room for all captions around them."""
    boxes = np.array([[200, 200, 420, 320]] * 4, np.float32)
    size = (600, 800)
    blank = np.full((*size, 3), 255, np.uint8)
    names = ("one 0.90", "two 0.80", "three 0.70", "four 0.60")
    shown = [
        Shown(box, name, colour_of(1 + i))
        for i, (box, name) in enumerate(zip(boxes, names, strict=True))
    ]
    together = draw(blank, shown, ())
    for entry in shown:
        alone = draw(blank, [entry], ())
        assert _filled(together, entry.colour) >= 0.6 * _filled(alone, entry.colour)


def _filled(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels of a colour outside of the box and its edges."""
    same = (picture == colour).all(axis=2)
    same[199:322, 199:202] = same[199:322, 418:422] = False
    same[199:202, 199:422] = same[318:322, 199:422] = False
    return int(same.sum())


def test_each_instance_and_parts_of_them() -> None:
    found = _row((40, 60))
    assert [one.scores.tolist() for one in found] == [[s] for s in found.scores.tolist()]
    assert found[-1].labels.tolist() == [3]
    assert found[:2].labels.tolist() == [1, 2]
    assert found[[2, 0]].labels.tolist() == [3, 1]
    assert found[found.scores > 0.7].labels.tolist() == [1, 2]
    masks, part = found.masks, found[1].masks
    assert masks is not None
    assert part is not None
    np.testing.assert_array_equal(part, masks[1:2])
    with pytest.raises(IndexError):
        found[3]
    assert found.above(0.7).labels.tolist() == [1, 2]
    assert found.above(0.0) is found


def test_its_line_is_short() -> None:
    found = _row((40, 60))
    assert repr(found) == "<maskrt.Instances: 3 on 40 x 60: cat 0.90, dog 0.75, cow 0.60>"
    many = _row((40, 60), count=9)
    assert repr(many).endswith(", …>")
    assert len(repr(many)) < 100
    assert repr(found[:0]) == "<maskrt.Instances: 0 on 40 x 60>"


@pytest.mark.parametrize("band", [1, 90, 1 << 18])
def test_a_mask_is_mixed_in_pixel_by_pixel_however_it_is_cut(
    band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against each pixel's own arithmetic: a share of the colour inside, the colour at the edge."""
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (30, 40, 3), np.uint8)
    mask = np.zeros((1, 30, 40), bool)
    mask[0, 3:28, 5:33] = True
    mask[0, 10:14, 12:20] = False
    monkeypatch.setattr(marks, "_BAND", band)
    monkeypatch.setattr(marks, "_write", lambda *_: (0.0, 0.0, 0.0, 0.0))  # no caption over it
    crop = Instances(np.zeros((1, 4)), np.ones(1), np.ones(1, int), (30, 40), None, mask).crops
    found = marks.draw(picture, [Shown(np.zeros(4), "", (200, 100, 50))], crop or [])
    for y, x in np.ndindex(29, 39):
        if max(y, x) < 2:
            continue  # the box is there
        expected = picture[y, x].astype(int)
        if mask[0, y, x]:
            near = (mask[0, y - 1, x], mask[0, y + 1, x], mask[0, y, x - 1], mask[0, y, x + 1])
            colour = np.array([200, 100, 50])
            expected = (expected * 141 + colour * 115) // 256 if all(near) else colour
        np.testing.assert_array_equal(found[y, x], expected, err_msg=f"{y}, {x}")
