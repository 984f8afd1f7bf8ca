"""Replay of recorded runs: what a search would have found, and spent, on tables that somebody made once.

tables      a file of recorded runs: the pool, its space, its curves
simulation  virtual time: workers, launches, what is seen when, what it costs
methods     what is compared, by name: our search, random, halving, Optuna's
regret      hypervolume regret against cost, its area, and the cost to reach a share of the best
parallel    seeds side by side
statistics  ratios with intervals, rank tests, critical differences
protocol    all of it: tables x methods x workers x seeds into one record
front       our own search, met with the arms of a table
halving     multi-objective asynchronous successive halving
sampler     Optuna's samplers on a pool
spaces      the search space that a table states, as dimensions
"""
