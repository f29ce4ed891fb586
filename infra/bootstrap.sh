#!/usr/bin/env bash
# Makes everything that runs from this clone: the state folder .l2l, its Python environment
# .l2l/venv with the pinned requirements, and the environments in which simulators run
# (.l2l/envs/<name>). Does nothing, quickly, when nothing has changed.
#
#   infra/bootstrap.sh [run|dev]      dev adds what tests, lint and types need
#
# Settings (environment): L2L_HOME    the state folder (default: .l2l in this repository)
#                         L2L_PYTHON  the Python to use (default: the first of 3.11 to 3.13)
#                         L2L_ENVS    simulator environments to make (default: nest; "" = none)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
profile=${1:-run}
case $profile in run) requirements=requirements.txt ;; dev) requirements=requirements-dev.txt ;;
  *) echo "bootstrap: unknown profile '$profile' (run or dev)" >&2; exit 2 ;; esac

say() { printf 'bootstrap: %s\n' "$*"; }
die() { printf 'bootstrap: %s\n' "$*" >&2; exit 1; }

# Can every account walk down to this folder? The embedded PostgreSQL refuses root, so below
# a closed folder such as /root its unprivileged account could not reach its own files.
open_to_all() {
  local folder=$1
  while [ "$folder" != / ]; do
    case $(stat -c %a "$folder") in *[1357]) ;; *) return 1 ;; esac
    folder=$(dirname "$folder")
  done
}

state_folder() {
  if [ -n "${L2L_HOME:-}" ]; then home=$L2L_HOME; mkdir -p "$home"; return; fi
  home=$PWD/.l2l
  if [ -L "$home" ]; then
    mkdir -p "$(readlink -m "$home")"
  elif [ ! -d "$home" ]; then
    if [ "$(id -u)" = 0 ] && ! open_to_all "$PWD"; then
      local target
      target=/var/lib/l2l/$(basename "$PWD")-$(printf %s "$PWD" | sha256sum | cut -c1-8)
      mkdir -p "$target"; chmod 755 /var/lib/l2l "$target"
      ln -s "$target" "$home"
      say "this folder is closed to other accounts: state goes to $target (.l2l links to it)"
    else
      mkdir "$home"; chmod 755 "$home"
    fi
  fi
}

# A system interpreter first: it stays where it is and every account can run it.
find_python() {
  local candidate
  for candidate in ${L2L_PYTHON:-/usr/bin/python3 python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      python=$(command -v "$candidate"); return
    fi
  done
  die "no Python 3.11 to 3.13 among: ${L2L_PYTHON:-/usr/bin/python3, python3 in PATH}." \
      "Install one (Debian 12, Ubuntu 24.04: apt-get install python3) or name it in L2L_PYTHON."
}

get_uv() {                        # uv by whatever way this machine offers
  rm -rf "$home/tools"
  if "$python" -m venv "$home/tools" >"$home/tools.log" 2>&1; then
    "$home/tools/bin/pip" install -q --disable-pip-version-check uv && uv=$home/tools/bin/uv && return
  fi
  rm -rf "$home/tools"
  "$python" -m pip install -q --disable-pip-version-check --target "$home/tools" uv 2>>"$home/tools.log" \
    && uv=$home/tools/bin/uv
}

find_uv() {
  for uv in "$(command -v uv || true)" "$home/tools/bin/uv"; do
    if [ -n "$uv" ] && "$uv" --version >/dev/null 2>&1; then return; fi
  done
  say "fetching the installer (uv)"
  get_uv && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "this Python has neither venv nor pip: installing python3-venv"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=600 update -qq
    apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends python3-venv >/dev/null
    get_uv && return
  fi
  tail -n 5 "$home/tools.log" >&2 || true
  die "cannot make a Python environment with $python. Ask for 'apt-get install python3-venv'," \
      "or install uv for this account, then run make again."
}

digest() { { "$python" -VV; printf '%s\n' "$python" "$PWD"; cat "$@"; } | sha256sum | cut -d' ' -f1; }

# made FOLDER STAMP: true when FOLDER was made from exactly these inputs and still runs.
made() { [ "$(cat "$1/.made-from" 2>/dev/null)" = "$2" ] && "$1/bin/python" -c '' 2>/dev/null; }

fresh_environment() {
  find_uv
  ln -sfn "$uv" "$home/uv"                                   # for whoever makes environments later
  if ! "$1/bin/python" -c '' 2>/dev/null; then rm -rf "$1"; fi
  [ -d "$1" ] || "$uv" venv -q --python "$python" "$1"
}

control_environment() {
  local stamp stamp_dev folder=$home/venv
  stamp=$(digest requirements.txt pyproject.toml)
  stamp_dev=$(digest requirements.txt requirements-dev.txt pyproject.toml)
  if made "$folder" "$stamp_dev"; then return; fi          # more than asked for is fine
  if [ "$profile" = dev ]; then stamp=$stamp_dev; elif made "$folder" "$stamp"; then return; fi
  say "installing the pinned requirements ($profile) into $folder"
  fresh_environment "$folder"
  VIRTUAL_ENV=$folder "$uv" pip install -q -r "$requirements"
  VIRTUAL_ENV=$folder "$uv" pip install -q --no-deps -e .
  echo "$stamp" >"$folder/.made-from"
}

simulator_environment() {
  local name=$1 list=optimizees/environments/$1.txt folder=$home/envs/$1 stamp
  [ -f "$list" ] || die "no list of packages $list for the environment '$name'"
  stamp=$(digest "$list")
  if made "$folder" "$stamp"; then return; fi
  say "installing the environment '$name' into $folder"
  mkdir -p "$home/envs"
  fresh_environment "$folder"
  VIRTUAL_ENV=$folder "$uv" pip install -q -r "$list"
  echo "$stamp" >"$folder/.made-from"
}

state_folder
exec 9>"$home/bootstrap.lock"                              # two at once would mix their files
flock 9
find_python
control_environment
for name in ${L2L_ENVS-nest}; do simulator_environment "$name"; done
