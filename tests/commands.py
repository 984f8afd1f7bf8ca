"""What tests of the command line share: the command as a process, and the text of a tiny study. Fixtures are in conftest.py."""

import contextlib
import functools
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import warnings
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import NamedTuple
from unittest import mock

ANSI = re.compile(r"\x1b\[")
DASHBOARDS = Path(__file__).parents[1] / "dashboards"


class Printed(NamedTuple):
    stdout: str
    stderr: str


@functools.cache
def forks():
    """Makes processes as forks of one that has imported what the command imports: that is most of what a short one takes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    with mock.patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}):  # where it finds that
        forkserver.ensure_running()
    return context


def start(process):
    """Start one of them, without pytest's own script, which it would import anew."""
    with mock.patch.multiple(sys.modules["__main__"], __file__=None, __spec__=None, create=True):
        process.start()


def work(words, folder, env, out, err, before=None):
    """The command, in a process of its own."""
    if before is not None:
        before()
    _main(words, folder, env, {1: _file(out), 2: _file(err)})


def _file(path):
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _main(words, folder, env, streams):
    """Run the command in this process, with these files in the place of its streams."""
    os.environ.clear()
    os.environ.update(env)
    if folder is not None:
        os.chdir(folder)
    for number, file in streams.items():
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115  those of the server are files
    sys.argv = ["workbench", *words]
    from workbench.cli import main

    main()


class _Pipe:
    """An end of a pipe that is handed to a process of the server's."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return _received, (reduction.DupFd(self.file),)


def _received(end):
    return end.detach()


def _worker(words, folder, env, streams):
    os.setsid()
    _main(words, folder, env, streams)


class ForkedWorker:
    """A worker of a sweep that a command has started, in the place of `launching.started`: with all its imports made.

    With the face of `subprocess.Popen`, as far as the supervisor looks at it.
    """

    def __init__(self, words, environment, folder=None):
        pipes = [os.pipe() for _ in range(3)]
        theirs = {0: pipes[0][0], 1: pipes[1][1], 2: pipes[2][1]}
        context = multiprocessing.get_context("forkserver")
        forkserver._forkserver.ensure_running = lambda: None  # it runs: this command is a fork of it
        arguments = ([*words], folder, dict(environment), {number: _Pipe(file) for number, file in theirs.items()})
        self._process = context.Process(target=_worker, args=arguments)
        start(self._process)
        for file in theirs.values():
            os.close(file)
        self.stdin = open(pipes[0][1], "w", encoding="utf-8")  # noqa: PTH123, SIM115
        self.stdout, self.stderr = (open(read, encoding="utf-8") for read, _ in pipes[1:])  # noqa: PTH123, SIM115
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def kill(self):
        self._process.kill()

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)


def fork_workers():
    """Have the workers of this command's sweep be forks as well: what a `Command` does first, unless it is told otherwise."""
    from workbench.sweep import launching

    launching.started = ForkedWorker


begun = []
"""Every command that a test has begun: what is left of them when it ends is killed."""


class Command:
    """The command at work in a process of its own, as `subprocess.Popen` has it: all its imports are made, and its workers'.

    `Popen` starts it from nothing where that matters: see `test_cli`, `test_home` and `test_packaging`. `before` is a function of a
    module, which the process calls first; with None its workers are started as they are everywhere.
    """

    def __init__(self, words, *, cwd, out, err, env=None, before=fork_workers):
        arguments = ([*map(str, words)], cwd, dict(os.environ if env is None else env), out, err, before)
        self._process = forks().Process(target=work, args=arguments)
        start(self._process)
        begun.append(self)

    @property
    def pid(self):
        return self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("workbench", timeout)
        return self._process.exitcode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self._process.kill()


def workbench(*words, cwd, env_more=None):
    """The command, as a process of its own, to its end."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = Command(words, cwd=cwd, out=out, err=err, env={**os.environ, **(env_more or {})})
        try:
            code = process.wait(240)
        finally:
            process.kill()
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


def here(*words, cwd):
    """The command in this process, to its end: nothing is imported anew, which is most of what a small sweep takes.

    What a warning would say on a process's standard error it says here as well, though pytest collects warnings.
    """
    from workbench.cli import main

    def say(message, category, filename, lineno, file=None, line=None):
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        out, err = (stack.enter_context(Path(folder, name).open("w+", encoding="utf-8")) for name in ("out", "err"))
        stack.enter_context(contextlib.chdir(cwd))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(mock.patch.dict(os.environ))
        stack.enter_context(mock.patch.object(sys, "argv", ["workbench", *map(str, words)]))
        stack.enter_context(warnings.catch_warnings())
        warnings.resetwarnings()
        for category in (ImportWarning, ResourceWarning):  # which Python shows to nobody by itself
            warnings.simplefilter("ignore", category)
        warnings.showwarning = say
        try:
            main()
        except SystemExit as end:
            code = end.code
        for file in (out, err):
            file.flush()
            file.seek(0)
        return subprocess.CompletedProcess(words, code, out.read(), err.read())


def study_text(
    model, method="choice(full(learning_rate=loguniform(1e-3, 1e-2)), bitfit(learning_rate=1e-3))", task="TinyTask(train=32)"
):
    return (
        '"""Which?"""\n\n'
        "from workbench import Recipe, Study, bitfit, choice, full, integers, loguniform, peft\n"
        "from workbench.tasks import question_answering\n"
        "from workbench.testing import TinyTask\n\n"
        f"study = Study(Recipe(task={task}, model={model!r}, method={method}, epochs=2, batch_size=8), "
        f"maximize={'accuracy' if 'Tiny' in task else 'f1'!r})\n"
    )
