"""`l2l`, the command line."""

from __future__ import annotations

import sys

from l2l_tasks.errors import L2LError, SitePermanentError, SpecError, UserError


def main() -> None:
    """Entry point. Exit status: 0 done, 1 something failed, 2 the person who typed it can mend it."""
    from l2l_tasks.cli.app import app

    try:
        app()
    except SpecError as error:
        count = len(error.problems)
        print(error, file=sys.stderr)
        print(f"l2l: {count} problem{'s' * (count != 1)} found, nothing was done", file=sys.stderr)
        sys.exit(2)
    except (UserError, SitePermanentError) as error:
        print(f"l2l: {error}", file=sys.stderr)
        sys.exit(2)
    except L2LError as error:
        print(f"l2l: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
