"""Shows campaign files with mistakes as Airflow's import error of this file. Defines no DAG.

A file of its own, because Airflow forbids triggering any DAG of a file that has an import error: one
mistyped campaign must not stop the others.
"""

from l2l_tasks.dag import read_campaigns
from l2l_tasks.errors import SpecError

problems = read_campaigns()[1]
if problems:
    raise SpecError(problems)
