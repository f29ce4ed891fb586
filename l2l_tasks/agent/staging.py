"""The code of an optimizee at the site: unpacked once per content, checked, never changed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import Dict, Mapping, Optional

from . import files
from .errors import AgentError
from .pool import remove_tree

MOST_BYTES = 256 * 1024 * 1024
MOST_FILES = 10000


def fingerprint(contents: Mapping[str, bytes]) -> str:
    """SHA-256 over names and contents; the same as that of a code bundle of the controller."""
    total = hashlib.sha256()
    for name in sorted(contents):
        total.update(("%d:%s:%d:" % (len(name.encode()), name, len(contents[name]))).encode())
        total.update(contents[name])
    return total.hexdigest()


def stage(folder: Path, archive: Optional[str]) -> bool:
    """Unpack `archive` (base64 of a gzipped tar) as `folder`, whose name is the fingerprint, unless it is
    there.

    Returns:
        Whether the code is there now.

    Raises:
        AgentError: the archive is damaged, too large, or not what its fingerprint says.
    """
    if folder.is_dir() or archive is None:
        return folder.is_dir()
    contents = unpack(archive)
    if fingerprint(contents) != folder.name:
        raise AgentError(
            "transient", "the code arrived damaged (its fingerprint is not %s): stage it again" % folder.name
        )
    temporary = folder.with_name(".%s.%d.tmp" % (folder.name, os.getpid()))
    remove_tree(temporary)
    try:
        for name, content in contents.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            files.write_atomic(temporary / name, content)
        os.rename(str(temporary), str(folder))
    except OSError:
        if not folder.is_dir():  # else somebody else was quicker
            raise
    finally:
        remove_tree(temporary)
    files.sync_folder(folder.parent)
    return True


def unpack(archive: str) -> Dict[str, bytes]:
    """The files of an archive, by relative path. AgentError for anything but plain files inside."""
    try:
        data = base64.b64decode(archive, validate=True)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
            return _contents(tar)
    except (binascii.Error, tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise AgentError(
            "transient", "the archive of the code is damaged (%s): stage it again" % error
        ) from error


def _contents(tar: tarfile.TarFile) -> Dict[str, bytes]:
    contents: Dict[str, bytes] = {}
    total = 0
    for member in tar:
        path = PurePosixPath(member.name)
        if not member.isfile() or path.is_absolute() or ".." in path.parts or not path.parts:
            raise AgentError(
                "user", "the code holds %s, which is no plain file of the code folder" % member.name
            )
        total += member.size
        if total > MOST_BYTES or len(contents) >= MOST_FILES:
            raise AgentError(
                "user", "the code is larger than %d bytes or %d files" % (MOST_BYTES, MOST_FILES)
            )
        stream = tar.extractfile(member)
        assert stream is not None  # it is a plain file
        contents[str(path)] = stream.read()
    return contents
