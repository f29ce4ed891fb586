"""Programs that measure: what Airflow costs, and how good the optimizers are."""
