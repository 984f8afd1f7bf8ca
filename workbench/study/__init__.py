"""The declarative part: a recipe makes one model, a study is a recipe with holes and a question, and `load` reads its file.

recipe       everything that decides what model comes out
study        what is searched, what is maximised and minimised, at which prices
loading      a study file, run; and what is said of one that is wrong
pretraining  what a model learns by itself before it is tuned
tasks        the tasks that a study names, as large as it allows
sequences    which methods can learn several tasks in turn, by which strategy
also         other tasks that grade every checkpoint, and what their scores are called
privacy      what one part of a recipe is rid of is read in no other
record       recipes as plain data, and the digests that name them
"""

from workbench.study.loading import load
from workbench.study.pretraining import Pretraining, causal_lm, masked_lm
from workbench.study.recipe import Recipe
from workbench.study.study import Study

__all__ = ["Pretraining", "Recipe", "Study", "causal_lm", "load", "masked_lm"]
