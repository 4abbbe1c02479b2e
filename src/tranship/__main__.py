"""``python -m tranship``."""

from tranship.cli import main

main()
