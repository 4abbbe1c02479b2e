"""Thin shapes of other systems, so that their users change an import and nothing else."""
