#!/usr/bin/env bash
# Brings up a real Slurm (munge, slurmdbd with MariaDB, slurmctld, several slurmd) and a real sshd with an
# ordinary key-only account, all on this one machine (Debian 12, Ubuntu), all below one folder, all on
# 127.0.0.1. Run as root. Idempotent: what is up and unchanged is left alone, what a test broke is mended.
#
#   infra/slurm/up.sh         then:   . /var/lib/l2l-slurm/site.env
#                                     ssh -F "$SLURM_LAB_SSH_CONFIG" slurm-lab sinfo
#
# Knobs (environment):
#   LAB=/var/lib/l2l-slurm    where everything lives
#   LAB_LOGIN=l2l             the account
#   LAB_NODES=4 LAB_CPUS=4 LAB_MEMORY=4000   nodes, and the CPUs and MB that each claims (over-subscribed)
#   LAB_TIMEOUT=10            seconds after which Slurm's programs and daemons give up on each other
#   LAB_CGROUP=auto           1: cgroup v1 memory, real OUT_OF_MEMORY; 0: polling, such a job ends FAILED
#   LAB_PYTHON=1              0: do not make the Python environment for jobs ($LAB/python)
#   LAB_ENVS                  a folder with environments of simulators; jobs find it, or a copy, as $LAB/envs
#   UV                        the uv program, where it is not in PATH
#
# Writes $LAB/site.env (shell exports) and $LAB/connection.json (an Airflow connection).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/slurm/common.sh
. "$here/common.sh"
LAB_NODES=${LAB_NODES:-4}; LAB_CPUS=${LAB_CPUS:-4}; LAB_MEMORY=${LAB_MEMORY:-4000}
LAB_CGROUP=${LAB_CGROUP:-auto}; LAB_PYTHON=${LAB_PYTHON:-1}; LAB_TIMEOUT=${LAB_TIMEOUT:-10}
requirements=$here/../../optimizees/environments/nest.txt
sql_socket=$LAB/run/mysql/sock

wait_for() { # wait_for SECONDS COMMAND...
  local tries=$(($1 * 10)); shift
  while ! "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || die "gave up waiting for: $* (see the logs in $LAB/log)"
    sleep 0.1
  done
}
port_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; } # port_open ADDRESS PORT

packages() {
  local wanted missing="" name policy=/usr/sbin/policy-rc.d made=0
  wanted="slurmctld slurmd slurm-client slurmdbd munge openssh-server openssh-client mariadb-server python3"
  # Newer packagings keep the database plugin apart.
  if apt-cache show slurm-wlm-mysql-plugin >/dev/null 2>&1; then wanted="$wanted slurm-wlm-mysql-plugin"; fi
  for name in $wanted; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $name"
  done
  [ -n "$missing" ] || return 0
  say "installing$missing"
  # Keeps the packages from starting system-wide copies of their daemons.
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; made=1; fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get -o DPkg::Lock::Timeout=600 update -qq
  # shellcheck disable=SC2086  # a list of names
  apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends $missing >/dev/null
  if [ "$made" = 1 ]; then rm -f "$policy"; fi
}

# Free ports, remembered so that the address of the lab stays the same; chosen anew when the number of nodes
# changed, or when the lab is down and somebody else has taken one.
choose_ports() {
  local file=$LAB/etc/ports count=$((4 + LAB_NODES)) list
  read -r -a list <<<"$(cat "$file" 2>/dev/null || true)"
  if [ "${#list[@]}" != "$count" ] || { nothing_runs && ! python3 "$here/ports.py" free "${list[@]}"; }; then
    python3 "$here/ports.py" choose "$count" >"$file"
    read -r -a list <"$file"
  fi
  port_ctl=${list[0]}; port_dbd=${list[1]}; port_sql=${list[2]}; port_ssh=${list[3]}
  ports_nodes=("${list[@]:4}")
}
nothing_runs() {
  ! running slurmctld "$LAB/run/slurm/slurmctld.pid" && ! running mariadbd "$LAB/run/mysqld.pid" &&
    ! running sshd "$LAB/run/sshd.pid" && ! running slurmd "$LAB/run/slurmd-node1.pid"
}

folders() {
  umask 022
  mkdir -p "$LAB"/{etc,log,run,state,spool,client,home} "$LAB"/run/{munge,mysql,slurm,dev} /run/sshd
  chmod 755 "$LAB" "$LAB"/{etc,log,run,home}
  mkdir -p "$LAB"/log/{munge,slurm}
  chown munge:munge "$LAB"/run/munge "$LAB/log/munge"
  chown slurm:slurm "$LAB"/run/slurm "$LAB/state" "$LAB/log/slurm"
  chown mysql:mysql "$LAB/run/mysql"
  chmod 700 "$LAB/client"
  [ -s "$LAB/etc/munge.key" ] || (umask 077; head -c 128 /dev/urandom >"$LAB/etc/munge.key")
  chown munge:munge "$LAB/etc/munge.key"; chmod 400 "$LAB/etc/munge.key"
}

account() {
  # '*': no password will ever fit, but sshd does not take the account for a locked one.
  id "$LAB_LOGIN" >/dev/null 2>&1 || useradd -m -d "$LAB/home/$LAB_LOGIN" -s /bin/bash -p '*' "$LAB_LOGIN"
  login_home=$(getent passwd "$LAB_LOGIN" | cut -d: -f6)
  case $login_home in "$LAB"/*) ;; *) die "account $LAB_LOGIN is not the lab's own: choose another LAB_LOGIN" ;; esac
  install -d -m 755 -o "$LAB_LOGIN" -g "$LAB_LOGIN" "$login_home"
  [ -s "$LAB/etc/ssh_host_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C slurm-lab -f "$LAB/etc/ssh_host_ed25519"
  [ -s "$LAB/client/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C l2l -f "$LAB/client/id_ed25519"
  install -d -m 700 -o "$LAB_LOGIN" -g "$LAB_LOGIN" "$login_home/.ssh"
  install -m 600 -o "$LAB_LOGIN" -g "$LAB_LOGIN" "$LAB/client/id_ed25519.pub" "$login_home/.ssh/authorized_keys"
}

# render TEMPLATE TARGET: fill in @NAME@; leaves an unchanged file alone. Sets changed=1 otherwise.
render() {
  sed -e "s|@LAB@|$LAB|g" -e "s|@LOGIN@|$LAB_LOGIN|g" -e "s|@HOST@|$machine|g" \
    -e "s|@ADDRESS@|$address|g" -e "s|@LISTEN@|$listen|g" \
    -e "s|@PORT_CTL@|$port_ctl|g" -e "s|@PORT_DBD@|$port_dbd|g" -e "s|@PORT_SQL@|$port_sql|g" \
    -e "s|@PORT_SSH@|$port_ssh|g" -e "s|@TASK_PLUGIN@|$task_plugin|g" -e "s|@TIMEOUT@|$LAB_TIMEOUT|g" \
    -e "s|@GATHER@|$gather|g" -e "s|@LAST@|node$LAB_NODES|g" "$here/templates/$1" >"$2.new"
}
replace() { # replace TARGET: the rendered file takes its place
  if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; changed=1; fi
}

# Slurm can be told to listen on one address only, which is then that of the machine's own name. Where that
# is not 127.0.0.1 (Debian likes 127.0.1.1, containers an address of the network), the daemons and the SSH
# sessions get a machine name of their own.
find_address() {
  listen=NoInAddrAny,NoCtldInAddrAny under_name=()
  machine=$(uname -n); machine=${machine%%.*}
  address=$(getent ahostsv4 "$(uname -n)" 2>/dev/null | awk 'NR == 1 { print $1 }') || address=""
  [ "$address" != 127.0.0.1 ] || return 0
  address=127.0.0.1
  # shellcheck disable=SC2016  # for the inner shell
  under_name=(unshare --uts sh -c 'hostname localhost && exec "$@"' sh)
  if "${under_name[@]}" true 2>/dev/null; then machine=localhost; return; fi
  under_name=() listen=keepaliveinterval=30          # any harmless option: the line must not be empty
  say "note: $machine is not on 127.0.0.1 and cannot be renamed: the daemons listen on all addresses" \
    "(and take nobody without the key of munge)"
}

configure() {
  local i cgroup=$LAB_CGROUP
  find_address
  if [ "$cgroup" = auto ]; then # in a container only a trial tells
    cgroup=0
    if [ -e /sys/fs/cgroup/memory/memory.limit_in_bytes ] && mkdir /sys/fs/cgroup/memory/l2l_probe 2>/dev/null; then
      rmdir /sys/fs/cgroup/memory/l2l_probe; cgroup=1
    fi
  fi
  if [ "$cgroup" = 1 ]; then task_plugin=task/cgroup gather=UsePss
  else task_plugin=task/none gather=OverMemoryKill,UsePss; fi
  changed=0
  render slurm.conf "$SLURM_CONF"
  for ((i = 1; i <= LAB_NODES; i++)); do
    printf 'NodeName=node%d NodeHostname=node%d NodeAddr=%s Port=%d CPUs=%d RealMemory=%d%s State=UNKNOWN\n' \
      "$i" "$i" "$address" "${ports_nodes[i - 1]}" "$LAB_CPUS" "$LAB_MEMORY" \
      "$([ "$i" = "$LAB_NODES" ] && echo ' Gres=gpu:4')" >>"$SLURM_CONF.new"
  done
  replace "$SLURM_CONF"
  render gres.conf "$LAB/etc/gres.conf"; replace "$LAB/etc/gres.conf"
  if [ "$cgroup" = 1 ]; then render cgroup.conf "$LAB/etc/cgroup.conf"; replace "$LAB/etc/cgroup.conf"
  else rm -f "$LAB/etc/cgroup.conf"; fi
  render slurmdbd.conf "$LAB/etc/slurmdbd.conf"
  chown slurm:slurm "$LAB/etc/slurmdbd.conf.new"; chmod 600 "$LAB/etc/slurmdbd.conf.new"
  replace "$LAB/etc/slurmdbd.conf"
  render sshd_config "$LAB/etc/sshd_config"; replace "$LAB/etc/sshd_config"
  render ssh_config "$LAB/client/ssh_config"; replace "$LAB/client/ssh_config"
  # The GPUs are not real; slurmd only wants character devices.
  for i in 0 1 2 3; do [ -e "$LAB/run/dev/gpu$i" ] || mknod -m 666 "$LAB/run/dev/gpu$i" c 1 3; done
}

# What an earlier experiment froze goes on; a controller that cannot take the new settings is restarted.
mend() {
  local file
  for file in "$LAB"/run/slurm/*.pid "$LAB"/run/*.pid; do
    if [ -s "$file" ]; then kill -CONT "$(cat "$file")" 2>/dev/null || true; fi
  done
  if [ "$changed" = 1 ] && ! nothing_runs; then
    say "the configuration changed: restarting"
    "$here/down.sh" --locked
  fi
}

start_munge() {
  running munged "$LAB/run/munge/pid" && return
  rm -f "$LAB"/run/munge/*
  setpriv --reuid=munge --regid=munge --clear-groups munged --force --key-file="$LAB/etc/munge.key" \
    --socket="$LAB/run/munge/socket" --pid-file="$LAB/run/munge/pid" \
    --log-file="$LAB/log/munge/munged.log" --seed-file="$LAB/run/munge/seed" >>"$LAB/log/start.log" 2>&1
}

start_database() {
  running mariadbd "$LAB/run/mysqld.pid" && return
  if [ ! -d "$LAB/mysql/mysql" ]; then
    rm -rf "$LAB/mysql"; install -d -m 700 -o mysql -g mysql "$LAB/mysql"
    mariadb-install-db --no-defaults --user=mysql --datadir="$LAB/mysql" \
      --auth-root-authentication-method=socket --skip-test-db >"$LAB/log/mariadb-install.log" 2>&1
  fi
  # A throw-away database: no waiting for the disk at every commit.
  setsid mariadbd --no-defaults --user=mysql --datadir="$LAB/mysql" --bind-address=127.0.0.1 \
    --port="$port_sql" --socket="$sql_socket" --pid-file="$LAB/run/mysql/pid" --skip-name-resolve \
    --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=2 \
    --innodb-doublewrite=0 --performance-schema=OFF >>"$LAB/log/mariadb.log" 2>&1 </dev/null &
  echo $! >"$LAB/run/mysqld.pid"
  wait_for 60 mariadb-admin --no-defaults --socket="$sql_socket" ping
  mariadb --no-defaults --socket="$sql_socket" -e "
    CREATE DATABASE IF NOT EXISTS slurm_acct_db;
    CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
    GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';"
}

start_slurmdbd() {
  running slurmdbd "$LAB/run/slurm/slurmdbd.pid" && return
  rm -f "$LAB/run/slurm/slurmdbd.pid"
  "${under_name[@]}" slurmdbd >>"$LAB/log/start.log" 2>&1
  wait_for 60 port_open "$address" "$port_dbd"
}

# Accounts and a small QOS: AccountingStorageEnforce makes Slurm refuse whoever is not entered here. Done
# before the controller starts, which then has them from the beginning.
enter_accounts() {
  local who done_file=$LAB/state/accounts-of-$LAB_LOGIN
  if [ -e "$done_file" ]; then return; fi
  enter add cluster l2llab
  enter add account budget1,budget2 cluster=l2llab
  enter add qos tiny
  enter modify qos tiny set MaxSubmitJobsPerUser=3 MaxJobsPerUser=1 flags=DenyOnLimit
  for who in root "$LAB_LOGIN"; do
    enter add user "$who" account=budget1,budget2 cluster=l2llab defaultaccount=budget1
    enter modify user "$who" set qos=normal,tiny
  done
  sacctmgr -n -P show assoc user="$LAB_LOGIN" format=account,qos | grep -qx 'budget2|normal,tiny' ||
    die "the accounts could not be entered (see $LAB/log/start.log)"
  touch "$done_file"
}
# "It is there already" is exit status 1 as well: what counts is looked at in the end.
enter() { sacctmgr -i -Q "$@" >>"$LAB/log/start.log" 2>&1 || true; }

start_slurm() {
  local i
  if ! running slurmctld "$LAB/run/slurm/slurmctld.pid"; then
    rm -f "$LAB/run/slurm/slurmctld.pid"
    "${under_name[@]}" slurmctld -i >>"$LAB/log/start.log" 2>&1 # -i: an absent saved state is no error
    wait_for 60 port_open "$address" "$port_ctl"
  fi
  for ((i = 1; i <= LAB_NODES; i++)); do
    mkdir -p "$LAB/spool/node$i"
    running slurmd "$LAB/run/slurmd-node$i.pid" ||
      "${under_name[@]}" slurmd -N "node$i" >>"$LAB/log/start.log" 2>&1
  done
}

# By the full state: sinfo's own selection takes a drained node for an idle one.
nodes_idle() {
  [ "$(sinfo -h -N -p batch -o %T | grep -cxE 'idle|mixed|allocated|completing|reserved')" = "$LAB_NODES" ]
}
resume_nodes() {
  local name state
  sinfo -h -N -p batch -o '%N %T' | while read -r name state; do
    case $state in down* | drain* | fail* | inval*)
      scontrol update nodename="$name" state=resume || true ;; # a moment too early is no harm
    esac
  done
}
# slurmdbd tells the controller about new accounts a moment later.
accounts_known() { scontrol show assoc_mgr users="$LAB_LOGIN" flags=assoc | grep -q budget2; }
ready() { resume_nodes; nodes_idle && accounts_known; }

start_sshd() {
  local sshd
  sshd=$(command -v sshd)                            # sshd wants its absolute path
  running sshd "$LAB/run/sshd.pid" ||
    "${under_name[@]}" "$sshd" -f "$LAB/etc/sshd_config" -E "$LAB/log/sshd.log"
  wait_for 20 port_open 127.0.0.1 "$port_ssh"
  printf '[127.0.0.1]:%s %s\n' "$port_ssh" "$(cut -d' ' -f1,2 "$LAB/etc/ssh_host_ed25519.pub")" >"$LAB/client/known_hosts"
}

# An environment that the account can read, made from the system's Python: root's own may be closed to it.
make_python() {
  local stamp uv log=$LAB/log/python.log
  [ "$LAB_PYTHON" = 1 ] || return 0
  stamp=$(sha256sum <"$requirements" | cut -d' ' -f1)
  [ "$(cat "$LAB/python/.made-from" 2>/dev/null)" != "$stamp" ] || return 0
  uv=${UV:-$(command -v uv || true)}
  [ -n "$uv" ] || die "uv is needed for the jobs' Python and is not in PATH: set UV=/path/to/uv, or LAB_PYTHON=0"
  rm -rf "$LAB/python"
  if ! { "$uv" venv --python /usr/bin/python3 "$LAB/python" &&
    UV_LINK_MODE=copy "$uv" pip install --python "$LAB/python/bin/python" -r "$requirements"; } >"$log" 2>&1; then
    tail -5 "$log" >&2
    die "the jobs' Python environment could not be made (log: $log)"
  fi
  chmod -R a+rX "$LAB/python"
  echo "$stamp" >"$LAB/python/.made-from"
}

# The simulators' environments: a link where the account can follow it, else a copy (of links, if possible).
share_environments() {
  local envs
  [ -d "${LAB_ENVS:-}" ] || return 0
  envs=$(readlink -f "$LAB_ENVS")
  rm -rf "$LAB/envs"
  if runuser -u "$LAB_LOGIN" -- ls "$envs" >/dev/null 2>&1; then
    ln -s "$envs" "$LAB/envs"
  else
    cp -al "$envs" "$LAB/envs" 2>/dev/null || { rm -rf "$LAB/envs" && cp -a "$envs" "$LAB/envs"; }
    chmod -R a+rX "$LAB/envs"
  fi
}

write_connection() {
  local host_key
  host_key=$(cut -d' ' -f1,2 "$LAB/etc/ssh_host_ed25519.pub")
  (
    umask 077
    cat >"$LAB/connection.json" <<-EOF
	{"conn_type": "ssh", "host": "127.0.0.1", "port": $port_ssh, "login": "$LAB_LOGIN", "extra": {"key_file": "$LAB/client/id_ed25519", "known_hosts": "$LAB/client/known_hosts", "host_key": "$host_key"}}
	EOF
    cat >"$LAB/site.env" <<-EOF
	export LAB='$LAB' SLURM_CONF='$SLURM_CONF'
	export SLURM_LAB_HOST=127.0.0.1 SLURM_LAB_PORT=$port_ssh SLURM_LAB_USER='$LAB_LOGIN'
	export SLURM_LAB_KEY='$LAB/client/id_ed25519' SLURM_LAB_KNOWN_HOSTS='$LAB/client/known_hosts'
	export SLURM_LAB_SSH_CONFIG='$LAB/client/ssh_config' SLURM_LAB_SSH_ALIAS=slurm-lab
	export SLURM_LAB_HOME='$login_home' SLURM_LAB_PYTHON='$LAB/python/bin/python'
	export AIRFLOW_CONN_L2L_SLURM_LAB='$(cat "$LAB/connection.json")'
	EOF
  )
}

main() {
  local python_pid
  packages
  folders
  make_python & python_pid=$!                        # takes longest the first time: beside the rest
  choose_ports
  account
  configure
  mend
  start_munge
  start_database
  start_slurmdbd
  enter_accounts
  start_slurm
  start_sshd
  share_environments
  write_connection
  wait_for 60 ready
  ssh -F "$LAB/client/ssh_config" slurm-lab true || die "cannot log in (see $LAB/log/sshd.log)"
  wait "$python_pid" || exit 1
  say "up: $LAB_NODES nodes, sshd on 127.0.0.1:$port_ssh; settings in $LAB/site.env"
}

take_lock
main 9>&-                                            # daemons must not inherit the lock
