"""No segmentation reaches native code that was not proven: the guard alone, and what it lets on.

Malformed ones are given to the guard and to nothing else. What it lets on is compared with
pycocotools, and masks with their own pixels.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from maskrt.core import InputError
from maskrt.core.rle import compressed, mask_of, merged_runs
from maskrt.core.rle_text import MOST_PIXELS, read_runs
from maskrt.runtime.check import CocoDataset, CocoEvaluator
from maskrt.runtime.check.segmentation import provable, truth_rle

coco_mask = pytest.importorskip("pycocotools.mask")

SIZE = (30, 40)
PIXELS = 30 * 40
TRIANGLE = [1.0, 2.0, 20.0, 3.0, 5.5, 25.25]


def drawn(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A mask: ellipses, and often noise, which has the shortest runs that there are."""
    y, x = np.ogrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for _ in range(int(rng.integers(0, 3))):
        centre, radius = rng.uniform(0, size), rng.uniform(1, size)
        mask |= (((y, x)[0] - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
    return mask ^ (rng.random(size) < rng.choice([0, 0, 0.02, 0.5]))


def encoded(mask: np.ndarray) -> bytes:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def one(segmentation: Any, size: tuple[int, int] = SIZE) -> Any:
    return provable([segmentation], [size])[0]


def test_our_decoder_reads_what_pycocotools_writes() -> None:
    rng = np.random.default_rng(5)
    masks = [drawn(rng, tuple(rng.integers(1, 60, 2))) for _ in range(600)]
    masks += [np.ones((7, 9), bool), np.zeros((7, 9), bool), np.ones((1, 1), bool)]
    masks += [np.arange(3_000_000).reshape(1500, 2000) > 2_000_001]  # numbers of many groups
    texts = [encoded(mask) for mask in masks]
    read = list(read_runs(texts, [mask.size for mask in masks]))
    lengths = [runs.of(i) for runs in read for i in range(len(runs.valid))]
    assert all(runs.valid.all() and runs.plain.all() for runs in read)
    for mask, own, text in zip(masks, lengths, texts, strict=True):
        np.testing.assert_array_equal(mask_of(own, mask.shape), mask)
        assert compressed(own).encode() == text


def test_a_text_is_judged_alone_among_damaged_ones() -> None:
    rng = np.random.default_rng(6)
    whole = [encoded(drawn(rng, SIZE)) for _ in range(200)]
    texts, expected = [], []
    for text in whole:
        texts += [text, text[:-1] + bytes([text[-1] + 32]), b"", text + b"1"]
        expected += [True, False, False, False]
    found = [valid for runs in read_runs(texts, [PIXELS] * len(texts)) for valid in runs.valid]
    assert found == expected


@pytest.mark.parametrize(
    "text",
    ["", "P", "~~~~", "\x00", "oooooooooooooooo", "0" * 2000, "é", "\ud800", "hello there", " "],
)
def test_texts_that_are_no_mask(text: str) -> None:
    assert one({"size": list(SIZE), "counts": text}) is None


@pytest.mark.parametrize("change", [-1, 1, 1200, -1200, 1 << 20])
def test_runs_that_do_not_fill_the_picture(change: int) -> None:
    for runs in ([100, 50, PIXELS - 150 + change], [PIXELS + change]):
        text = compressed(np.array(runs, np.int64))
        assert one({"size": list(SIZE), "counts": text}) is None
        assert one({"size": list(SIZE), "counts": runs}) is None


def test_runs_that_fill_it_by_going_back() -> None:
    runs = [200, -100, PIXELS - 100]
    assert one({"size": list(SIZE), "counts": compressed(np.array(runs, np.int64))}) is None
    assert one({"size": list(SIZE), "counts": runs}) is None


@pytest.mark.parametrize(
    "counts",
    [
        None, 7, 1.5, True, b"0", [], {}, [[PIXELS]], ["1200"], [None], [True, PIXELS - 1],
        [1199.5, 0.5], [float("nan"), PIXELS], [float("inf")], [10**30], [2**63, PIXELS],
        [0] * PIXELS + [PIXELS, 0],
    ],
)  # fmt: skip
def test_counts_of_another_kind(counts: Any) -> None:
    assert one({"size": list(SIZE), "counts": counts}) is None


@pytest.mark.parametrize(
    "size",
    [None, [], [30], [40, 30], [30, 40, 1], ["30", "40"], [30.0, 40.0], "30x40", (30, 40),
     [True, 40], [30, -40]],
)  # fmt: skip
def test_sizes_that_are_not_the_pictures(size: Any) -> None:
    assert one({"size": size, "counts": [PIXELS]}) is None
    assert one({"size": size, "counts": compressed(np.array([PIXELS]))}) is None


@pytest.mark.parametrize("size", [(0, 40), (-1, -1), (1 << 15, 1 << 14), (10**30, 1)])
def test_pictures_of_no_size_that_a_mask_has(size: tuple[int, int]) -> None:
    pixels = size[0] * size[1]
    assert one([TRIANGLE], size) is None
    assert one({"size": list(size), "counts": [pixels]}, size) is None
    assert pixels > MOST_PIXELS or pixels < 2


@pytest.mark.parametrize(
    "polygons",
    [
        None, "x", 3, [], [[]], [[1, 2, 3, 4]], [[*TRIANGLE, 1]], TRIANGLE, [[TRIANGLE]],
        [{"0": 1}], [None], [["1"] * 6], [[None] * 6], [[True] * 6], [[*TRIANGLE[:5], 10**400]],
        [[*TRIANGLE[:5], float("nan")]], [[*TRIANGLE[:5], float("inf")]],
        [[*TRIANGLE[:5], 1e300]], [[*TRIANGLE[:5], 4 * 30 + 1]], [[-3 * 40 - 1, *TRIANGLE[1:]]],
        [TRIANGLE, [1, 2, 3, 4]],
        [[0, 0, 40, 30, 0, 30] * 400],  # an outline of hundreds of pictures
        [[0, 0, 40, 30, 0, 30]] * 400,
    ],
)  # fmt: skip
def test_polygons_that_are_none(polygons: Any) -> None:
    assert one(polygons) is None


def test_what_is_valid_is_handed_on_as_it_is() -> None:
    rng = np.random.default_rng(7)
    text = encoded(drawn(rng, SIZE)).decode()
    near = [[-119.0, -89.0, 159.0, 5, 10, 119.0]]
    for kept in (
        [TRIANGLE], [TRIANGLE, [1, 2, 3, 4, 5, 6]], near, [[0, 0] * 3],
        {"size": list(SIZE), "counts": text}, {"size": list(SIZE), "counts": [5, 7, PIXELS - 12]},
        {"size": list(SIZE), "counts": [0, PIXELS]},
    ):  # fmt: skip
        assert one(kept) is kept
        assert coco_mask.decode(truth_rle(coco_mask, kept, SIZE)).shape == SIZE


@pytest.mark.parametrize("written", [list, compressed])
def test_runs_with_empty_ones_between_become_plain(written: Any) -> None:
    runs = np.array([0, 0, 3, 0, 0, 5, 7, 0, 4, 2, PIXELS - 21, 0], np.int64)
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    counts = runs.tolist() if written is list else compressed(runs)
    found = one({"size": list(SIZE), "counts": counts})
    plain = merged_runs(runs)
    assert (plain[1:] > 0).all()
    np.testing.assert_array_equal(mask_of(plain, SIZE).ravel(order="F"), pixels)
    decoded = coco_mask.decode(truth_rle(coco_mask, found, SIZE))
    np.testing.assert_array_equal(decoded.ravel(order="F"), pixels)


def test_many_polygons_are_merged_to_the_same_mask() -> None:
    rng = np.random.default_rng(8)
    polygons = [[float(v) for v in np.tile(rng.uniform(0, 30, 2), 3) + rng.uniform(-3, 3, 6)]
                for _ in range(700)]  # fmt: skip
    assert one(polygons, (300, 300)) is polygons
    expected = np.zeros((300, 300), bool)
    for polygon in polygons:
        (rle,) = coco_mask.frPyObjects([polygon], 300, 300)
        expected |= coco_mask.decode(rle).astype(bool)
    merged = truth_rle(coco_mask, polygons, (300, 300))
    assert merged["counts"] == encoded(expected)


def test_the_sentence_counts_them_and_names_the_first(dataset: CocoDataset) -> None:
    entries = [dict(entry) for entry in dataset.annotations]
    entries[1]["segmentation"] = {"size": [120, 120], "counts": "no mask at all"}
    entries[3]["segmentation"] = [[1e9] * 6]
    broken = replace(dataset, annotations=tuple(entries))
    sentence = "2 of the 5 annotations of .* no valid segmentation, the first is in picture 7"
    with pytest.raises(InputError, match=sentence):
        CocoEvaluator(broken, ("box", "mask"))


def test_a_batch_of_texts_costs_no_more_than_their_characters() -> None:
    """Judged some at a time: the result does not depend on where a batch ends."""
    rng = np.random.default_rng(9)
    texts = [encoded(rng.random((90, 90)) < 0.5) for _ in range(60)]  # several batches
    read = list(read_runs(texts, [8100] * 60))
    assert len(read) > 1
    assert sum(int(runs.valid.sum()) for runs in read) == 60
