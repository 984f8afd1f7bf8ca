"""What the command's processes import: a server imports it once, and each command of a test is a fork of that (see commands.py)."""

# ruff: noqa: F401
import gc

import mlflow.artifacts
import mlflow.data
import mlflow.genai
import mlflow.store.tracking.sqlalchemy_store
import optuna
import pandas
import peft
import scipy.optimize
import scipy.stats
import stores
import torch
import transformers.models.bert.modeling_bert

import workbench.cli.confirm
import workbench.cli.front
import workbench.cli.progress
import workbench.cli.sweep
import workbench.cli.workers
import workbench.figures
import workbench.forecast
import workbench.search.engine
import workbench.sweep
import workbench.tracking
import workbench.training

gc.collect()
gc.freeze()  # of a run's end, which collects what is no longer used, that would be most
