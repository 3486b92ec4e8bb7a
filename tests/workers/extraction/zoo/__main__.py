"""`cd tests/workers/extraction && python -m zoo` prints what becomes of every archive."""

from zoo.table import rows

if __name__ == "__main__":
    for row in rows():
        residual = "" if row.residual is None else f"{row.residual:.1e}"
        print(f"{row.family:24} {row.archive:36} {row.outcome:36} {residual}")  # noqa: T201 - a command
