"""Inner loops: the built-in optimizees, users' own from a folder or a package, and their code for the site.

Importing this package is cheap; an optimizee's module is imported when it is asked for.
Staged to the site with every optimizee: standard library only, Python 3.8 syntax.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

if TYPE_CHECKING:
    from optimizees.base import Optimizee

BUILT_IN: Dict[str, str] = {
    "ackley": "optimizees.functions:Ackley",
    "ants": "optimizees.ants:Ants",
    "arbor_plasticity": "optimizees.arbor_plasticity:ArborPlasticity",
    "bandits": "optimizees.bandits:Bandits",
    "brunel": "optimizees.brunel:Brunel",
    "command": "optimizees.command:Command",
    "digits": "optimizees.digits:Digits",
    "digits_reservoir": "optimizees.digits.reservoir:DigitsReservoir",
    "l2l": "optimizees.l2l_adapter:L2L",
    "mountain_car": "optimizees.mountain_car:MountainCar",
    "rastrigin": "optimizees.functions:Rastrigin",
    "rosenbrock": "optimizees.functions:Rosenbrock",
    "single_cell": "optimizees.single_cell:SingleCell",
    "sinusoid": "optimizees.sinusoid:Sinusoid",
    "sphere": "optimizees.functions:Sphere",
    "structural_plasticity": "optimizees.structural_plasticity:StructuralPlasticity",
    "whole_brain": "optimizees.whole_brain:WholeBrain",
}
BY_OPTION = {"single_cell": ("simulator", ("arbor", "eden", "nest", "neuron"))}
"""Built-ins that run in one of several environments: the option that says which, and its values."""
STAGED = ("optimizees/__init__.py", "optimizees/base.py", "optimizers/__init__.py", "optimizers/space.py")
RESERVED = ("optimizees", "optimizers", "l2l_tasks")
COMPILED = (".so", ".pyd", ".dylib", ".dll")
MAX_FILE_BYTES = 4 * 2**20
MAX_FILES = 500
MAX_TOTAL_BYTES = 16 * 2**20

_ROOT = Path(__file__).resolve().parent.parent
_importing = threading.RLock()


@dataclass(frozen=True)
class CodeBundle:
    """An optimizee's code as it is staged to a site.

    Attributes:
        sha256: fingerprint of the files (names and contents): equal bundles have equal names at the site.
        files: contents by relative path, with "/" between folders.
        entry: "module:Class", importable when the unpacked folder is on the import path.
        origin: the folder (or module) of a user's own code; None for a built-in.
    """

    sha256: str
    files: Mapping[str, bytes]
    entry: str
    origin: Optional[Path] = field(default=None, compare=False)


def names() -> List[str]:
    """The built-in optimizees."""
    return sorted(BUILT_IN)


def by_environment() -> Dict[str, List[str]]:
    """The built-in optimizees by the environment that they need; with the option, where one decides."""
    found: Dict[str, List[str]] = {}
    for name in names():
        option, values = BY_OPTION.get(name, ("", ()))
        for value in values:
            found.setdefault(value, []).append(f"{name} ({option}: {value})")
        if not values:
            found.setdefault(_find_class(name, None).environment, []).append(name)
    return found


def load(reference: str, options: Mapping[str, Any], path: Optional[Path] = None) -> Optimizee:
    """An optimizee: a built-in by name, or `module:Class` of the folder `path`, else of an installed package.

    Raises OptimizeeError: unknown name, module or class that cannot be imported; OptionsError: wrong options.
    """
    from optimizees.base import OptionsError

    with _importing:
        origin = _origin(reference, path)
        with _importing_from(origin, path):
            found = _find_class(reference, origin)
            _check_option_names(reference, found, options)
            try:
                optimizee: Optimizee = found(**dict(options))
            except (TypeError, ValueError) as error:
                raise OptionsError(f"optimizee {reference!r}: {error}") from error
    return optimizee


def code_bundle(reference: str, path: Optional[Path] = None) -> CodeBundle:
    """The files that the site needs to run an optimizee (see `load`).

    For a user's class this is the whole folder `path`, or the whole installed package (of `a.b:C` all that is
    below `a`), apart from hidden files and caches. What else it imports must be in the site's environment.
    Raises OptimizeeError when that is missing or holds more than code and small data.
    """
    from optimizees.base import OptimizeeError

    files = {name: (_ROOT / name).read_bytes() for name in STAGED}
    origin, entry = _origin(reference, path), reference
    module = reference.partition(":")[0]
    if origin is None:
        entry = _built_in(reference)
        files.update(_sources(entry.partition(":")[0]))
    elif path is None:
        files.update(_package_files(module.partition(".")[0], origin))
    else:
        own = dict(_folder_files(path))
        taken = sorted({name.split("/")[0].partition(".")[0] for name in own} & set(RESERVED))
        if taken:
            raise OptimizeeError(
                f"{path}: the names {', '.join(taken)} belong to the framework: rename yours"
            )
        file = module.replace(".", "/")
        if f"{file}.py" not in own and f"{file}/__init__.py" not in own:
            raise OptimizeeError(f"{path}: there is no {module}.py in it")
        files.update(own)
    return CodeBundle(_fingerprint(files), files, entry, origin)


def _origin(reference: str, path: Optional[Path]) -> Optional[Path]:
    """Where a user's own code is: the folder `path`, else the package or module that is installed here."""
    from optimizees.base import OptimizeeError

    if path is not None:
        if not path.is_dir():
            raise OptimizeeError(f"{path}: no such folder (it must hold the module of your optimizee)")
        return path
    if ":" not in reference:
        return None
    top = reference.partition(":")[0].partition(".")[0]
    if top in RESERVED:
        raise OptimizeeError(f"{top!r} belongs to the framework: name its optimizees by `name` (no `class`)")
    importlib.invalidate_caches()
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise OptimizeeError(
            f"there is no package {top!r} where l2l runs: install it there, or give the folder of your "
            "module as `path`"
        )
    place = Path(spec.origin or "")
    if not place.is_file():
        raise OptimizeeError(
            f"package {top!r} is zipped, built in or without an __init__.py: give its folder as `path`"
        )
    return place.parent if spec.submodule_search_locations else place


def _package_files(name: str, origin: Path) -> Dict[str, bytes]:
    """All files of an installed package, or of a module; refuses what must be installed at the site."""
    from optimizees.base import OptimizeeError

    advice = (
        "install it in the Python environment at the site, and give a module of your own, with its folder as "
        "`path`, that imports it inside evaluate"
    )
    files = _walk(origin) if origin.is_dir() else [origin]
    compiled = [file.name for file in files if file.suffix in COMPILED]
    if compiled:
        raise OptimizeeError(f"package {name!r} has compiled parts ({compiled[0]}): {advice}")
    if origin.is_file():
        return {f"{name}.py": origin.read_bytes()}
    try:
        return {f"{name}/{relative}": content for relative, content in _folder_files(origin)}
    except OptimizeeError as error:
        raise OptimizeeError(f"package {name!r} cannot be brought to the site ({error}): {advice}") from error


def _built_in(name: str) -> str:
    from optimizees.base import OptimizeeError

    if name not in BUILT_IN:
        close = difflib.get_close_matches(name, BUILT_IN, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise OptimizeeError(f"unknown optimizee {name!r}{hint} (known: {', '.join(names())})")
    return BUILT_IN[name]


def _sources(module: str, known: Optional[Dict[str, bytes]] = None) -> Dict[str, bytes]:
    """A built-in's module, or all files of its package, and the modules of this package that they import."""
    found = {} if known is None else known
    place = _ROOT / module.replace(".", "/")
    if place.is_dir():
        new = {f"{module.replace('.', '/')}/{name}": content for name, content in _folder_files(place)}
    else:
        new = {module.replace(".", "/") + ".py": place.with_suffix(".py").read_bytes()}
    new = {name: content for name, content in new.items() if name not in found and name not in STAGED}
    found.update(new)
    for name, content in new.items():
        for imported in _own_imports(content) if name.endswith(".py") else ():
            _sources(imported, found)
    return found


def _own_imports(source: bytes) -> List[str]:
    """Modules of this package, or packages in it, that a module imports by `from optimizees(.x) import`."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    names = [f"{node.module}.{alias.name}".split(".")[:2] for node in nodes for alias in node.names]
    found = {name[1] for name in names if name[0] == "optimizees"}
    place = _ROOT / "optimizees"
    return sorted(f"optimizees.{n}" for n in found if (place / n).is_dir() or (place / f"{n}.py").is_file())


def _find_class(reference: str, origin: Optional[Path]) -> Any:
    from optimizees.base import Optimizee, OptimizeeError

    module_name, _, class_name = (_built_in(reference) if origin is None else reference).partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the latter of a script without `if __name__ == "__main__"`
        hint = ""
        if isinstance(error, ImportError):
            hint = " (import simulators inside evaluate only; the controller does not have them)"
        raise OptimizeeError(
            f"cannot import {module_name!r} of optimizee {reference!r}: {type(error).__name__}: {error}{hint}"
        ) from error
    if origin is not None and not _inside(module, origin):
        raise OptimizeeError(f"the name {module_name!r} belongs to another module ({module!r}): rename yours")
    found = getattr(module, class_name, None)
    if not (inspect.isclass(found) and issubclass(found, Optimizee)):
        raise OptimizeeError(
            f"{module_name!r} has no class {class_name!r} derived from optimizees.base.Optimizee"
        )
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(found.__abstractmethods__))
        raise OptimizeeError(f"class {class_name!r} of {module_name!r} lacks: {lacking}")
    return found


def _check_option_names(reference: str, found: Any, options: Mapping[str, Any]) -> None:
    """Name a misspelt option before Python's own, less helpful TypeError does."""
    from optimizees.base import OptionsError

    allowed = inspect.signature(found).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in allowed.values()):
        return
    for name in options:
        if name not in allowed:
            close = difflib.get_close_matches(name, allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            known = ", ".join(allowed) or "none"
            raise OptionsError(f"optimizee {reference!r} has no option {name!r}{hint} (options: {known})")


@contextlib.contextmanager
def _importing_from(origin: Optional[Path], folder: Optional[Path]) -> Iterator[None]:
    """Import from `folder` first, if there is one, and forget the modules of `origin` afterwards.

    Two campaigns may both bring a `model.py`, or two versions of a package: neither is given the other's.
    """
    if origin is None:
        yield
        return
    before = set(sys.modules)
    place = None if folder is None else str(folder.resolve())
    if place is not None:
        sys.path.insert(0, place)
        importlib.invalidate_caches()
    try:
        yield
    finally:
        if place in sys.path:  # else the module took it off itself
            sys.path.remove(place)
        for name in set(sys.modules) - before:
            if _inside(sys.modules[name], origin):
                del sys.modules[name]


def _inside(module: Any, origin: Path) -> bool:
    """Whether a module was imported from `origin` or a file below it."""
    file = getattr(module, "__file__", None)
    return file is not None and origin.resolve() in (Path(file).resolve(), *Path(file).resolve().parents)


def _folder_files(folder: Path) -> Iterable[Tuple[str, bytes]]:
    """The files of a user's folder by relative path; refuses what does not belong into a code bundle."""
    from optimizees.base import OptimizeeError

    count = total = 0
    for file in _walk(folder):
        if not file.is_file():
            continue
        relative = file.relative_to(folder).as_posix()
        if not relative.isprintable():
            raise OptimizeeError(
                f"{relative!r} in the folder of your optimizee: rename it, or hide it with a dot"
            )
        size = file.stat().st_size
        count, total = count + 1, total + size
        if size > MAX_FILE_BYTES or total > MAX_TOTAL_BYTES or count > MAX_FILES:
            raise OptimizeeError(
                f"{file}: too much for a code bundle (up to {MAX_FILES} files, {MAX_FILE_BYTES // 2**20} MiB "
                f"each, {MAX_TOTAL_BYTES // 2**20} MiB in all): put data at the site, give its path as option"
            )
        yield relative, file.read_bytes()


def _walk(folder: Path) -> Iterator[Path]:
    """What is in a folder and below, in order, without what is hidden; lazily, as it may be a home folder."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (Path(place) / name for name in sorted(files) if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


def _fingerprint(files: Mapping[str, bytes]) -> str:
    """SHA-256 over the names and contents, independent of the order and of archive formats."""
    total = hashlib.sha256()
    for name in sorted(files):
        content = files[name]
        total.update(f"{len(name.encode())}:{name}:{len(content)}:".encode())
        total.update(content)
    return total.hexdigest()
