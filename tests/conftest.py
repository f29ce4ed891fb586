"""Fixtures shared by all tests live in tests/support, one plugin per real service."""

pytest_plugins = [
    "tests.support.postgres",
    "tests.support.slurm",
    "tests.support.mlflow",
    "tests.support.local_site",
    "tests.support.stack",
]
