"""The user's own settings: `workbench.toml` in the folder where the command runs, or where `WORKBENCH_SETTINGS` says.

    label_usd = 0.12                 # US$ a labelled example
    platform = "desk"                # the offer that prices compute
    max_usd = 2.50                   # and every other key of `OPTIONS`: the command's options of these names
    price_book = "quotes.csv"        # a price book of one's own, beside this file

    [[offers]]                       # a price; one with the name of a shipped offer takes its place
    platform = "aws"
    instance = "g6.xlarge"
    gpu = "L4"
    region = "eu-central-1"
    amount = 0.92
    currency = "EUR"
    source = "our contract"
    date = "2026-01-15"

    [[owned]]                        # a machine of one's own
    platform = "desk"
    gpu = "RTX4090"
    purchase_usd = 2600
    lifetime_years = 4
    utilisation = 0.3                # share of all hours in which it works
    electricity_usd_per_kwh = 0.30
    power_w = 420                    # a stated draw; left out, the joules measured are paid for

    [machines]                       # what machines of a sweep cost, by the names of their hosts
    "gpu-*" = "aws:g6.xlarge"

    [currencies]
    EUR = { usd = 1.08, source = "ECB reference rate", date = "2026-01-15" }

    [carbon]                         # the grid under one's own machines
    region = "DEU"                   # a country, or g_co2e_per_kwh = …
    pue = 1.0

    [platforms.aws]                  # facts about a platform that take the place of the shipped ones
    technical_support = "our account team"

Where there is no such file, the table `[tool.workbench]` of a `pyproject.toml` there says the same. A flag, an environment variable
`WORKBENCH_…` and what a study states go before it, in this order; `workbench config --origin` shows what counts.
What the tables mean in dollars and grams is said by `workbench.prices` and `workbench.carbon`; here they are only checked.

kinds       what each setting must be
file        where the file is, and what it says
precedence  who says what an option is: flag, variable, study, file or default
"""

from workbench.settings.file import FILE, PYPROJECT, Settings, load
from workbench.settings.kinds import AUTO, COMMITMENTS, OPTIONS, UNITS
from workbench.settings.precedence import OF_STUDIES, States, in_environment, origin, place, stated, variable

__all__ = [
    "AUTO",
    "COMMITMENTS",
    "FILE",
    "OF_STUDIES",
    "OPTIONS",
    "PYPROJECT",
    "UNITS",
    "Settings",
    "States",
    "in_environment",
    "load",
    "origin",
    "place",
    "stated",
    "variable",
]
