"""The Pareto front of a study: what the search, the sweep and every report reckon with. It holds no sentences.

Results are priced at one offer and one price of a label; the points that no other dominates are the front. Import
from the modules:

    objectives   the study's objectives and prices: what a point costs, and where it lies
    members      the front itself, and its cheapest point
    intervals    means over seeds with their 95 % intervals, and ties
    confirmed    what new seeds say of points, and the front as it stands then
    points       all points of a study at one view, worked out once
    serving      what predictions of a point cost, and break-even with a rival
    budgets      the budgets of a sweep, what is spent of each, and at what rate
    trajectory   the front and the spend after each Result
    curves       the score of each run at its checkpoints, and whether it still rises
    importance   how much each setting changes the score and the cost, and how sure that is
    hypervolume  how much of score and cost a front dominates
    label_curve  the best score at each number of labels, and what more would add
"""
