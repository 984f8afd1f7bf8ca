"""What the search is told of what lies ahead of a run."""

from types import SimpleNamespace

import pytest

from workbench import Recipe, Study, full, integers, prices
from workbench.estimate import Estimate
from workbench.forecast import Forecaster
from workbench.sweep.outlook import Outlook, _fits
from workbench.testing import TinyTask, tiny_model


@pytest.fixture
def outlook(tmp_path):
    recipe = Recipe(task=TinyTask(), model=tiny_model(tmp_path / "tiny"), method=full(learning_rate=1e-3), epochs=integers(1, 4))
    study = Study(recipe, maximize="accuracy")
    return Outlook(Forecaster(study), prices.find(study.platform), 0.0)


def test_checkpoints_cost_more_the_further_they_are_and_loading_is_a_part_of_each(outlook):
    ahead = outlook.checkpoints(outlook.forecaster.study.resolve({"epochs": 4}))
    costs = [c.cost for c in ahead]
    assert costs == sorted(costs)
    assert [c.epochs for c in ahead] == sorted(c.epochs for c in ahead)
    assert all(0 < c.load < c.cost for c in ahead)
    assert [c.load for c in ahead] == pytest.approx([ahead[0].load] * len(ahead))
    assert all(c.fits > 0.99 for c in ahead)


@pytest.mark.parametrize(("memory", "low", "high"), [(100, 0, 0.01), (1000, 0.49, 0.51), (2000, 0.94, 0.96), (10**6, 0.99, 1)])
def test_whether_it_fits_follows_the_band_of_its_peak(memory, low, high):
    forecast = SimpleNamespace(peak_memory_bytes=Estimate.within(1000.0, 2.0, "formula"))
    assert low <= _fits(forecast, memory) <= high


def test_an_unknown_or_exact_peak(outlook):
    assert _fits(SimpleNamespace(peak_memory_bytes=None), 1) == 1.0
    exact = SimpleNamespace(peak_memory_bytes=Estimate.exact(1000.0))
    assert (_fits(exact, 999), _fits(exact, 1001)) == (0.0, 1.0)
