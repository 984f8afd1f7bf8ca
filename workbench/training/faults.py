"""What goes wrong in a pass through a model, told apart: faults of the model itself, a lack of
memory, a device that failed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import EnvironmentFault, Infeasible, WorkbenchError, is_out_of_memory

_BOUNDARIES = {str(Path(__file__).with_name(name)) for name in ("passes.py", "tuning.py")}
"""Files that call models directly, so an error raised by one of their own lines is the model's."""


class Shortage(contextlib.AbstractContextManager["Shortage"]):
    """Catches a lack of memory and keeps the error without its frames, which hold the very tensors
    that took the memory.
    """

    error: BaseException

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if error is None or not is_out_of_memory(error):
            return False
        self.error = error.with_traceback(None)
        return True


@contextlib.contextmanager
def faults_of_the_model() -> Iterator[None]:
    """The one boundary for what torch, transformers and PEFT raise out of a pass through a model.

    Raises:
        Infeasible: It is a fault of this model with this method and these inputs.
        EnvironmentFault: The device failed: nothing more can be done on it in this process.
        Exception: Out of memory, or an error of our own code, which is a bug.
    """
    try:
        yield
    except (WorkbenchError, Infeasible):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if is_out_of_memory(error) or _is_ours(error):
            raise
        # A CUDA error breaks the context of the whole process, so every later run would fail as
        # well. Newer versions of torch raise it as AcceleratorError, older ones as a RuntimeError
        # with these words.
        if "CUDA error" in text or type(error).__name__ == "AcceleratorError":
            raise EnvironmentFault(f"the GPU failed: {text} Look at it with nvidia-smi, then start again.") from error
        raise Infeasible("fault", f"{type(error).__name__} out of the model: {text}") from error


def _is_ours(error: BaseException) -> bool:
    """Whether the innermost line that raised it is of this package."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    here = Path(__file__).parents[1]
    # An error at a line of the boundary itself comes from a call that Python could not even enter.
    own = "" if traceback is None else traceback.tb_frame.f_code.co_filename
    return Path(own).is_relative_to(here) and own not in _BOUNDARIES
