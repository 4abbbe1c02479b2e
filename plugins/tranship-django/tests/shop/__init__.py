"""A tiny Django project: one app, SQLite, and tasks on SQLite."""
