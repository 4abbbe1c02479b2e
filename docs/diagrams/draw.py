"""Draw the diagrams anew: ``python docs/diagrams/draw.py MMDC``, with the command of mermaid-cli, a package of npm.

Each ``NAME.mmd`` becomes ``NAME.light.svg`` and ``NAME.dark.svg``, which pages show; readers load no script for them. A
test sees to it that a drawing is of the source as it is: the first line of each has its checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
THEMES = {
    "light": {
        "primaryColor": "#e0f2f1",
        "primaryBorderColor": "#00796b",
        "tertiaryColor": "#f5f5f5",
        "tertiaryBorderColor": "#bdbdbd",
        "lineColor": "#455a64",
        "textColor": "#212121",
        "edgeLabelBackground": "#f5f5f5",
    },
    "dark": {
        "darkMode": True,
        "background": "#1e2129",
        "primaryColor": "#1f3d3a",
        "primaryBorderColor": "#4db6ac",
        "primaryTextColor": "#e0e0e0",
        "secondaryColor": "#263238",
        "tertiaryColor": "#242a33",
        "tertiaryBorderColor": "#546e7a",
        "lineColor": "#b0bec5",
        "textColor": "#e0e0e0",
        "noteBkgColor": "#37474f",
        "noteTextColor": "#eceff1",
        "noteBorderColor": "#78909c",
        "actorTextColor": "#e0e0e0",
        "signalColor": "#b0bec5",
        "signalTextColor": "#e0e0e0",
        "loopTextColor": "#e0e0e0",
        "labelBoxBkgColor": "#1f3d3a",
        "labelTextColor": "#e0e0e0",
        "edgeLabelBackground": "#242a33",
    },
}


def checksum(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


def draw(mmdc: str, source: Path, theme: str, work: Path) -> None:
    settings = {
        "theme": "base",
        "themeVariables": {"fontFamily": "sans-serif", **THEMES[theme]},
        "htmlLabels": False,
        "flowchart": {"htmlLabels": False, "useMaxWidth": True},
        "sequence": {"useMaxWidth": True, "mirrorActors": False},
    }
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    (work / "mermaid.json").write_text(json.dumps(settings))
    (work / "browser.json").write_text(json.dumps({"executablePath": browser, "args": ["--no-sandbox"]}))
    out = work / "out.svg"
    command = [mmdc, "-i", str(source), "-o", str(out), "-c", str(work / "mermaid.json"), "-b", "transparent"]
    subprocess.run([*command, "-p", str(work / "browser.json"), "--quiet"], check=True, env={**os.environ})
    # A picture has a size of its own, where a page does not give it one.
    box = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', out.read_text("utf-8"))
    assert box
    svg = out.read_text("utf-8").replace('width="100%"', f'width="{float(box[1]):.0f}" height="{float(box[2]):.0f}"', 1)
    svg = re.sub(r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", svg)
    target = source.with_suffix(f".{theme}.svg")
    target.write_text(f"<!-- of {source.name}: {checksum(source)} -->\n{svg}\n", encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        for source in sorted(HERE.glob("*.mmd")):
            for theme in THEMES:
                draw(sys.argv[1], source, theme, Path(work))
                print(source.stem, theme)


if __name__ == "__main__":
    main()
