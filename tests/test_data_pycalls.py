"""`pycalls`: what the modules of a package call, resolved by reading its source alone."""

import sys
import textwrap
from pathlib import Path

import pytest

from workbench.data import histories, pycalls
from workbench.data.imported_names import Modules
from workbench.data.interactions import Interactions

DOC = '"""Do what {name} is there to do for users.\n\n    Parameters\n    ----------\n    x : int\n        A number.\n    """'
FILES = {
    "__init__.py": "from ._core import *\nfrom . import tools\nfrom .tools.deep import dig as shovel\nfrom .fast import quick\n",
    "_core/__init__.py": "from .one import add\nfrom .two import *\n",
    "_core/one.py": "def add(x):\n    {add}\n",
    "_core/two.py": "if True:\n    def mul(x):\n        {mul}\nfrom .. import _core\nfrom . import *\n",
    "tools/__init__.py": "from .deep import *\n",
    "tools/deep.py": "class Spade:\n    {Spade}\ndef dig(x):\n    {dig}\n",
    "use.py": """
        import made_up as mu
        import made_up.tools.deep
        from made_up import tools as t, add
        from made_up.fast import quick

        def go(x):
            from .tools import deep
            own()
            y = mu.mul(add(x))
            add(2)
            quick(x)
            t.Spade().dig()
            mu.tools.dig(x)
            deep.nothing(x)
            return mu.shovel(made_up.tools.deep.dig(x))

        def own():
            pass
        """,
    "tests/test_use.py": "from made_up import add\nadd(1)\n",
    "broken.py": "def (",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    docs = {name: DOC.format(name=name) for name in ("add", "mul", "Spade", "dig")}
    for name, text in FILES.items():
        path = tmp_path / "made_up" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = textwrap.dedent(text)
        for key, doc in docs.items():
            text = text.replace(f"{{{key}}}", doc)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "made_up"


def test_names_are_followed_to_where_they_are_defined(package: str) -> None:
    modules = Modules(package)
    assert modules.defined("made_up.add") == "made_up._core.one.add"
    assert modules.defined("made_up.mul") == "made_up._core.two.mul"  # through two stars, one of which goes in a circle
    assert modules.defined("made_up.shovel") == "made_up.tools.deep.dig"
    assert modules.defined("made_up.tools.Spade") == "made_up.tools.deep.Spade"
    assert modules.defined("made_up.quick") is None  # no source says it, as with what is written in C
    assert modules.defined("made_up.nothing") is None
    assert modules.defined("json.dumps") is None  # of another package
    assert package not in sys.modules  # nothing was imported


def test_a_module_has_what_it_calls_in_the_order_of_its_source(package: str) -> None:
    built = pycalls.build((package,))
    # Not its own function, not twice, and nothing of a test; a method of an object is not known.
    assert built["users"] == {
        "made_up.use": ["made_up._core.two.mul", "made_up._core.one.add", "made_up.tools.deep.Spade", "made_up.tools.deep.dig"]
    }
    assert built["items"]["made_up._core.one.add"] == "made_up add: Do what add is there to do for users."
    assert built["items"].keys() == {*built["users"]["made_up.use"]}


def test_real_packages_give_users_with_items_to_be_found() -> None:
    built = pycalls.build(("networkx",))
    sides = histories.sides(built["users"])
    assert len(sides["dev"]) == len(sides["test"]) > 50
    assert all(example["item"] in built["items"] and example["item"] not in example["history"] for example in sides["dev"])
    assert "networkx.classes.graph.Graph" in built["items"]
    assert Interactions.built_in["pycalls"] is pycalls
    assert pycalls.versions().keys() == {*pycalls.PACKAGES}
