"""Signatures: what minisign itself wrote, what it reads of ours, and what is refused as forged."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import maskrt
from maskrt.core import Bundle, BundleError, InputError, UntrustedError, UsageError
from maskrt.runtime import open_backend
from maskrt.runtime.trust.signed import SIGNATURE, STATEMENT, find_signed

from ...built import note_built
from .bundles import PLAN, make, pretend_gpu
from .minisign_wrote import KEY, LEGACY, MANIFEST, PUBLIC, SECRET, SECRET_WITH_PASSWORD
from .minisign_wrote import SIGNATURE as WRITTEN

minisign = pytest.importorskip("minisign")
PROGRAM = os.environ.get("MINISIGN") or shutil.which("minisign")


@pytest.fixture
def opened(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return pretend_gpu(monkeypatch)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    (tmp_path / "vendor.pub").write_text(PUBLIC)
    return tmp_path / "vendor.pub"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "vendor.key").write_text(SECRET)
    return tmp_path / "vendor.key"


@pytest.fixture
def signed(tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle that was built and signed on another machine."""
    monkeypatch.setattr("maskrt.runtime.trust.record._noted", {})
    bundle = make(tmp_path / "b.maskrt")
    assert maskrt.sign(bundle, key=secret, trust=True) == KEY
    return bundle


def _as_minisign_wrote(path: Path, signature: str) -> Bundle:
    bundle = make(path)
    assert (path / "manifest.json").read_text() == MANIFEST
    (path / "signed").mkdir()
    (path / STATEMENT).write_text(MANIFEST)
    (path / SIGNATURE).write_text(signature)
    return bundle


@pytest.mark.parametrize("signature", [WRITTEN, LEGACY], ids=["hashed", "legacy"])
def test_what_minisign_wrote_is_verified(
    signature: str, opened: list[Any], public: Path, tmp_path: Path
) -> None:
    bundle = _as_minisign_wrote(tmp_path / "b.maskrt", signature)
    found = maskrt.verify(bundle, key=public)
    assert (found.key, found.files) == (KEY, 3)
    assert found.comment.startswith("timestamp:1800000000")
    open_backend(bundle, "rtx", trust=public)
    assert [plan for plan, _ in opened] == [PLAN]


def test_a_signed_engine_is_opened_and_another_is_not(
    opened: list[Any], signed: Bundle, public: Path
) -> None:
    with pytest.raises(UntrustedError, match="it is signed, and you trust no key, and an engine"):
        open_backend(signed, "rtx")
    assert opened == []
    open_backend(signed, "rtx", trust=public)
    assert [plan for plan, _ in opened] == [PLAN]


def test_a_key_in_the_users_folder_is_trusted_in_every_call(
    opened: list[Any], signed: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "config" / "maskrt" / "trusted-keys"
    folder.mkdir(parents=True)
    key = minisign.KeyPair.generate().public_key
    (folder / "another.pub").write_bytes(bytes(key))
    with pytest.raises(UntrustedError, match=f"signed by the key {KEY}, which is none of those"):
        open_backend(signed, "rtx")
    (folder / "vendor.pub").write_text(PUBLIC)
    open_backend(signed, "rtx")
    assert maskrt.verify(signed).key == KEY
    (folder / "vendor.pub").chmod(0o666)
    with pytest.raises(InputError, match=r"others may write to .*vendor\.pub.*chmod go-w"):
        open_backend(signed, "rtx")
    assert len(opened) == 1


def test_another_key_with_the_same_number_does_not_do(
    opened: list[Any], signed: Bundle, tmp_path: Path
) -> None:
    """The number is eight bytes that anybody may write in front of a key of his own."""
    import base64

    own = base64.b64decode(minisign.KeyPair.generate().public_key.to_base64())
    vendor = base64.b64decode(PUBLIC.splitlines()[1])
    forged = tmp_path / "forged.pub"
    forged.write_bytes(b"untrusted comment: x\n" + base64.b64encode(vendor[:10] + own[10:]))
    with pytest.raises(UntrustedError, match="its signature is not valid"):
        open_backend(signed, "rtx", trust=forged)
    assert opened == []


def _flip(path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize("position", [0, 40, 200, -2])
def test_one_bit_of_the_signed_manifest(
    position: int, opened: list[Any], signed: Bundle, public: Path
) -> None:
    _flip(signed.path / STATEMENT, position)
    with pytest.raises(UntrustedError, match="its signature is not valid"):
        open_backend(signed, "rtx", trust=public)
    assert opened == []


def test_every_bit_of_a_signatures_lines_counts(
    opened: list[Any], signed: Bundle, public: Path
) -> None:
    """But for the untrusted comment, which is called so."""
    file = signed.path / SIGNATURE
    good = file.read_bytes()
    for position in range(good.index(b"\n") + 1, len(good) - 1, 7):
        _flip(file, position)
        assert isinstance(find_signed(signed, public), str), position
        file.write_bytes(good)
    assert not isinstance(find_signed(signed, public), str)


@pytest.mark.parametrize("content", [b"", b"x", b"\n\n\n\n", b"\xff" * 99, b"a\nb\nc\nd\n"])
def test_what_is_no_signature_is_none(
    content: bytes, opened: list[Any], signed: Bundle, public: Path
) -> None:
    (signed.path / SIGNATURE).write_bytes(content)
    with pytest.raises(UntrustedError, match="its signature is not valid"):
        open_backend(signed, "rtx", trust=public)


@pytest.mark.parametrize("name", ["engine.trt", "engine.json"])
def test_an_engine_that_was_exchanged_after_the_signature(
    name: str, opened: list[Any], signed: Bundle, public: Path
) -> None:
    """Whoever exchanges it writes its digest into the manifest, and no signature of it."""
    other = {**signed.read_json("engines/rtx/engine.json"), "note": "another"}
    with signed.edit() as staged:
        staged.write(f"engines/rtx/{name}", other if name == "engine.json" else b"another plan")
    with pytest.raises(UntrustedError, match=f"its {name} is not the one that the key {KEY} has"):
        open_backend(signed, "rtx", trust=public)
    with pytest.raises(UntrustedError, match=f"engines/rtx/{name} is not the file that the key"):
        maskrt.verify(signed, key=public)
    assert opened == []


def test_a_signature_covers_what_engine_json_says_of_host_code(
    opened: list[Any], public: Path, secret: Path, tmp_path: Path
) -> None:
    bundle = make(tmp_path / "b.maskrt")
    info = {"backend_version": "1.7.1", "sms": [89], "form": "aot"}
    with bundle.edit() as staged:
        staged.write("engines/gpu/engine.trt", PLAN)
        staged.write("engines/gpu/engine.json", {**info, "options": {"version_compatible": True}})
    maskrt.sign(bundle, key=secret, trust=True)
    open_backend(bundle, "gpu", trust=public)
    assert opened[0][1]["portable"] is True
    with bundle.edit() as staged:
        staged.write("engines/gpu/engine.json", {**info, "options": {}})
    maskrt.sign(bundle, key=secret, trust=True)
    with bundle.edit() as staged:
        staged.write("engines/gpu/engine.json", {**info, "options": {"version_compatible": True}})
    with pytest.raises(UntrustedError, match=r"its engine\.json is not the one"):
        open_backend(bundle, "gpu", trust=public)
    assert len(opened) == 1


def test_a_signature_of_another_bundle(
    opened: list[Any], signed: Bundle, public: Path, tmp_path: Path
) -> None:
    other = make(tmp_path / "c.maskrt", b"another plan")
    shutil.copytree(signed.path / "signed", other.path / "signed")
    with pytest.raises(UntrustedError, match=r"its engine\.trt is not the one"):
        open_backend(other, "rtx", trust=public)


def test_another_manifest_is_not_the_signed_one(
    opened: list[Any], signed: Bundle, public: Path
) -> None:
    with signed.edit() as staged:
        staged.update(class_names=("background", "ball"))
    told = f"its manifest is not the one that the key {KEY} has signed"
    with pytest.raises(UntrustedError, match=told):
        open_backend(signed, "rtx", trust=public)
    with pytest.raises(UntrustedError, match=told):
        maskrt.verify(signed, key=public)


def test_a_signed_text_that_is_no_manifest(
    opened: list[Any], signed: Bundle, public: Path, secret: Path
) -> None:
    key = minisign.SecretKey.from_file(secret)
    (signed.path / STATEMENT).write_bytes(b"[]")
    (signed.path / SIGNATURE).write_bytes(bytes(key.sign(b"[]")))
    with pytest.raises(UntrustedError, match="is no manifest of maskrt"):
        open_backend(signed, "rtx", trust=public)


def test_a_bundle_goes_on_living_and_what_was_signed_stays_so(
    opened: list[Any], signed: Bundle, public: Path, tmp_path: Path
) -> None:
    with signed.edit() as staged:
        staged.write("report/report.json", {"AP": 1})
        staged.write("engines/rtx-89/engine.trt", b"built here later")
    found = maskrt.verify(Bundle.open(signed.path), key=public)
    assert found.added == ("engines/rtx-89/engine.trt", "report/report.json")
    assert (found.changed, found.left_out, found.files) == ((), (), 3)
    open_backend(Bundle.open(signed.path), "rtx", trust=public)
    assert len(opened) == 1


def test_a_report_may_be_written_anew_and_engines_left_out(
    signed: Bundle, public: Path, secret: Path
) -> None:
    with signed.edit() as staged:
        staged.write("report/report.json", {"AP": 1})
    maskrt.sign(signed, key=secret, trust=True)
    with signed.edit() as staged:
        staged.write("report/report.json", {"AP": 2})
        staged.remove("engines/rtx/")
    found = maskrt.verify(signed, key=public)
    assert found.changed == ("report/report.json",)
    assert found.left_out == ("engines/rtx/engine.json", "engines/rtx/engine.trt")
    with signed.edit() as staged:
        staged.write("model.onnx", b"another graph")
    with pytest.raises(UntrustedError, match=r"model\.onnx is not the file that the key"):
        maskrt.verify(signed, key=public)


def test_a_file_that_was_altered_in_its_place(signed: Bundle, public: Path) -> None:
    (signed.path / "model.onnx").write_bytes(b"grapH")
    with pytest.raises(BundleError, match="sha256"):
        maskrt.verify(signed, key=public)


def test_an_unsigned_bundle_is_not_verified(tmp_path: Path, public: Path, elsewhere: Path) -> None:
    bundle = make(tmp_path / "b.maskrt")
    with pytest.raises(UntrustedError, match=r"no key that you trust vouches .* not signed"):
        maskrt.verify(bundle, key=public)


def test_a_link_in_the_place_of_a_signature_is_refused(signed: Bundle, public: Path) -> None:
    (signed.path / SIGNATURE).rename(signed.path / "moved")
    (signed.path / SIGNATURE).symlink_to(signed.path / "moved")
    with pytest.raises(BundleError, match="symbolic link"):
        maskrt.verify(signed, key=public)


def test_only_what_was_built_here_is_signed_unasked(
    tmp_path: Path, secret: Path, elsewhere: Path
) -> None:
    """Who trusts the key opens the engines, so whoever signs vouches for them."""
    bundle = make(tmp_path / "b.maskrt")
    with pytest.raises(UntrustedError, match="was not built on this machine"):
        maskrt.sign(bundle, key=secret)
    assert not (bundle.path / "signed").exists()
    note_built(PLAN)
    assert maskrt.sign(bundle, key=secret) == KEY


def test_a_damaged_bundle_is_not_signed(tmp_path: Path, secret: Path) -> None:
    bundle = make(tmp_path / "b.maskrt")
    (bundle.path / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="sha256"):
        maskrt.sign(bundle, key=secret, trust=True)


@pytest.mark.parametrize("content", ["", "untrusted comment: x\nAAAA\n", PUBLIC])
def test_what_is_no_secret_key(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.key").write_text(content)
    with pytest.raises(InputError, match=r"x\.key cannot sign"):
        maskrt.sign(make(tmp_path / "b.maskrt"), key=tmp_path / "x.key", trust=True)


def test_what_is_no_public_key(signed: Bundle, secret: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no public key of minisign"):
        maskrt.verify(signed, key=secret)
    with pytest.raises(InputError, match=r"absent\.key does not exist"):
        maskrt.sign(signed, key=tmp_path / "absent.key", trust=True)


def test_without_the_package_the_extra_is_named(
    signed: Bundle, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "minisign", None)
    with pytest.raises(maskrt.MaskrtError, match=r"pip install 'maskrt\[sign\]'"):
        maskrt.verify(signed, key=public)


@pytest.mark.slow
def test_a_key_with_a_password_that_minisign_made(tmp_path: Path) -> None:
    """Its derivation takes 1 GiB and seconds, as minisign's does."""
    (tmp_path / "b.key").write_text(SECRET_WITH_PASSWORD)
    bundle = make(tmp_path / "b.maskrt")
    with pytest.raises(UsageError, match="has a password: give password="):
        maskrt.sign(bundle, key=tmp_path / "b.key", trust=True)
    with pytest.raises(InputError, match="wrong password"):
        maskrt.sign(bundle, key=tmp_path / "b.key", password="guess", trust=True)
    number = maskrt.sign(bundle, key=tmp_path / "b.key", password="secret", trust=True)
    assert number == "C71367BFBC53BD25"


@pytest.mark.skipif(PROGRAM is None, reason="the program minisign is not installed")
def test_the_program_reads_what_we_write_and_we_what_it_writes(
    signed: Bundle, public: Path, secret: Path
) -> None:
    def program(*words: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(PROGRAM), *map(str, words)], capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    statement = signed.path / STATEMENT
    assert statement.read_bytes() == (signed.path / "manifest.json").read_bytes()
    done = program("-Vm", statement, "-p", public)
    assert done.returncode == 0, done.stderr
    assert "Signature and comment signature verified" in done.stdout
    good = statement.read_bytes()
    _flip(statement, 40)
    assert program("-Vm", statement, "-p", public).returncode != 0
    statement.write_bytes(good)
    (signed.path / SIGNATURE).unlink()
    assert program("-Sm", statement, "-s", secret, "-t", "by hand").returncode == 0
    assert maskrt.verify(signed, key=public).comment == "by hand"
