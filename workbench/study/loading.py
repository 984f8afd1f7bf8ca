"""A study file is run, and the one Study in it returned."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

from workbench.data import files, fingerprints
from workbench.errors import StudyError, WorkbenchError, did_you_mean, line_in, said
from workbench.study.study import Study


def load(path: str | Path) -> Study:
    """Run a study file and return the one `Study` in it.

    Raises:
        StudyError: There is no such file, it is one of data, it cannot be run, or it does not hold just one Study.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"there is no study file {path}.{_near(path)}")
    if files.suffix_of(path.name) in (*files.TABLE_SUFFIXES, *files.CONLL, *files.PLAIN):
        raise StudyError(f"{path} is data, not a study, which is a Python file. `workbench init {path}` writes a study of it.")

    fingerprints.look_again()  # a study that is loaded is one of the files as they are now
    module = _run(path)
    studies = {name: value for name, value in vars(module).items() if isinstance(value, Study)}
    if len({id(study) for study in studies.values()}) != 1:
        held = f"{len(studies)} Study objects ({', '.join(studies)})" if studies else "no Study object"
        raise StudyError(f"{path} holds {held}; it must hold exactly one: study = Study(Recipe(…), maximize=…).")
    study = next(iter(studies.values()))
    question = study.question or " ".join((module.__doc__ or "").split())
    return study.restated(path=path.resolve(), question=question)


def _near(path: Path) -> str:
    """A hint at the study file that was meant: one beside it, or, of a bare name, one of that name a folder below."""
    below = sorted(path.parent.glob("*/*.py")) if path.parent == Path() else []
    if meant := next((p for p in below if path.name in (p.name, p.stem)), None):
        return f" Did you mean {meant.as_posix()!r}?"
    near = {p.stem: p.as_posix() for p in sorted(path.parent.glob("*.py"))} if path.parent.is_dir() else {}
    if nearest := difflib.get_close_matches(path.stem, near, 1):  # names alone: paths in one folder are all alike
        return f" Did you mean {near[nearest[0]]!r}?"
    studies = [name for name in near.values() if "Study(" in Path(name).read_text(encoding="utf-8", errors="ignore")]
    there = f" Those there: {', '.join(studies)}." if studies else ""
    return f" Give the path of a Python file that holds a Study.{there}"


def _run(path: Path) -> ModuleType:
    """Run a study file as a module of its own, which may import its neighbours."""
    name = f"_study_{path.stem}"  # a name that hides no package; known to Python, or a dataclass in the file would not work
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(path)
    folder = str(path.parent.resolve())
    sys.path.insert(0, folder)
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    except SyntaxError as error:
        end = "" if error.msg.endswith(("?", ".", "!")) else "."
        raise StudyError(f"{error.filename or path}, line {error.lineno or '?'}: {error.msg}{end}") from error
    except (Exception, SystemExit) as error:
        line = line_in(str(path), error)
        if line is None and isinstance(error, OSError):
            raise StudyError(f"{path} cannot be read: {error}. Give a file that you may read.") from error
        what = str(error) if isinstance(error, WorkbenchError) else _needed(error) or _unknown(error, module) or said(error)
        raise StudyError(f"{path}, line {line or '?'}: {what}") from error
    finally:
        sys.path.remove(folder)
    return module


EXAMPLES = {
    "full": {"learning_rate": "loguniform(5e-5, 5e-4)"},
    "head": {"learning_rate": "loguniform(5e-3, 5e-2)"},
    "bitfit": {"learning_rate": "loguniform(1e-3, 1e-2)"},
    "adapter": {"learning_rate": "loguniform(1e-4, 3e-3)"},
    "peft": {"method": '"lora"', "learning_rate": "loguniform(5e-4, 2e-3)"},
    "setfit": {"learning_rate": "1e-4"},
    "few_shot": {"shots": "4"},
    "Recipe": {
        "task": 'classification("my.csv", train=128)',
        "model": '"minilm-l6"',
        "method": "full(learning_rate=1e-4)",
        "epochs": "integers(1, 4)",
    },
    "Study": {"recipe": "Recipe(…)", "maximize": '"accuracy"'},
}
"""What may be written for the arguments that cannot be left out, by what they belong to."""

OF_TASKS = {"data": '"my.csv"', "train": "choice(64, 256)"}
"""The same of tasks, which all need these."""


def _needed(error: BaseException) -> str:
    """What a call of something of ours lacks, and what to write; empty where it is another error."""
    if type(error) is not TypeError:  # Python's own: a class of a user's may not even have a text
        return ""
    found = re.search(r"^(\w+)(?:\.__init__)?\(\) missing \d+ required [\w-]+ arguments?: (.+)$", str(error))
    if found is None:
        return ""
    owner, missing = found[1], re.findall(r"'(\w+)'", found[2])
    known = EXAMPLES.get(owner, OF_TASKS)
    examples = [f"{name}={known[name]}" for name in missing if name in known]
    if len(examples) < len(missing):  # not ours
        return ""
    return f"{owner}() needs {' and '.join(missing)}, e.g. {', '.join(examples)}."


def _unknown(error: BaseException, module: ModuleType) -> str:
    """Which argument a call names that there is not, and which was likely meant; empty where it is another error."""
    found = re.search(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", said(error))
    owner = vars(module).get(found[1]) if found else None
    if found is None or not callable(owner):
        return ""
    known = (name for name in inspect.signature(owner).parameters if name != "self")
    return f"{found[1]}() has no argument {found[2]!r}.{did_you_mean(found[2], known)}"
