"""The Pareto front of a study: what the search, the sweep and every report reckon with. It holds no sentences.

Results are priced at one offer and one price of a label; what no other point dominates is the front.
"""
