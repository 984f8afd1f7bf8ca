"""The sentences, tables and records that the command line and the dashboard share: pure functions of Results.

What they are about is computed below, in `workbench.front`. Import from the modules:

answers   the sentence that answers the study's question
axes      costs in the units that people read them in
bill      what a point costs beside its making: serving, break-even, means
course    what the front had come to by the time that so much was spent
curves    quality as runs go on, and whether it still rises where they end
doubts    what is to be doubted: nothing learned, too few dev examples
elsewhere all runs priced at every offer
failures  what failed, what did not fit, and what that cost
labels    quality against the number of labels, and what more of them would buy
matters   which settings matter, and how surely that can be said
progress  how a sweep stands: spend, rate, time left, workers
records   plain data for programs, tables for people
reproduce how a point is made again by hand
rows      one row for each Result, every figure in a column of its own
tables    rows for the dashboard's tables and for CSV
text      settings and recipes as people write them
"""
