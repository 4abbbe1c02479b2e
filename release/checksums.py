"""Write SHA256SUMS beside what is released: ``python release/checksums.py DIST``."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

dist = Path(sys.argv[1])
released = sorted(path for path in dist.iterdir() if path.suffix in (".whl", ".gz", ".json"))
lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in released]
(dist / "SHA256SUMS").write_text("\n".join([*lines, ""]), encoding="utf-8")
print(*lines, sep="\n")
