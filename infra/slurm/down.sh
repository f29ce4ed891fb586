#!/usr/bin/env bash
# Stops what up.sh started, by pid, newest layer first. Idempotent.
#
#   infra/slurm/down.sh         stop; jobs, accounting and keys are kept for the next up.sh
#   infra/slurm/down.sh wipe    stop, then delete the folder and the account, and those of the tests' own lab
#
# Knobs: LAB, LAB_LOGIN, as for up.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/slurm/common.sh
. "$here/common.sh"

# Shepherds of jobs that outlived their slurmd: only those that were started with our configuration.
stop_shepherds() {
  local comm pid jobs
  for comm in /proc/[0-9]*/comm; do
    pid=${comm#/proc/}; pid=${pid%/comm}
    [ "$(cat "$comm" 2>/dev/null)" = slurmstepd ] || continue
    # kill -9 of a shepherd leaves its job running; its children are the job.
    if { tr '\0' '\n' <"/proc/$pid/environ"; } 2>/dev/null | grep -qx "SLURM_CONF=$SLURM_CONF"; then
      read -r -a jobs <<<"$(cat "/proc/$pid/task/$pid/children" 2>/dev/null || true)"
      kill -9 "$pid" "${jobs[@]}" 2>/dev/null || true
    fi
  done
}

main() {
  local file
  [ -d "$LAB" ] || return 0
  if running slurmctld "$LAB/run/slurm/slurmctld.pid"; then
    timeout 5 scancel -u "$LAB_LOGIN" >/dev/null 2>&1 || true
  fi
  for file in "$LAB"/run/slurmd-*.pid; do
    if [ -e "$file" ]; then stop slurmd "$file" 5; fi
  done
  stop_shepherds
  stop slurmctld "$LAB/run/slurm/slurmctld.pid" 20
  stop slurmdbd "$LAB/run/slurm/slurmdbd.pid" 20
  stop mariadbd "$LAB/run/mysqld.pid" 20
  stop munged "$LAB/run/munge/pid" 5
  stop sshd "$LAB/run/sshd.pid" 5
}

wipe() {
  local home group
  home=$(getent passwd "$LAB_LOGIN" | cut -d: -f6) || home=""
  case $home in                                      # the account is ours only when it lives in the lab
    "$LAB"/*)
      for pid in $(ps -o pid= -u "$LAB_LOGIN" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
      userdel "$LAB_LOGIN" ;;
  esac
  for group in /sys/fs/cgroup/*/slurm_node*; do
    if [ -d "$group" ]; then find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true; fi
  done
  rm -rf --one-file-system "${LAB:?}"
  say "wiped $LAB"
  # The lab that tests break things in (tests/support/slurm.py).
  if [ -d "$LAB-faults" ]; then LAB="$LAB-faults" LAB_LOGIN="$LAB_LOGIN-faults" "$here/down.sh" wipe; fi
}

case ${1:-} in
  --locked) main ;;                                  # called by up.sh, which holds the lock
  "") take_lock; main 9>&- ;;
  wipe) take_lock; main 9>&-; wipe ;;
  *) die "unknown argument '$1' (nothing, or wipe)" ;;
esac
