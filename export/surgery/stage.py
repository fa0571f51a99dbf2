"""The export stage for ONNX files: foreign graph → canonical graph, manifest, reference."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from ...core import InputSpec, Manifest, UnsupportedModelError, UsageError, command
from ...core.masks import MaskPaste
from .alignment import lost_alignment
from .batched import batched_graph
from .canonical import canonical_graph
from .declined import Declined, Finding, Notes
from .detr import DetrHead
from .fold import fold
from .graph import Graph
from .normalisation import (
    NAME,
    UNSAID,
    Normalisation,
    NormalisationUnknown,
    normalisation_beside,
    normalisation_of,
)
from .one_pass import OnePass, given_choice, is_one_pass, one_pass_detector
from .one_pass_graph import one_pass_graph
from .other_detectors import check_not_chosen, check_one_pass
from .paste import Told, paste_of, told_paste
from .plugin_graph import PluginDetector, has_plugins, plugin_detector, write_plugin_detector
from .plugin_reference import PluginReference
from .preprocess import Preprocessing, read_preprocessing
from .published import PublishedReference
from .pyramid import find_pools
from .reference import OnnxReference
from .source import Source, load_source
from .suppression import find_suppressions
from .two_stage import TwoStage, pool_words, pools_rule, recognise

__all__ = ["Examination", "OnnxExport", "examine", "export_onnx"]

FAMILY = "onnx_two_stage"


@dataclass(frozen=True)
class OnnxExport:
    """What the export stage hands on; see `export/stage.py`."""

    model: onnx.ModelProto
    manifest: Manifest
    reference: OnnxReference | PluginReference | PublishedReference


@dataclass(frozen=True)
class Examination:
    """What the rules say of a graph.

    Attributes:
        nodes: how many the file has.
        folded: how many are left after folding.
        findings: what was recognised.
        declined: the checks that declined, the one that stopped surgery first.
        stages: the detector, or None; also None for one of TensorRT's plugins.
        warning: why the file may not be the model that it was exported from, or None.
        normalised: whether it is known, or need not be, how pictures are normalised before the
            graph; if not, mean and std must be given with it.
        paste: how its masks come into the picture, and why; None for a detector without masks.
    """

    nodes: int
    folded: int
    findings: tuple[Finding, ...]
    declined: tuple[Declined, ...]
    stages: TwoStage | None
    warning: str | None = None
    normalised: bool = True
    paste: Told | None = None


def examine(path: Path | str) -> Examination:
    """Return what surgery recognises in the file `path`, and where it stops.

    Raises:
        InputError, UnsupportedModelError: the file cannot be read.
    """
    source = load_source(path)
    graph, notes = fold(source.model), Notes()
    stages, declined, normalised, paste = None, [], True, None
    outside = normalisation_beside(Path(path)) or UNSAID
    if source.hints.writer:
        notes.add("metadata", f"written as {source.hints.writer}", ())
    try:
        found = _recognised(graph, notes, outside, source)
        _written(Path(path), graph, found, source, 1)
        stages = found if isinstance(found, TwoStage) else None
        normalised = found.preprocessing.told is not None
        paste = None if isinstance(found, OnePass) else told_paste(found)
    except Declined as error:
        declined = [error, *_further(graph, error, outside)]
        if not notes.findings:
            _note_pools(graph, notes)
    except UsageError as error:
        declined = [Declined("metadata", str(error).rstrip("."))]
    return Examination(
        source.nodes, len(graph.nodes), tuple(notes.findings), tuple(declined), stages,
        None if stages is None else lost_alignment(stages),
        normalised,
        paste,
    )  # fmt: skip


def _recognised(
    graph: Graph,
    notes: Notes,
    outside: Normalisation | None,
    source: Source,
    given: Mapping[str, Any] | None = None,
) -> TwoStage | PluginDetector | OnePass:
    if has_plugins(graph):
        return plugin_detector(graph, notes, outside)
    if source.outputs or is_one_pass(graph):
        check_not_chosen(graph)
        return one_pass_detector(
            graph, notes, source.hints, outside=outside, outputs=source.outputs, given=given,
            precision=source.precision,
        )  # fmt: skip
    check_one_pass(graph, source.hints)
    return recognise(graph, notes, outside)


def _written(
    file: Path, graph: Graph, found: TwoStage | PluginDetector | OnePass, source: Source, batch: int
) -> onnx.ModelProto:
    if isinstance(found, OnePass) and isinstance(found.head, DetrHead) and batch > 1:
        return batched_graph(file, source, found, batch)
    if isinstance(found, OnePass):
        return one_pass_graph(graph, found, batch)
    if isinstance(found, PluginDetector):
        return write_plugin_detector(graph, found, batch)
    return canonical_graph(graph, found, batch)


def _note_pools(graph: Graph, notes: Notes) -> None:
    """Note the pyramids, which are recognised whatever else is not."""
    try:
        for pool in find_pools(graph):
            notes.add(pools_rule(pool), pool_words(pool), pool.nodes)
    except Declined:
        return  # `_further` says so


def _further(graph: Graph, first: Declined, outside: Normalisation) -> list[Declined]:
    """Return what else declines: the rules that need no other one's findings."""
    found = []
    for rule in (find_pools, find_suppressions, lambda g: read_preprocessing(g, outside)):
        try:
            rule(graph)
        except Declined as error:
            if str(error) != str(first):
                found.append(error)
    return found


def export_onnx(
    path: Path | str,
    *,
    input_size: tuple[int, int] | None = None,
    batch: int = 1,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channel_order: str | None = None,
    paste: MaskPaste | None = None,
    outputs: str | None = None,
    head: Mapping[str, Any] | None = None,
) -> OnnxExport:
    """Rewrite the ONNX file `path` to a canonical graph.

    Args:
        path: the file.
        input_size: `(height, width)`; None takes the file's own, the only one that it was made for.
        batch: pictures a call.
        class_names: one a label, background included.
        mean: of pictures from 0 to 255, a number a channel in the network's order, for a graph that
            takes normalised pictures; None takes it from `pipeline.json` beside the file.
        std: the same.
        channel_order: `"rgb"` or `"bgr"`, what the network takes; None is rgb beside a mean, and
            else what the graph's means or `pipeline.json` say.
        paste: how masks come into the picture; None goes by the file's structure (`paste.py`).
        outputs: what the outputs of a detector of one pass are, `"yolo-seg=PREDICTIONS,PROTOTYPES"`
            or `"detr-seg=BOXES,SCORES,MASKS"`; None recognises them.
        head: what of its choice and of its input is not its family's own: see `given_choice`.

    Raises:
        InputError: the file cannot be read.
        UsageError: another size than the file's, a wrong number of names, nobody says how
            pictures are normalised, or the graph does it itself and they do, or a paste for a file
            without masks or with another of its own.
        UnsupportedModelError: no detector was recognised; says which check declined and why.
    """
    file = Path(path)
    source = load_source(file, outputs)
    graph, notes = fold(source.model), Notes()
    said = given_choice(**head or {})
    try:
        normalisation = normalisation_of(file, mean, std, channel_order)
        found = _recognised(graph, notes, normalisation, source, said)
        if isinstance(found, OnePass):
            _check_one_pass_arguments(file, paste)
        elif said:
            raise UsageError(
                f"{' and '.join(said)} is for detectors of one pass, as YOLO and DETR are, and "
                f"{file} is another one: leave it out."
            )
        _check_size(file, found.preprocessing, input_size)
        spec = _spec(found, batch)
        model = _written(file, graph, found, source, batch)
    except NormalisationUnknown as error:
        raise UsageError(
            f"{file} takes pictures that are normalised already, and no {NAME} beside it says how: "
            "give mean= and std= of pictures from 0 to 255, and channel_order=, all as in the "
            "configuration that the model was trained with, or let mmdeploy write that file with "
            "--dump-info."
        ) from error
    except Declined as error:
        raise UnsupportedModelError(
            f"{file} is not understood: {error}; {command('maskrt', 'inspect', file)} shows what "
            "was recognised."
        ) from error
    if mean is not None and not found.preprocessing.outside:
        raise UsageError(
            f"{file} normalises its pictures itself, with the mean and std that it was exported "
            "with: leave mean= and std= out."
        )
    names = _own_names(found) if class_names is None else tuple(class_names)
    classes = found.detections.classes if isinstance(found, TwoStage) else found.classes
    if names is not None and len(names) != classes:
        raise UsageError(
            f"class_names has {len(names)} names, and the model {classes} classes, background "
            "included."
        )
    about = _about(file, notes)
    if isinstance(found, TwoStage) and (warning := lost_alignment(found)) is not None:
        about["warning"] = warning
    if isinstance(found, OnePass):
        about |= {"labels": classes - 1, "choice": asdict(found.choice)}
        manifest = Manifest(
            found.family, spec, _shapes(model), names, source=about, mask_frame=found.mask_frame
        )
        return OnnxExport(model, manifest, PublishedReference(file, found))
    manifest = Manifest(
        FAMILY, spec, _shapes(model), names, source=about, mask_paste=paste_of(found, paste)
    )
    if isinstance(found, PluginDetector):
        return OnnxExport(model, manifest, PluginReference(file, found))
    return OnnxExport(model, manifest, OnnxReference(file, found, spec))


def _spec(found: TwoStage | PluginDetector | OnePass, batch: int) -> InputSpec:
    """Return how pictures come to the canvas of `found`."""
    height, width = found.preprocessing.size
    red, green, blue = (round(255 * m) for m in found.preprocessing.mean_rgb)
    if not isinstance(found, OnePass):
        return InputSpec(height, width, batch, (red, green, blue))
    outside = found.outside
    fill = outside.fill or (red, green, blue)
    return InputSpec(height, width, batch, fill, outside.placing, outside.resampling)


def _own_names(found: TwoStage | PluginDetector | OnePass) -> tuple[str, ...] | None:
    """Return the class names that a file says, background included, or None."""
    if not isinstance(found, OnePass) or found.class_names is None:
        return None
    missing = found.classes - len(found.class_names)
    return (*("background",) * missing, *found.class_names)


def _check_one_pass_arguments(file: Path, paste: MaskPaste | None) -> None:
    if paste is not None:
        raise UsageError(
            f"paste is {paste}, and masks of {file} lie over the whole picture: leave it out."
        )


def _check_size(file: Path, how: Preprocessing, wanted: tuple[int, int] | None) -> None:
    own = how.size
    if wanted is not None and tuple(wanted) != own:
        raise UsageError(
            f"{file} was exported for pictures of {own[0]} x {own[1]} (height x width), which its "
            f"sizes and anchors are computed for, and input_size is {wanted[0]} x {wanted[1]}: "
            "leave it out, or export the model anew at that size."
        )


def _about(file: Path, notes: Notes) -> dict[str, object]:
    return {
        "model": str(file),
        "versions": {"onnx": onnx.__version__},
        "weights": None,
        "onnx": {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
        "surgery": [{"rule": f.rule, "found": f.text} for f in notes.findings],
    }


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {
        output.name: tuple(d.dim_value for d in output.type.tensor_type.shape.dim)
        for output in model.graph.output
    }
