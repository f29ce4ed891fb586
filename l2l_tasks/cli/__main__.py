"""`python -m l2l_tasks.cli`: the same as `l2l`."""

from l2l_tasks.cli import main

main()
