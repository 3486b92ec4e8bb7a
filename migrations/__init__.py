"""Alembic migrations of Phiscope's database."""
