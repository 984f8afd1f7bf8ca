"""Watts of one virtual CPU, idle and busy, by what the kernel says the processor is."""

from __future__ import annotations

import re
from typing import NamedTuple


class CpuPower(NamedTuple):
    """What one virtual CPU (a hardware thread) draws.

    Attributes:
        idle_w: Watts while it does nothing.
        busy_w: Watts while it is fully busy.
        basis: The source of these figures, in words.
        error: Relative uncertainty of the joules made with them.
    """

    idle_w: float
    busy_w: float
    basis: str
    error: float


AVERAGE = CpuPower(0.74, 3.5, "Cloud Carbon Footprint's AWS average, whole server", 0.5)
"""Power of a processor that is not known: Cloud Carbon Footprint's averages for AWS, made from SPECpower's figures for whole
servers, so memory and fans are in them (https://www.cloudcarbonfootprint.org/docs/methodology, section "Energy Estimate:
Compute", read in microsite/docs/Methodology.md @1559c186). Its error spans the table below from Haswell on, 1.69 to 4.74 W busy
against 3.5."""

_SAME_ERROR = 0.3
"""Relative uncertainty for a known microarchitecture: two of the project's lists, of different servers, differ by 27 % for one
(Haswell busy: 4.74 W in AWS's, 6.01 W in Azure's); rounded up. Inside a list the servers differ too, which the averages no longer
show."""

WATTS = {
    "Sandy Bridge": (2.169, 8.575),
    "Ivy Bridge": (3.037, 8.249),
    "Haswell": (1.001, 4.740),
    "Broadwell": (0.713, 3.685),
    "Skylake": (0.645, 4.193),
    "Cascade Lake": (0.639, 3.967),
    "EPYC 1st Gen": (0.823, 2.553),
    "EPYC 2nd Gen": (0.474, 1.693),
    "EPYC 3rd Gen": (0.445, 2.019),
}
"""Idle and busy watts of a virtual CPU by microarchitecture of servers, rounded to a milliwatt: repository
cloud-carbon-footprint/cloud-carbon-coefficients, output/coefficients-aws-use.csv @e31b0d53 (EPYC 3rd Gen, which is not in it:
output/coefficients-azure-use.csv @2ecb2f61), both from SPECpower_ssj2008 results; read 2026-11-24. Later processors are in
neither, and get the average."""

_NAMES = (
    # what a hypervisor calls its model, then the product names: Scalable Xeons carry their generation in the second digit, Xeon
    # E5 and E7 in their version, EPYC 7000 in its last digit; cloud variants (7R32, 8259CL) keep to it
    (r"\(Skylake\b|Xeon.* (Platinum|Gold|Silver|Bronze) \d1\d\d", "Skylake"),
    (r"\(Cascadelake\b|Xeon.* (Platinum|Gold|Silver|Bronze) \d2\d\d", "Cascade Lake"),
    (r"\(Broadwell\b|Xeon.* E[57]-.* v4\b", "Broadwell"),
    (r"\(Haswell\b|Xeon.* E[57]-.* v3\b", "Haswell"),
    (r"\(Ivy ?Bridge\b|Xeon.* E[57]-.* v2\b", "Ivy Bridge"),
    (r"\(Sandy ?Bridge\b|Xeon.* E5-\d{4}L?( 0)? @", "Sandy Bridge"),
    (r"EPYC 7[0-9A-Z]{2}1\b|EPYC 7[0-9A-Z]{2}1P\b", "EPYC 1st Gen"),
    (r"EPYC-Rome|EPYC 7[0-9A-Z]{2}2P?\b", "EPYC 2nd Gen"),
    (r"EPYC-Milan|EPYC 7[0-9A-Z]{2}3[PX]?\b", "EPYC 3rd Gen"),
)


def cpu_power(model: str) -> CpuPower:
    """Watts of a virtual CPU by the processor's name, e.g. `"AMD EPYC 7R32"`; the average where we do not know it."""
    for pattern, architecture in _NAMES:
        if re.search(pattern, model):
            idle_w, busy_w = WATTS[architecture]
            return CpuPower(idle_w, busy_w, f"Cloud Carbon Footprint's {architecture}, whole server", _SAME_ERROR)
    return AVERAGE
