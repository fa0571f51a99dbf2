"""The version and the JSON schema of `report.json`.

The schema is `report.schema.json` beside this file (JSON Schema, draft 2020-12); a reader of
reports needs nothing else. A change that an older reader would misunderstand gets a new version.
"""

import json
from pathlib import Path
from typing import Any

__all__ = ["FORMAT_VERSION", "report_schema"]

FORMAT_VERSION = 2


def report_schema() -> dict[str, Any]:
    """Return the schema of a report."""
    return json.loads((Path(__file__).parent / "report.schema.json").read_text(encoding="utf-8"))
