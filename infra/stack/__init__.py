"""The local stack: PostgreSQL, Airflow and MLflow on this machine, kept running by a supervisor.

`python -m infra.stack up|status|restart|down|clean`; everything it writes is below the state folder.
"""
