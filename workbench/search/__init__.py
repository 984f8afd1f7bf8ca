"""What to run next: proposals made from plain Results.

Every proposal comes from a sampler on an in-memory study that is rebuilt from the Results at the current prices, so a new
price or a restart changes nothing but the numbers, and the same history and seed give the same proposal.

    propose   settings of the next run
    memory    the in-memory study, and Optuna's samplers on it
    spread    settings far from all that were run, and what is covered by them
    baseline  Optuna's samplers as peers in a comparison of searches, on plain settings
"""

from workbench.search.memory import check_sampler
from workbench.search.propose import DEFAULT, STARTS, propose

__all__ = ["DEFAULT", "STARTS", "check_sampler", "propose"]
