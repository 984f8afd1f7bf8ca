"""The sentences, tables and records that the command line and the dashboard share: pure functions of Results.

What they tell of is computed below, in `workbench.front`. Import from the modules:

    answers       the sentence that answers the study's question
    axes          costs in the units that people read them in
    bill          what a point costs beside its making, as plain data
    columns       the one table of a Result's columns: name, unit, value, text
    trajectory    what the last half of the spend has brought
    curves        whether longer training still pays
    caveats       what is to be known beside: nothing learned, too few dev examples, redacted data
    other_offers  all runs priced at every offer
    efficiency    how near to the machine's limit the work was done
    failures      what failed, what did not fit, and what that cost
    importance    which settings matter
    in_use        what is said of served models
    labels        what more labels would buy
    machines      what each machine of a sweep is, costs and does, and which is silent
    progress      how a sweep stands: spend, rate, time left, workers
    records       plain data for programs, tables for people
    reproduce     how a point is made again by hand
    rows          one row for each Result, every figure in a column of its own
    tables        rows for the dashboard's tables and for CSV
    text          settings and recipes as people write them
"""
