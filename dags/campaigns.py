"""Every file of campaigns/ (or $L2L_CAMPAIGNS) becomes an Airflow DAG: see l2l_tasks/dag.py.

Files with mistakes are left out here and reported by campaign_errors.py.
"""

from airflow.sdk import get_parsing_context

from l2l_tasks.dag import campaign_dags

for dag in campaign_dags(get_parsing_context().dag_id):
    globals()[dag.dag_id] = dag
