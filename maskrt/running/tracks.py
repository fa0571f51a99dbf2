"""Instances followed through the frames of a film: one number for one thing, as long as it is seen.

ByteTrack, by the package `trackers`: boxes are matched with the motion of those before, the
confident ones first, then the weak ones with what is left. Each label has a tracker of its own, so
that a track never changes its class, and numbers are given in the order in which tracks begin.

A thing has its number from the second frame in which it is found on, which keeps what flashes up
once from having one. It keeps it while it is hidden for up to a second.

Source: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV
2022.
"""

import itertools
from typing import Any

import numpy as np

from ..core import Instances, require

__all__ = ["NO_TRACK", "Tracks", "check_tracker"]

NO_TRACK = 0
_WEAK = 0.1  # the paper's: below it a box is background
_LEAST_OVERLAP = 0.1  # IoU of a box with where its track was expected
_BUFFER = 30  # frames at 30 a second: the package scales it to the film's rate
_PURPOSE = "track instances through a film"


def check_tracker() -> None:
    """Raise `MissingDependencyError` if there is no tracker."""
    require("trackers", _PURPOSE)


class Tracks:
    """The tracks of one film, told its frames in order."""

    def __init__(self, *, rate: float, min_score: float = 0.5) -> None:
        """Begin without a track.

        Args:
            rate: frames a second.
            min_score: a track begins with an instance of this score; weaker ones only prolong it.

        Raises:
            MissingDependencyError: the package is not installed.
        """
        self._byte_track = require("trackers", _PURPOSE).ByteTrackTracker
        self._detections = require("supervision", _PURPOSE).Detections
        self._rate, self._min_score = rate, min_score
        self._by_label: dict[int, Any] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self._free = itertools.count(NO_TRACK + 1)

    def follow(self, found: Instances) -> np.ndarray:
        """Return the number of each instance's track, int64 `[N]`; `NO_TRACK` where it has none."""
        tracks = np.full(len(found), NO_TRACK, np.int64)
        seen = found.scores >= _WEAK
        for label in sorted({*self._by_label, *map(int, found.labels[seen])}):
            at = np.flatnonzero(seen & (found.labels == label))
            given = self._detections(
                xyxy=np.asarray(found.boxes[at], np.float32),
                confidence=np.asarray(found.scores[at], np.float32), data={"at": at},
            )  # fmt: skip
            tracked = self._tracker(label).update(given)
            for index, number in zip(tracked.data.get("at", ()), tracked.tracker_id, strict=True):
                if number >= 0:
                    tracks[index] = self._number(label, int(number))
        return tracks

    def _tracker(self, label: int) -> Any:
        if label not in self._by_label:
            self._by_label[label] = self._byte_track(
                lost_track_buffer=_BUFFER, frame_rate=self._rate,
                track_activation_threshold=self._min_score,
                high_conf_det_threshold=self._min_score, minimum_iou_threshold=_LEAST_OVERLAP,
            )  # fmt: skip
        return self._by_label[label]

    def _number(self, label: int, theirs: int) -> int:
        """Return our number of a label's track: each label's tracker counts for itself."""
        if (label, theirs) not in self._numbers:
            self._numbers[label, theirs] = next(self._free)
        return self._numbers[label, theirs]
