"""What mkdocs does beside reading pages: the changelog is a page, programs get llms.txt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
WRITTEN: list[str] = []
"""The lines of llms.txt, from the navigation of the build that runs."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make the changelog a page: it stands where everybody looks for it, above docs."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    files.append(File.generated(config, "changelog.md", content=text.replace("](docs/", "](")))
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Keep the order of the pages for llms.txt."""
    del config, files
    WRITTEN[:] = [line for item in nav.items for line in listed(item)]
    return nav


def listed(item: Any, level: int = 2) -> list[str]:
    if isinstance(item, Section):
        below = [line for child in item.children for line in listed(child, level + 1)]
        return ["", f"{'#' * level} {item.title}", "", *below] if level == 2 else below
    if isinstance(item, Page):
        return [f"- {{{item.file.src_uri}}}"]
    return []


SUMMARIES: dict[str, str] = {}


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep what a page says of itself: its title, where it is, and its first paragraph."""
    del files
    title = re.search(r"^# (.+)$", markdown, re.MULTILINE)
    paragraphs = re.findall(r"^(?![#<\[!`|:-])\S.*(?:\n\S.*)*", markdown.partition("\n")[2], re.MULTILINE)
    about = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", " ".join(paragraphs[0].split())) if paragraphs else ""
    address = f"{config.site_url or ''}{page.url or 'index.html'}"
    name = (title[1] if title else str(page.title)).replace("`", "")
    SUMMARIES[page.file.src_uri] = f"[{name}]({address}): {about}".rstrip(": ")
    return markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Write llms.txt: what the documentation has, for programs that read."""
    head = [f"# {config.site_name}", "", f"> {config.site_description}"]
    lines = [re.sub(r"\{(.+)\}", lambda found: SUMMARIES[found[1]], line) for line in WRITTEN]
    Path(config.site_dir, "llms.txt").write_text("\n".join([*head, *lines, ""]), encoding="utf-8")
