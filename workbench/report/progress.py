"""How a sweep stands: what is spent of its budgets and how fast, its front, the time left, and its workers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.front.budgets import BudgetUse, budget_uses, seconds_left, usd_per_hour
from workbench.front.confirmed import corrected_points
from workbench.front.hypervolume import hypervolume
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.ledger.leases import SILENCE_SECONDS, alive, of_lease
from workbench.quantities import dollars, duration, many, number
from workbench.report.machines import Machine, machines, with_workers
from workbench.report.text import describe_plan
from workbench.result import Result, Spending, by_run, current, labels_bought, originals, settled, spending
from workbench.result.outdated import kinds, text_of
from workbench.result.sharing import sharing_text


def spent_text(spent: Spending, limits: Mapping[str, float | None], *, workers: int = 1, rated: bool = True) -> str:
    """Say what is spent, of how much, and how fast if `rated`: `$0.0021 of $0.01, 5 min 00 s of 1 h 00 min spent ($0.05/h)`."""
    parts = [str(bound) for bound in budget_uses(spent, limits)]
    if limits.get("max_usd") is None:
        parts.insert(0, dollars(spent.usd))
    rate = usd_per_hour(spent, workers) if rated else None
    return f"{', '.join(parts)} spent{'' if rate is None else f' ({dollars(rate)}/h)'}"


@dataclass(frozen=True)
class Worker:
    """A worker that holds a lease. As text it is a sentence.

    Attributes:
        pid: The worker's process.
        host: The host that it runs on.
        making: The Result that it makes, as it stood at the last heartbeat.
        seconds: Seconds of work since its previous Result.
        silent_seconds: Seconds since the last heartbeat.
        lives: Whether the process lives. On another host it counts as dead after a minute of silence.
    """

    pid: int
    host: str
    making: Result
    seconds: float
    silent_seconds: float
    lives: bool

    def __str__(self) -> str:
        trial = "" if self.making.trial is None else f"trial {self.making.trial}, "
        seed = f", seed {self.making.seed}" if self.making.replicate_of is not None else ""
        since = f"{duration(self.seconds)} since its last result"
        beat = f"heartbeat {duration(self.silent_seconds)} ago" if self.lives else f"gone for {duration(self.silent_seconds)}"
        return f"Process {self.pid} on {self.host}: {trial}{describe_plan(self.making)}{seed}; {since}, {beat}."


@dataclass(frozen=True)
class Progress:
    """How a sweep stands.

    Attributes:
        state: `working`; `ended`; `broken` where one began, or left leases, and nobody works any more; `choosing` where nobody
            does and something was recorded lately; `starting` where one has begun and has chosen nothing yet; `new` before any.
        reason: Why the last sweep ended, in words; empty unless it has ended.
        what: What ended: `sweep` or `confirmation`.
        runs: Number of runs begun, without replicates.
        broken_off: Number of runs that were broken off before their first checkpoint. They do not count as begun.
        trials: Number of runs that may be begun; None without a limit.
        points: Number of checkpoints that can be chosen, at the view's prices.
        failed: Number of infeasible runs.
        replicates: Number of runs with new seeds, of a confirmation.
        spent: What all starts have spent until now, the work under way included.
        bounds: The budgets of the sweep that began last.
        limits: All its limits, by name.
        usd_per_hour: The rate of spending while it works; None where nobody works, or the rate is unknown.
        seconds_left: Seconds until it ends, going on as until now; None where nobody works, or nothing bounds it.
        outdated: Number of Results whose inputs have changed since. They are in `spent`, and in nothing else.
        changed: Which inputs have changed, out of `workbench.result.inputs.KINDS`.
        sharing: How many workers shared devices of the sweep that began last, and why: records, oldest first.
        front: Number of members of the front.
        hypervolume: Hypervolume of the front, in score x decades of cost; None where no point's cost is known, or the
            objectives have no reference point.
        workers: The workers that hold a lease.
        machines: The machines that have worked on it, those at work now included.
    """

    state: str
    reason: str
    what: str
    runs: int
    broken_off: int
    trials: int | None
    points: int
    failed: int
    replicates: int
    spent: Spending
    bounds: tuple[BudgetUse, ...]
    limits: Mapping[str, float | None]
    usd_per_hour: float | None
    seconds_left: float | None
    front: int
    hypervolume: float | None
    workers: tuple[Worker, ...] = ()
    machines: tuple[Machine, ...] = ()
    outdated: int = 0
    changed: tuple[str, ...] = ()
    sharing: tuple[Mapping[str, Any], ...] = ()

    @property
    def at_work(self) -> int:
        """The number of workers at work now."""
        return sum(worker.lives for worker in self.workers)

    def sentences(self) -> list[str]:
        """Return all there is to say, the most important first, and a sentence for each worker at the end."""
        # A study that nobody has swept has spent nothing worth a sentence.
        said = [self._headline(), self._money()] if self.runs or self.workers or self.outdated else [self._headline()]
        if self.points:
            volume = (
                "" if self.hypervolume is None else f", hypervolume {number(float(self.hypervolume))} (score x decades of cost)"
            )
            said.append(f"{many(self.points, 'point')} to choose from, {self.front} of them on the front{volume}.")
        said += filter(None, [text_of(self.outdated, self.changed)])
        return [*said, *self._machines(), *map(sharing_text, self.sharing), *map(str, self.workers)]

    def _machines(self) -> list[str]:
        """A sentence for each machine; none where there is only one, of which all else is said."""
        return [str(machine) for machine in self.machines] if len(self.machines) > 1 else []

    def _headline(self) -> str:
        of = f" of {self.trials:,}" if self.trials else ""
        runs = f"{self.runs:,}{of} run{'' if (self.trials or self.runs) == 1 else 's'} begun"
        runs += f", {self.broken_off:,} broken off before a first checkpoint" if self.broken_off else ""
        runs += f", {self.failed:,} infeasible" if self.failed else ""
        runs += f", {self.replicates:,} with new seeds" if self.replicates else ""
        if self.state == "working":
            return f"{many(self.at_work, 'worker')} at work: {runs}."
        if self.state == "ended":
            return f"The {self.what} ended: {self.reason}. {runs[:1].upper()}{runs[1:]}."
        if self.state == "broken":
            return f"Nobody works on this study, and its last sweep did not say why it stopped: {runs}. Running it again continues."
        if self.state == "choosing":
            return f"What is next is being chosen: {runs}."
        return "A sweep has begun: its first run is being chosen." if self.state == "starting" else "No sweep has begun yet."

    def _money(self) -> str:
        workers = max(1, self.at_work)
        text = spent_text(self.spent, self.limits, workers=workers)
        text += f" in {duration(self.spent.seconds)} of work" if self.limits.get("max_hours") is None else ""
        return f"{text}{'' if self.seconds_left is None else f', about {duration(self.seconds_left)} left'}."


@dataclass(frozen=True)
class Settled:
    """What the finished Results of a sweep say. It is worked out once until there is one more.

    Attributes:
        spent: What they have spent.
        bought: Labels that they have bought, by data set.
        begun: Ids of the runs that count as begun.
        broken_off: Ids of the runs that were broken off before they counted.
        done: Ids of the runs that have a checkpoint, or are infeasible.
        failed: Number of infeasible runs.
        replicates: Number of replicates.
        results: Number of all Results.
        outdated: Number of Results whose inputs have changed since.
        changed: Which inputs have changed.
        machines: The machines that they were made on.
        recorded: When the last of them was, in seconds since 1970.
        points: Number of points that can be chosen.
        front: Number of members of the front.
        hypervolume: Hypervolume of the front; None as in `Progress`.
    """

    spent: Spending
    bought: Mapping[str, int]
    begun: frozenset[str]
    broken_off: frozenset[str]
    done: frozenset[str]
    failed: int
    replicates: int
    points: int
    front: int
    hypervolume: float | None
    results: int = 0
    outdated: int = 0
    changed: tuple[str, ...] = ()
    machines: Mapping[tuple[str, str, str], Machine] = field(default_factory=dict)
    recorded: float = 0.0

    @classmethod
    def of(cls, results: Sequence[Result], view: View) -> Settled:
        """Work it out from all Results of a study. Those being made are left out."""
        finished = [r for r in results if r.status != "running"]
        sound, known = originals(finished), current(finished)
        points = [r for r in corrected_points(finished, view) if view.coordinates(r) is not None]
        members = pareto_front(points, view)
        # Without a known cost no hypervolume is known; 0 would say that the points are worthless.
        measured = view.reference.keys() >= {view.maximize, *view.minimize} and (points or not any(r.scores for r in known))
        begun = frozenset(r.run_id for r in sound if r.status != "interrupted")
        return cls(
            spent=spending(finished, view.offer, view.label_usd),
            bought=labels_bought(finished),
            begun=begun,
            broken_off=frozenset(r.run_id for r in sound) - begun,
            done=frozenset(r.run_id for r in sound if r.status in ("complete", "infeasible")),
            failed=sum(any(r.status == "infeasible" for r in settled(segments)) for segments in by_run(sound).values()),
            replicates=len({r.run_id for r in known if r.replicate_of is not None}),
            points=len(points),
            front=len(members),
            hypervolume=hypervolume(members, view) if measured else None,
            results=len(results),
            outdated=len(finished) - len(known),
            changed=tuple(kinds(finished)),
            machines=machines(finished),
            recorded=max((r.finished for r in finished), default=0.0),
        )

    def with_work(self, making: Sequence[Result], view: View) -> Spending:
        """Return what is spent with the work under way. Each label counts once."""
        more = {name: max(0, count - self.bought.get(name, 0)) for name, count in labels_bought(making).items()}
        # The ledger's finished Results and the work under way may
        # use the same labels, so labels are priced below, once.
        work = replace(spending(making, view.offer, 0.0), labels=sum(more.values()))
        usd = None if work.usd is None else work.usd + view.label_usd * work.labels
        return self.spent + replace(work, usd=usd)


def progress(
    settled: Settled,
    leases: Sequence[Mapping[str, Any]],
    ended: Mapping[str, Any] | None,
    view: View,
    *,
    now: float,
    limits: Mapping[str, float | None] | None = None,
    sharing: Sequence[Mapping[str, Any]] = (),
) -> Progress:
    """Return how a sweep stands.

    Args:
        settled: What the finished Results of the study say; those being made are taken from the leases.
        leases: The records of the leases, as `Ledger.leases` gives them: worker, heartbeat, usage so far, Result to be made.
        ended: How the last sweep ended (`Ledger.ended`); None while one works, or if it was killed.
        view: Prices and objectives.
        now: Seconds since 1970.
        limits: The limits of the sweep that began last (`limits` in `Ledger.description`); None where they are unknown.
        sharing: How many workers shared its devices (`sharing` there).
    """
    limits = limits or {}
    workers = tuple(_worker(record, now) for record in leases)
    making = [worker.making for worker in workers]
    spent, at_work = settled.with_work(making, view), sum(worker.lives for worker in workers)
    # A run with a checkpoint that is being taken further is not done.
    done = settled.done - {r.run_id for r in making}
    left = seconds_left(spent, limits, len(done)) if at_work else None
    trials = limits.get("trials")
    swept = settled.results and limits  # without limits the Results may have been taken over from an older form
    # Between two leases a worker reads, decides and loads. A clock that is ahead of this one says nothing.
    lately = not workers and 0 <= now - settled.recorded < SILENCE_SECONDS
    idle = "choosing" if swept and lately else "broken" if workers or swept else "starting" if limits else "new"
    return Progress(
        state="working" if at_work else "ended" if ended else idle,
        reason="" if at_work or not ended else str(ended["reason"]),
        what="sweep" if not ended else str(ended["what"]),
        runs=len(settled.begun | {r.run_id for r in originals(making)}),
        broken_off=len(settled.broken_off - {r.run_id for r in making}),
        trials=None if trials is None else math.floor(trials),
        points=settled.points,
        failed=settled.failed,
        replicates=settled.replicates,
        spent=spent,
        bounds=tuple(budget_uses(spent, limits)),
        limits=limits,
        usd_per_hour=usd_per_hour(spent, at_work) if at_work else None,
        # Budgets and trials are counted in seconds of work, which the workers spend side by side.
        seconds_left=None if left is None else left / at_work,
        front=settled.front,
        hypervolume=settled.hypervolume,
        workers=workers,
        machines=with_workers(settled.machines, [(w.host, w.making, w.lives, w.silent_seconds) for w in workers]),
        outdated=settled.outdated,
        changed=settled.changed,
        sharing=tuple(sharing),
    )


def _worker(record: Mapping[str, Any], now: float) -> Worker:
    making = of_lease(record, record["result"].get("trial"))
    return Worker(
        pid=int(record["pid"]),
        host=str(record["host"]).split("/")[0],
        making=making,
        seconds=making.consumed.seconds,
        silent_seconds=max(0.0, now - float(record["beat"])),
        lives=alive(record, now),
    )
