"""The model hub: whether it can be reached, asked once and quickly, and silence while it works.

Without this, each file of each unknown name costs five retries, 23 seconds in all on a machine
without a network.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import EnvironmentFault, UsageError

PATIENCE_SECONDS = 3.0
"""How long the hub has to answer."""


@functools.cache
def reachable() -> bool:
    """Whether the hub answers within `PATIENCE_SECONDS`. Asked once a process; False where
    HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    found: list[bool] = []
    # A thread, as no timeout of a request covers the look-up of a name, which takes half a minute
    # where no name server answers.
    asked = threading.Thread(target=lambda: found.append(_answers()), name="hub", daemon=True)
    asked.start()
    asked.join(PATIENCE_SECONDS)
    return found == [True]


def _answers() -> bool:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE_SECONDS)
    except Exception:  # failures of name, proxy, certificate or time have many classes
        return False
    return True


def require(name: str, kind: str, what: str, revision: str | None = None) -> None:
    """Make sure that a model or data set is on the hub, or in the hub's cache on this machine.

    Args:
        name: Its name on the hub.
        kind: `model` or `dataset`.
        what: What is missing otherwise, as the errors say it, a sentence.
        revision: Its revision; None: the newest.

    Raises:
        UsageError: The hub answers, and has no such thing.
        EnvironmentFault: The hub cannot be reached and its cache does not hold it, or access is
            denied.
    """
    from huggingface_hub import HfApi, errors, snapshot_download

    try:
        if reachable():
            HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=10)
        else:
            snapshot_download(name, repo_type=kind, revision=revision, local_files_only=True)
    except errors.HFValidationError as error:
        raise UsageError(f"there is no {what} It is no path here and cannot be a name on the hub.") from error
    except errors.GatedRepoError as error:
        raise EnvironmentFault(f"the hub does not let us read {name!r}. Ask for access there and log in.") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UsageError(f"there is no {what} Nor does the hub have {name!r}{f' at {revision!r}' if revision else ''}.") from error
    except Exception as error:  # a failure of the network, by whatever name, or nothing in the cache
        raise EnvironmentFault(
            f"the hub cannot be reached from this machine ({type(error).__name__}), and here there is no {what} Check the name, "
            "connect to the network, or give the path of a local copy."
        ) from error


def commit(name: str, revision: str | None = None) -> str:
    """The commit that a model's revision (None: the newest) stands for, on the hub or in its cache;
    empty where unknown.
    """
    from huggingface_hub import HfApi, snapshot_download

    with contextlib.suppress(Exception):  # `require` reports what is wrong once the model is used
        if reachable():
            return HfApi().model_info(name, revision=revision, timeout=10).sha or ""
    with contextlib.suppress(Exception):
        # The cache's folder of a snapshot is named by its commit.
        return Path(snapshot_download(name, revision=revision, local_files_only=True)).name
    return ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no reports of what is expected (such as a new head's weights) while
    something is loaded.
    """
    import warnings

    from huggingface_hub.utils import (  # type: ignore[attr-defined, unused-ignore]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
        if hub_bars:
            enable_progress_bars()
