"""Data and models: built-in ones that need no network, files and folders of the user's, names on a
model hub.

`load("pydocs")` or `load("squad.json")` gives a `Dataset`; `workbench.data.models` gives tokenisers
and models.

    adapters      folders that PEFT writes: an adapter is merged into its model when it is loaded
    answers       labels that people gave later, in a file beside the data
    bases         pre-trained models that a process has read once, copied for each run
    builtin       models that come in Python packages and need no network
    cache         the folder where built things are kept
    columnar      rows of parquet and Arrow files
    counts        `counts`, a built-in model that only counts who had what
    delimited     rows of CSV and TSV files, by Python's own reader
    digits        `digits`, a built-in data set of images
    docstrings    the docstrings of an installed package, read from its source
    documents     rows of JSON
    drawn         built-in models of images and sound whose weights are drawn
    duplicates    finds texts that say nearly the same, in linear time
    file_splits   which files of a folder are train, dev and test
    files         the boundary to files: what parsers and disks raise, in our words
    fingerprints  fingerprints of data sets and models by their content
    formats       rows of a data file in any format
    forms         the base of a form: which columns a kind of task reads
    gguf          GGUF files of Llama models, turned into Hugging Face's form
    heads         the task's head, which a model's files need not hold
    histories     examples of what a user has next, by leave-one-out
    hub           whether the model hub can be reached
    images        reads an image by pillow
    imported_names  what a name in a Python file stands for, read from the source
    inspection    a look at a user's data: its columns, and the kind of task they are for
    interactions  who had what, and what the items are
    labelled      texts with one class or several
    licences      what is known of the licences of packages, and of built-in data
    media         files of images and sounds with a class each
    model_files   where a model's files are; the one place that loads them
    models        models and tokenisers by name
    names         finds names of persons, by presidio or by patterns
    opinions      `opinions`, a built-in data set for classification: sentiment
    past_answers  questions that were answered before, with their answers
    poolings      how a model makes one vector of a text's tokens
    pycalls       `pycalls`, a built-in data set for recommendation
    pydocs        `pydocs`, the built-in data set for extractive question answering
    pydocs_texts  the docstrings of `pydocs` as plain texts, for `language_modelling`
    pysearch      `pysearch`, a built-in data set for retrieval
    pysupport     `pysupport`, a built-in data set for customer service
    pytopics      `pytopics`, a built-in data set for classification
    readers       question-answering data; `load` for every form
    redaction     placeholders for e-mail addresses, numbers and names
    scratch       smaller models of the same architecture, whose weights are drawn
    searches      queries with the documents that answer them
    sounds        reads a sound by libsndfile
    sources       where a data set's rows come from: a file, a folder or the hub
    tables        tables of texts, for any task
    tagged        words with entity tags
    text_pairs    texts that answer texts: conversations and translations
    texts         plain texts for a model to learn a language by
    values        values as tables have them: gaps, NumPy's types
    vowels        `vowels`, a built-in data set of sound
    windows       questions and their contexts as overlapping windows of tokens
"""

from __future__ import annotations

from workbench.data.readers import Dataset, load

__all__ = ["Dataset", "load"]
