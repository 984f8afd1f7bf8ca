"""Priced machines, and dollars as views of usage: stored records hold no price, so any run can be priced again.

`usd` is direct: unrounded held seconds x the offer's rate. `carry` says what a run would have taken on another machine. Rounding,
whole machines and serving are views beside it. The facts are rows of the CSV files here, each with its source, and a user's
`workbench.toml` adds to or overrides them.

    cloud_metadata  what a cloud tells a machine of itself, where it is asked
    datasheets  what a GPU can do by its datasheet
    live        prices of today, from gpuhunt's catalogue
    offers      a priced machine, and `usd`: dollars as a view of usage
    platforms   facts about a platform beside its prices
    precedence  where a price comes from: flag, environment, study, settings
    price_book  looks up an offer: the shipped ones and the user's own
    repricing   what a run would have taken and cost on another machine
    this_machine  which offer prices the machine that works
    views       as the platform bills it, per prediction served, break-even
"""

from workbench.prices.cloud_metadata import METADATA, interruption
from workbench.prices.datasheets import Gpu, fits, gpu, gpus, same_gpu
from workbench.prices.offers import JOULES_PER_KWH, Offer, Prices, electricity_usd, usd
from workbench.prices.platforms import Platform, platform
from workbench.prices.precedence import label_usd_of, offer_of
from workbench.prices.price_book import DEFAULT, find, load
from workbench.prices.repricing import Carried, carry
from workbench.prices.this_machine import own_offer
from workbench.prices.views import billed_seconds, billed_usd, break_even_predictions, serving_usd_per_1000

__all__ = [
    "DEFAULT",
    "JOULES_PER_KWH",
    "Offer",
    "find",
    "load",
    "label_usd_of",
    "offer_of",
    "usd",
    "electricity_usd",
    "Gpu",
    "gpu",
    "gpus",
    "same_gpu",
    "fits",
    "Carried",
    "carry",
    "METADATA",
    "interruption",
    "own_offer",
    "Platform",
    "Prices",
    "platform",
    "billed_seconds",
    "billed_usd",
    "serving_usd_per_1000",
    "break_even_predictions",
]
