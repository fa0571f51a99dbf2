"""Which engines are deserialised, on whose word, and what is said of the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import maskrt
from maskrt.core import Bundle, InputError, Precision, Target, UntrustedError, UsageError
from maskrt.runtime import open_backend, open_session
from maskrt.runtime.trust import check_trusted

from ...built import note_built
from .bundles import PLAN, make, pretend_gpu

RTX = Target.parse("rtx")


@pytest.fixture
def opened(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, dict[str, Any]]]:
    return pretend_gpu(monkeypatch)


OPENERS: dict[str, Callable[..., Any]] = {
    "open_backend": lambda path, **more: open_backend(path, "rtx", **more),
    "open_session": lambda path, **more: open_session(path, "rtx", **more),
    "load": lambda path, **more: maskrt.load(path, **more),
    "load rtx": lambda path, **more: maskrt.load(path, "rtx", **more),
    "bench": lambda path, **more: maskrt.bench(path, target="rtx", runs=1, **more),
}


@pytest.mark.parametrize("name", OPENERS)
def test_an_engine_from_elsewhere_is_opened_on_the_users_word_alone(
    name: str, opened: list[Any], tmp_path: Path
) -> None:
    bundle = make(tmp_path / "so lo.maskrt")
    with pytest.raises(UntrustedError) as error:
        OPENERS[name](bundle.path)
    assert opened == []
    assert str(error.value) == (
        f"engines/rtx in {bundle.path} was not built on this machine, it is not signed, and an "
        f"engine is machine code: build it here with maskrt build '{bundle.path}' --target rtx"
        f"{' --precision fp16' if 'precision' in str(error.value) else ''}, or, if you trust "
        "whoever built it, say so with trust=True."
    )
    OPENERS[name](bundle.path, trust=True)
    assert [plan for plan, _ in opened] == [PLAN]


@pytest.mark.parametrize("name", OPENERS)
def test_an_engine_that_was_built_here_is_opened_unasked(
    name: str, opened: list[Any], tmp_path: Path
) -> None:
    note_built(PLAN)
    OPENERS[name](make(tmp_path / "b.maskrt").path)
    assert [plan for plan, _ in opened] == [PLAN]


def test_one_changed_byte_is_another_engine(opened: list[Any], tmp_path: Path) -> None:
    note_built(PLAN)
    changed = PLAN[:-1] + b"x"  # by somebody who writes its digests into the bundle as well
    with pytest.raises(UntrustedError, match="was not built on this machine"):
        open_backend(make(tmp_path / "b.maskrt", changed), "rtx")
    assert opened == []


def test_the_refusal_is_a_builtin_error_too(elsewhere: Path, tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        check_trusted(make(tmp_path / "b.maskrt"), RTX, None)


def test_an_engine_of_another_precision_has_its_own_command(
    opened: list[Any], tmp_path: Path
) -> None:
    bundle = make(tmp_path / "b.maskrt")
    with bundle.edit() as staged:
        for name in ("engine.trt", "engine.json"):
            staged.write(f"engines/rtx@int8/{name}", bundle.read(f"engines/rtx/{name}"))
        staged.remove("engines/rtx/")
    with pytest.raises(UntrustedError, match=r"engines/rtx@int8 .* --target rtx --precision int8,"):
        open_backend(bundle, "rtx", Precision.INT8)


def _full(path: Path, *, portable: bool, form: str = "aot") -> Bundle:
    """Make a bundle with an engine of full TensorRT."""
    bundle = make(path)
    with bundle.edit() as staged:
        staged.write("engines/gpu/engine.trt", PLAN)
        staged.write("engines/gpu/engine.json", {
            "backend_version": "1.7.1", "sms": [89], "form": form,
            "options": {"version_compatible": portable},
        })  # fmt: skip
    return bundle


@pytest.mark.parametrize("trust", [False, True])
def test_host_code_is_let_run_by_the_record_or_the_user_and_never_by_the_bundle(
    trust: bool, opened: list[Any], tmp_path: Path
) -> None:
    note_built(PLAN, "gpu")  # these bytes, and without host code
    open_backend(_full(tmp_path / "a.maskrt", portable=False), "gpu")
    assert opened[0][1]["portable"] is False
    asking = _full(tmp_path / "b.maskrt", portable=True)
    if trust:
        open_backend(asking, "gpu", trust=True)
        assert opened[1][1]["portable"] is True
        return
    with pytest.raises(UntrustedError, match="here without host code, which its"):
        open_backend(asking, "gpu")
    note_built(PLAN, "gpu", version_compatible=True)
    open_backend(asking, "gpu")
    assert opened[1][1]["portable"] is True


def test_graphs_and_engines_that_are_not_there_are_no_matter_of_trust(
    elsewhere: Path, tmp_path: Path
) -> None:
    bundle = make(tmp_path / "b.maskrt")
    check_trusted(bundle, Target.parse("cpu"), None)
    check_trusted(bundle, Target.parse("rtx-120"), None)
    check_trusted(bundle, Target("null", "null"), None)


def test_a_key_that_does_not_exist_is_said(opened: list[Any], tmp_path: Path) -> None:
    pytest.importorskip("minisign")
    with pytest.raises(InputError, match=r"vendor\.pub does not exist"):
        open_backend(make(tmp_path / "b.maskrt"), "rtx", trust=tmp_path / "vendor.pub")
    assert opened == []


@pytest.mark.parametrize("trust", [1, None, b"vendor.pub", ["vendor.pub"]])
def test_a_word_that_is_none_is_no_trust(trust: Any, opened: list[Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be True, False or the path of a public key"):
        open_backend(make(tmp_path / "b.maskrt"), "rtx", trust=trust)
    assert opened == []


def test_nothing_in_a_bundle_gets_into_the_record(
    opened: list[Any], elsewhere: Path, tmp_path: Path
) -> None:
    bundle = make(tmp_path / "b.maskrt", builder="tensorrt_rtx", built="2026-01-01", cached=True)
    open_backend(bundle, "rtx", trust=True)
    with bundle.edit() as staged:
        staged.write("record/x.json", {"sha256": bundle.digests["engines/rtx/engine.trt"]})
    assert not elsewhere.exists()
    with pytest.raises(UntrustedError):
        open_backend(bundle, "rtx")  # a word for one call is for that call
