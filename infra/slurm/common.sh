# shellcheck shell=bash
# Shared by up.sh and down.sh: the knobs, and how to look at and stop a daemon. Sourced, not run.

# Everything lives below this folder: configuration, state, logs, keys, the account's home.
LAB=${LAB:-/var/lib/l2l-slurm}
# The ordinary account that jobs and SSH sessions run as. Made by up.sh, key-only.
LAB_LOGIN=${LAB_LOGIN:-l2l}
SLURM_CONF=$LAB/etc/slurm.conf
export SLURM_CONF
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s slurm lab: %s\n' "$(date +%T)" "$*"; }
die() { printf 'slurm lab: %s\n' "$*" >&2; exit 1; }

# running NAME PIDFILE: is the process of the pid file alive, and really that program?
running() {
  local pid
  pid=$(cat "$2" 2>/dev/null) || return 1
  [ -n "$pid" ] || return 1
  case $(cat "/proc/$pid/comm" 2>/dev/null) in "$1"*) ;; *) return 1 ;; esac
  ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}

# stop NAME PIDFILE SECONDS: ask politely, wait, then kill.
stop() {
  local name=$1 file=$2 tries=$(($3 * 10)) pid
  if running "$name" "$file"; then
    pid=$(cat "$file")
    kill -CONT "$pid" 2>/dev/null || true            # a frozen process takes no other signal
    kill "$pid" 2>/dev/null || true
    while [ "$tries" -gt 0 ] && running "$name" "$file"; do sleep 0.1; tries=$((tries - 1)); done
    if running "$name" "$file"; then kill -9 "$pid" 2>/dev/null || true; fi
    say "stopped $name ($pid)"
  fi
  rm -f "$file"
}

# One up or down at a time; the lock file is outside LAB, which `down.sh wipe` deletes.
take_lock() {
  [ "$(id -u)" = 0 ] || die "must run as root: it starts daemons under several accounts"
  mkdir -p "$(dirname "$LAB")"
  exec 9>"$LAB.lock"
  flock -w 600 9 || die "another up.sh or down.sh has been busy with $LAB for 10 minutes"
}
