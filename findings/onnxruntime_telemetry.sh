#!/usr/bin/env bash
# Package: onnxruntime 1.32.0.
#
# One would guess: importing an inference library on Linux writes nothing, and telemetry is a matter
# of the Windows builds, or is switched off by disable_telemetry_events().
#
# Seen: `import onnxruntime` alone writes an identifier of the device and a database of events to
# the user's cache folder. The first event, ProcessInfo, is there before any session: processor
# model, memory, operating system, container or not, the name of the program. Calling
# disable_telemetry_events() after the import comes too late; ORT_DISABLE_TELEMETRY=1 before it
# keeps the folder empty, and so does CI=true: a check in CI that nothing is left behind passes,
# and proves nothing about a device. (Whether and when events are sent is not looked at here.)
#
# Why it matters: a device in a customer's plant gets an identity that nobody asked for, and files
# in a home folder that may be read-only or counted. Set the variable before the import, in the
# service's environment.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    onnxruntime==1.32.0 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import os
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path

IMPORT = "import onnxruntime"
LATE = "import onnxruntime; onnxruntime.disable_telemetry_events()"
FACTS = (b"ProcessInfo", b"cpuModel", b"osDescription", b"containerType", b"totalMemoryMB")


def files_after(name: str, program: str, **variables: str) -> list[Path]:
    """Run `program` with an empty home and few variables; return the files that it leaves."""
    home = Path(name).resolve()
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **variables}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    files = sorted(path for path in home.rglob("*") if path.is_file())
    print(f"{name}: {[str(path.relative_to(home)) for path in files]}")
    return files


plain = files_after("import", IMPORT)
late = files_after("disabled_after_import", LATE)
early = files_after("disabled_before_import", IMPORT, ORT_DISABLE_TELEMETRY="1")
in_ci = files_after("in_ci", IMPORT, CI="true")

assert plain, "the import leaves nothing now"
device = uuid.UUID(next(path for path in plain if path.name == "deviceid").read_text())
(database,) = (path for path in plain if path.suffix == ".db")
events = sqlite3.connect(database).execute("SELECT payload FROM events").fetchall()
named = [fact.decode() for fact in FACTS if any(fact in payload for (payload,) in events)]
print(f"a device id of version {device.version}; {len(events)} event(s), which name {named}")
assert "ProcessInfo" in named
assert any(path.name == "deviceid" for path in late), (
    "disabling after the import is early enough now"
)
assert early == []
assert in_ci == []
PYTHON
