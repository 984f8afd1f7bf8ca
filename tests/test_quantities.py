"""Numbers as people write them."""

import pytest

from workbench.estimate import Estimate
from workbench.quantities import banded, dollars


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.0021, 0.001, 0.0044, "scaled"), "$0.0021 ($0.001 to $0.0044, scaled)"),
        (Estimate.exact(2.0), "$2.00"),
        (Estimate(2.0001, 2.00005, 2.0004, "contended"), "$2.00 (contended)"),
    ],
)
def test_a_band_is_written_where_it_can_be_read(estimate: Estimate, text: str) -> None:
    assert banded(estimate, dollars) == text


def test_a_band_is_written_without_its_basis_where_that_is_said_elsewhere() -> None:
    assert banded(Estimate(0.0021, 0.001, 0.0044, "scaled"), dollars, basis=False) == "$0.0021 ($0.001 to $0.0044)"
    assert banded(Estimate(2.0001, 2.00005, 2.0004, "contended"), dollars, basis=False) == "$2.00"
