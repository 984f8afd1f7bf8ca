"""Data and models: built-in ones that need no network, files and folders of the user's, names on a
model hub.

`load("pydocs")` or `load("squad.json")` gives a `Dataset`; `workbench.data.models` gives tokenisers
and models.
"""

from __future__ import annotations

from workbench.data.readers import Dataset, load

__all__ = ["Dataset", "load"]
