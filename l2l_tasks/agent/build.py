"""The agent as one file, made by the controller: the same sources always give the same bytes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_MAIN = b"import sys\nfrom l2l_tasks.agent.main import main\nsys.exit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build() -> bytes:
    """The zipapp: `python agent.pyz ...` runs `l2l_tasks.agent.main`."""
    contents = {"__main__.py": _MAIN, "l2l_tasks/__init__.py": b""}
    for path in _PACKAGE.rglob("*.py"):
        contents["l2l_tasks/agent/" + path.relative_to(_PACKAGE).as_posix()] = path.read_bytes()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            member = zipfile.ZipInfo(name, _EPOCH)
            member.compress_type, member.external_attr, member.create_system = (
                zipfile.ZIP_DEFLATED,
                0o644 << 16,
                3,
            )
            archive.writestr(member, contents[name])
    return target.getvalue()


def name(content: bytes) -> str:
    """The file name of a zipapp at the site: `<16 hex of its SHA-256>.pyz`."""
    return hashlib.sha256(content).hexdigest()[:16] + ".pyz"
