#!/usr/bin/env bash
# Style, types, Python 3.8 for what runs at the sites, and no way for anything executable to come back from one.
#
#   PYTHON=.l2l/venv/bin/python infra/lint.sh FOLDER...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
status=0
check() { printf 'lint: %s\n' "$1"; shift; "$@" || status=1; }

# Tests may write a pickle, to see that it is refused.
no_pickle() {
  local modules='pickle|_pickle|cPickle|dill|cloudpickle|marshal|shelve|joblib|jsonpickle'
  ! grep -rnE --include='*.py' \
    "^[[:space:]]*(import|from)[[:space:]]+($modules)\b|allow_pickle[[:space:]]*=[[:space:]]*True|read_pickle\(" \
    --exclude-dir=tests "$@"
}

site_code=(l2l_tasks/agent optimizees optimizers/__init__.py optimizers/space.py)

check "ruff" "$python" -m ruff check --quiet --output-format=concise "$@"
check "mypy --strict" "$python" -m mypy --strict --no-error-summary "$@"
check "Python 3.8 at the site (vermin)" "$(dirname "$python")/vermin" --quiet --no-tips --violations -t=3.8- "${site_code[@]}"
check "no pickle" no_pickle "$@"
exit "$status"
