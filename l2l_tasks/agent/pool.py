"""The pool of a campaign: bundles of evaluations that go from todo/ over running/<worker>/ to done/ by
renaming.

A rename is the only claim there is: of several workers that try, the file system lets one succeed. A bundle
is in exactly one folder at any time, so who owns it is never in doubt, whoever dies when.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from . import files
from .results import is_bundle_name, is_key, is_nonce, is_worker_id

CLAIM_WINDOW = 16
"""Workers choose among this many of the oldest bundles, so that they do not all try the same one."""
_GENERATION = re.compile(r"g([0-9]+)-")


class BadBundle(ValueError):
    """A bundle that does not keep to the contract; the text says why."""


@dataclass(frozen=True)
class Bundle:
    """Evaluations that are claimed together.

    Attributes:
        timeout: seconds that one evaluation may take; None: no limit.
        evaluations: {"key", "nonce", "attempt", "params", "task", "seed"} each, "parent" (individual whose
            checkpoint it inherits, or None), and "lost" (how many workers died with it) once that happened.
    """

    name: str
    generation: int
    timeout: Optional[float]
    evaluations: Sequence[Mapping[str, Any]]

    @staticmethod
    def parse(content: Mapping[str, Any]) -> Bundle:
        """Check a bundle as the controller sends it. Raises BadBundle."""
        name, generation, timeout = (content.get(k) for k in ("bundle", "generation", "timeout"))
        evaluations = content.get("evaluations")
        if not isinstance(name, str) or not is_bundle_name(name):
            raise BadBundle("bundle: wrong name %.80r" % (name,))
        if isinstance(generation, bool) or not isinstance(generation, int) or generation < 0:
            raise BadBundle("bundle %s: wrong generation %.80r" % (name, generation))
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0
        ):
            raise BadBundle("bundle %s: wrong timeout %.80r" % (name, timeout))
        if not isinstance(evaluations, list) or not evaluations:
            raise BadBundle("bundle %s: no evaluations" % name)
        for evaluation in evaluations:
            _check_evaluation(name, evaluation)
        if len({e["key"] for e in evaluations}) != len(evaluations):
            raise BadBundle("bundle %s: an evaluation occurs twice" % name)
        return Bundle(name, generation, timeout, evaluations)

    def to_bytes(self) -> bytes:
        return files.to_json(
            {
                "bundle": self.name,
                "generation": self.generation,
                "timeout": self.timeout,
                "evaluations": list(self.evaluations),
            }
        )


def _check_evaluation(name: str, evaluation: Any) -> None:
    if not isinstance(evaluation, dict):
        raise BadBundle("bundle %s: an evaluation is no object" % name)
    numbers = [evaluation.get("attempt"), evaluation.get("seed")]
    if evaluation.get("parent") is not None:
        numbers.append(evaluation["parent"])
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in numbers)
    objects = all(isinstance(evaluation.get(k), dict) for k in ("params", "task"))
    if not (is_key(evaluation.get("key")) and is_nonce(evaluation.get("nonce")) and whole and objects):
        raise BadBundle("bundle %s: wrong evaluation %.200r" % (name, evaluation))


@dataclass(frozen=True)
class Counts:
    """What the pool holds: evaluations waiting, evaluations in claimed bundles, bundles of both sorts."""

    todo: int
    running: int
    bundles: int
    todo_bundles: int
    busy: Set[str]
    """Workers that hold a bundle."""


class Pool:
    """The pool of the campaign in `folder`. Safe for any number of processes on any number of nodes."""

    def __init__(self, folder: Path) -> None:
        self.todo = folder / "pool" / "todo"
        self.running = folder / "pool" / "running"
        self.done = folder / "pool" / "done"
        self.bad = folder / "pool" / "bad"
        self._sizes: Dict[Tuple[str, int], int] = {}

    def create(self) -> None:
        for folder in (self.todo, self.running, self.done, self.bad):
            folder.mkdir(parents=True, exist_ok=True)

    # --- the controller's side (under the campaign's lock) --------------------------------------------------

    def put(self, bundles: Sequence[Bundle]) -> List[str]:
        """Add the bundles that the pool has never seen (or has forgotten); their names."""
        present = self.names()
        added = []
        for bundle in bundles:
            if bundle.name not in present:
                files.write_atomic(self.todo / bundle.name, bundle.to_bytes())
                present.add(bundle.name)
                added.append(bundle.name)
        return added

    def names(self) -> Set[str]:
        """All bundles anywhere in the pool.

        Bundles move todo, running, done, and back to todo when a worker hands them back; looking in that
        order, and at the first two twice, misses none that moves meanwhile.
        """
        found: Set[str] = set()
        for _ in range(2):
            found.update(_names(self.todo))
            for worker in self.workers():
                found.update(_names(self.running / worker))
            found.update(_names(self.done))
        return found

    def forget(self, before: int) -> None:
        """Remove what is left in done/ of generations below `before`."""
        for name in _names(self.done):
            match = _GENERATION.match(name)
            if match and int(match.group(1)) < before:
                with contextlib.suppress(FileNotFoundError):
                    (self.done / name).unlink()

    def counts(self) -> Counts:
        """Cheap enough to be asked every second: a bundle is read once, then known by name and inode."""
        known: Dict[Tuple[str, int], int] = {}
        todo = list(self._sizes_in(self.todo, known))
        running, busy, claimed = 0, set(), 0
        for worker in self.workers():
            sizes = list(self._sizes_in(self.running / worker, known))
            running += sum(sizes)
            claimed += len(sizes)
            if sizes:
                busy.add(worker)
        self._sizes = known
        return Counts(sum(todo), running, len(todo) + claimed, len(todo), busy)

    def _sizes_in(self, folder: Path, known: Dict[Tuple[str, int], int]) -> Iterator[int]:
        with contextlib.suppress(FileNotFoundError), os.scandir(str(folder)) as entries:
            for entry in entries:
                if not is_bundle_name(entry.name):
                    continue
                identity = (entry.name, entry.inode())
                size = self._sizes.get(identity)
                if size is None:
                    try:
                        size = len(files.read_json(Path(entry.path))["evaluations"])
                    except (FileNotFoundError, ValueError, KeyError):
                        continue  # moved on meanwhile; or damaged, which its worker will find out
                known[identity] = size
                yield size

    # --- the workers' side ----------------------------------------------------------------------------------

    def workers(self) -> List[str]:
        """Workers that have a folder: they live, or nobody has settled their death yet."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(str(self.running)) if is_worker_id(name))
        return []

    def register(self, worker: str) -> bool:
        """Take the folder of a worker; False when it is taken."""
        try:
            (self.running / worker).mkdir()
        except FileExistsError:
            return False
        return True

    def unregister(self, worker: str) -> bool:
        """Remove the folder of a worker; False when bundles are left in it."""
        folder = self.running / worker
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def claim(self, worker: str) -> Optional[Bundle]:
        """Claim one of the oldest bundles; None when there is none.

        Raises:
            FileNotFoundError: the worker's folder is gone: it was declared dead.
        """
        while True:
            names = sorted(_names(self.todo))[:CLAIM_WINDOW]
            if not names:
                return None
            random.shuffle(names)
            for name in names:
                target = self.running / worker / name
                try:
                    os.rename(str(self.todo / name), str(target))
                except FileNotFoundError:
                    if not target.parent.is_dir():
                        raise
                    continue
                try:
                    return Bundle.parse(files.read_json(target))
                except ValueError:
                    os.rename(str(target), str(self.bad / name))

    def held(self, worker: str) -> List[Bundle]:
        """The bundles that a worker holds; damaged ones are moved to bad/ and missing here."""
        found = []
        for name in sorted(_names(self.running / worker)):
            path = self.running / worker / name
            try:
                found.append(Bundle.parse(files.read_json(path)))
            except FileNotFoundError:
                continue
            except ValueError:
                os.rename(str(path), str(self.bad / name))
        return found

    def finish(self, worker: str, name: str) -> bool:
        """Move a bundle to done/; False when it was taken from us (we were declared dead)."""
        return _move(self.running / worker / name, self.done / name)

    def give_back(self, worker: str, bundle: Bundle) -> bool:
        """Put a claimed bundle with what is left of it back into todo/; False when it was taken from us."""
        path = self.running / worker / bundle.name
        if not path.exists():
            return False
        with contextlib.suppress(
            OSError
        ):  # a full disk: then the old content goes back, which repeats work only
            files.write_atomic(path, bundle.to_bytes())
        return _move(path, self.todo / bundle.name)


def remove_tree(folder: Path) -> None:
    """Delete a folder with everything in it; what cannot be deleted stays."""
    shutil.rmtree(str(folder), ignore_errors=True)


def _names(folder: Path) -> List[str]:
    try:
        return [name for name in os.listdir(str(folder)) if is_bundle_name(name)]
    except FileNotFoundError:
        return []


def _move(source: Path, target: Path) -> bool:
    try:
        os.rename(str(source), str(target))
    except FileNotFoundError:
        return False
    return True
