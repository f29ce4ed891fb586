"""Airflow reads its configuration when it is imported: a folder of its own, before any test imports it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

if "AIRFLOW_HOME" not in os.environ:
    home = tempfile.mkdtemp(prefix="l2l-airflow-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["AIRFLOW_HOME"] = home
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
