"""Fixtures shared by all tests live in tests/support, one plugin per real service."""

import os

# Matrices are small here: the threads of a second BLAS on a busy machine only wait for each other.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

pytest_plugins = [
    "tests.support.postgres",
    "tests.support.slurm",
    "tests.support.mlflow",
    "tests.support.local_site",
    "tests.support.stack",
]
