"""From an Airflow connection to an OpenSSH configuration file."""

from __future__ import annotations

import base64
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2l_tasks.connections import ConnectionInfo
from l2l_tasks.errors import SitePermanentError

REFUSED = {
    "no_host_key_check": "host keys are always checked: give host_key or known_hosts",
    "allow_host_key_change": "a changed host key always stops: give the new host_key",
    "private_key": "keys stay in files: give key_file",
    "private_key_passphrase": "passphrases stay in an ssh agent: give identity_agent",
}
# What Airflow's form leaves in fields that nobody filled in.
EMPTY = (None, "", False, "false", "False")


@dataclass(frozen=True)
class Endpoint:
    """Where and how to log in. Every path may start with `~`.

    Attributes:
        host: name, address, or alias in `ssh_config`.
        key_file: private key; its passphrase, if any, is the business of an agent.
        host_key: pinned host key(s) of the host, one `type base64` per line.
        known_hosts: file instead of host_key, or beside it for the key of a jump host.
        ssh_config: a user's own OpenSSH configuration; multiplexing and host key checks stay ours.
        proxy_jump: as ssh's ProxyJump.
        identity_agent: socket of the ssh agent, when it is not the one of the environment.
        control_path: socket of a connection that a person opens; then no login is ever made here.
    """

    host: str
    port: int | None = None
    login: str | None = None
    key_file: str | None = None
    host_key: str | None = None
    known_hosts: str | None = None
    ssh_config: str | None = None
    proxy_jump: str | None = None
    identity_agent: str | None = None
    control_path: str | None = None


EXTRAS = tuple(name for name in Endpoint.__dataclass_fields__ if name not in ("host", "port", "login"))


@dataclass(frozen=True)
class Timing:
    """Seconds and counts of the OpenSSH client.

    Attributes:
        connect: until TCP and the key exchange are done.
        login: until the whole login is done.
        alive_interval, alive_count: a dead connection is noticed after their product.
        persist: idle seconds after which the shared connection is closed.
        first_pause, longest_pause: of the back-off between failed logins.
    """

    connect: int = 20
    login: float = 60.0
    alive_interval: int = 15
    alive_count: int = 3
    persist: int = 4 * 3600
    first_pause: float = 1.0
    longest_pause: float = 300.0


def endpoint(info: ConnectionInfo) -> Endpoint:
    """Read an Airflow connection.

    Raises:
        SitePermanentError: it is insecure, incomplete or says something that is not understood.
    """
    given = {key: value for key, value in info.extra.items() if value not in EMPTY}
    problems = [f"extra.{key}: {why}" for key, why in REFUSED.items() if key in given]
    if info.password:
        problems.append("password: only keys are used: remove it and give key_file")
    unknown = sorted(set(given) - set(EXTRAS) - set(REFUSED))
    if unknown:
        problems.append(f"extra: {', '.join(unknown)} not understood; known are {', '.join(EXTRAS)}")
    texts = {"host": info.host, "login": info.login or "", **_texts(given)}
    problems += [f"{k}: a line break or a quote is not allowed" for k, v in texts.items() if _unsafe(k, v)]
    if not re.fullmatch(r"[A-Za-z0-9_.:][A-Za-z0-9_.:-]*", info.host):
        problems.append(f"host: {info.host!r} is not a host name, an address or an alias")
    if not any(given.get(k) for k in ("host_key", "known_hosts", "ssh_config")):
        problems.append(
            "extra.host_key: the host key is not pinned. Get it with `ssh-keyscan`, compare it with what the "
            "site publishes, and give it as `type base64` (or give a known_hosts file)"
        )
    if "proxy_jump" in given and not (given.get("known_hosts") or given.get("ssh_config")):
        problems.append("extra.known_hosts: a jump host has a host key, too: give a file with both")
    key_file = given.get("key_file")
    if isinstance(key_file, str) and not os.path.isfile(os.path.expanduser(key_file)):
        problems.append(f"extra.key_file: there is no file {key_file}")
    if problems:
        raise SitePermanentError(f"connection {info.id!r}: " + "; ".join(problems))
    return Endpoint(info.host, info.port, info.login, **{k: str(given[k]) for k in EXTRAS if k in given})


def _texts(given: Mapping[str, Any]) -> dict[str, str]:
    return {f"extra.{key}": str(given[key]) for key in EXTRAS if key in given}


def _unsafe(name: str, value: str) -> bool:
    lines = value.splitlines() if name == "extra.host_key" else [value]
    return any(re.search(r'["\n\r\0]', line) for line in lines)


def known_hosts_text(where: Endpoint) -> str:
    """The known_hosts lines of the pinned host keys.

    Raises:
        SitePermanentError: a line is not a public key.
    """
    name = where.host if where.port in (None, 22) else f"[{where.host}]:{where.port}"
    lines = [line.split() for line in (where.host_key or "").splitlines() if line.strip()]
    return "".join(f"{name} {key_type(words)} {words[-1 if len(words) == 1 else 1]}\n" for words in lines)


def key_type(words: list[str]) -> str:
    """The type of a host key given as `type base64 [comment]` or as base64 alone (the key names its type).

    Raises:
        SitePermanentError: it is not a public key, or the type given is not the key's.
    """
    encoded = words[0] if len(words) == 1 else words[1]
    try:
        blob = base64.b64decode(encoded, validate=True)
        (length,) = struct.unpack(">I", blob[:4])
        found = blob[4 : 4 + length].decode("ascii")
        if length == 0 or len(found) != length:
            raise ValueError("it is cut")
    except (ValueError, struct.error) as error:
        raise SitePermanentError(
            f"extra.host_key: {' '.join(words)[:40]!r} is not a public key (`type base64`): {error}"
        ) from error
    if len(words) > 1 and words[0] != found:
        raise SitePermanentError(f"extra.host_key: the key is a {found}, not a {words[0]}")
    return found


def config_text(where: Endpoint, timing: Timing, pinned: Path) -> str:
    """The configuration file. A file, and not options, because a jump host's ssh reads it, too.

    Args:
        pinned: where the known_hosts lines of `host_key` are.
    """
    own = {"Port": where.port, "User": where.login, "ProxyJump": where.proxy_jump}
    known = [pinned] if where.host_key else []
    if where.known_hosts and (where.proxy_jump or not known):
        known.append(Path(os.path.expanduser(where.known_hosts)))
    common: dict[str, object] = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": " ".join(f'"{path}"' for path in known) or None,
        "GlobalKnownHostsFile": "/dev/null" if known else None,
        "UpdateHostKeys": "no",
        "IdentityFile": where.key_file,
        "IdentitiesOnly": "yes" if where.key_file else None,
        "IdentityAgent": where.identity_agent,
        "ConnectTimeout": timing.connect,
        "ConnectionAttempts": 1,
        "ServerAliveInterval": timing.alive_interval,
        "ServerAliveCountMax": timing.alive_count,
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "RemoteCommand": "none",
        "RequestTTY": "no",
        "EscapeChar": "none",
    }
    lines = ["# Written by l2l; changes are overwritten.", f"Host {where.host}", *_lines(own)]
    lines += ["Host *", *_lines(common)]
    if where.ssh_config:
        lines.append(f'  Include "{os.path.expanduser(where.ssh_config)}"')
    return "\n".join(lines) + "\n"


def _lines(options: Mapping[str, object]) -> list[str]:
    """One line per option; the first value that ssh finds counts, so no included file undoes these."""
    # Quotes only where they are needed: RemoteCommand and ProxyJump would take them for a part of the value.
    texts = {key: str(value) for key, value in options.items() if value is not None}
    return [
        f'  {key} "{text}"' if " " in text and '"' not in text else f"  {key} {text}"
        for key, text in texts.items()
    ]
