"""MLflow tracking, fed from the outbox: one run per campaign, one step per generation.

MLflow never holds anything that PostgreSQL does not, and a campaign never waits for it.
Importing this package costs two seconds (MLflow): import it only where something is logged.
"""

from l2l_tasks.tracking.drain import drain
from l2l_tasks.tracking.tracker import Tracker

__all__ = ["Tracker", "drain"]
