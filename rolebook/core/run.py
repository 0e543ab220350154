"""One execution of a comparison: threads that fill its cells, what others may watch of it, and how it is stopped.

For each call that may be made at once two cells are being filled: while one is called, the next gets ready, so that its
call leaves as soon as the answer has come, and before that is recorded (see :mod:`rolebook.core.line`).
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress

from rolebook.core.access import on_this_account
from rolebook.core.blocking import blocking
from rolebook.core.comparison import Break, Cell, CellKey, CellStatus, Comparison, Tally
from rolebook.core.errors import ConflictError, RolebookError, StorageError
from rolebook.core.frozen import frozen
from rolebook.core.line import Line, Place
from rolebook.core.session import Turn, TurnError, new_id

#: The rate is that of the newest cells, so that it follows a server that gets slower.
_RATE_OVER = 50
#: So many cells of a variant must have ended before they tell what others will cost.
_FEWEST_TELLING = 3


@frozen
class CellReady:
    """The cell had ended, is to be called once more, and waits for its place."""

    key: CellKey


@frozen
class CellStarted:
    """A turn of the cell is under way; ``turn`` counts from 0."""

    key: CellKey
    turn: int


@frozen
class CellDelta:
    """A piece of the answer to one of the cell's texts."""

    key: CellKey
    turn: int
    text: str


@frozen
class CellJudged:
    """All of the cell is answered and in the log, and its judge is asked."""

    key: CellKey


@frozen
class CellEnded:
    """The cell stands in the log with its end, whatever that is."""

    cell: Cell


@frozen
class RunEnded:
    """Nothing more will come."""


RunEvent = CellReady | CellStarted | CellDelta | CellJudged | CellEnded | RunEnded


@frozen
class Progress:
    """How far a comparison is, and how fast it goes on: ``rate`` in cells a second.

    It ``is_running`` in this process or in another one, where alone it can be stopped if it ``is_elsewhere``. ``rate``
    and ``seconds_left`` are ``None`` where nothing runs here, and until there is something to tell them by.
    ``cost_left`` is about what the cells will cost that have not ended, in US dollars; ``None`` where those that have
    do not tell it. ``to_judge`` cells are answered, and wait for their judge or are with it.
    ``breaks`` say why the last run has not called everybody, or nobody any more; what is left of it may go on.
    """

    tally: Tally
    rate: float | None = None
    seconds_left: float | None = None
    cost_left: float | None = None
    to_judge: int = 0
    is_running: bool = False
    is_elsewhere: bool = False
    breaks: Sequence[Break] = ()


@frozen
class LiveText:
    """What has arrived so far of the answer to one of a cell's texts, which are counted from 0.

    Where the cell ``is_judged`` all of it has arrived, and its judge is asked.
    """

    turn: int
    text: str
    is_judged: bool = False


class Subscription:
    """The events of a run from one moment on. To be used by one thread.

    Arguments:
        live: what the cells under way had said until that moment.
        ended: the cells that had ended by then, in that order; one that was filled twice stands there twice.
    """

    def __init__(self, live: Mapping[CellKey, LiveText], ended: Sequence[CellKey]) -> None:
        self.live = live
        self.ended = ended
        self.events: queue.SimpleQueue[RunEvent] = queue.SimpleQueue()

    def get(self, timeout_s: float) -> RunEvent | None:
        """The next event, or ``None`` if there is none within the time."""
        try:
            with blocking():
                return self.events.get(timeout=timeout_s)
        except queue.Empty:
            return None


#: Fills one cell and yields what happens. It calls nobody before ``Run.take_place``, gives the place back when there is
#: nothing more to call, looks at ``Run.is_closed`` and reports turns by ``Run.note_turn`` and ``Run.note_end``.
Fill = Callable[["Run", CellKey, Place], Iterator[RunEvent]]


@frozen
class Workload:
    """What a run has to do, and what it begins with.

    ``begun`` says of the cells that have begun how far they are in the log; ``spent`` is what they have cost until now.
    ``queues`` are the cells to fill, in order, by the upstream that answers them; ``concurrency`` is how many calls to
    each of these are made at once. ``judge_upstream`` answers for the judge, if there is one.
    """

    begun: Mapping[CellKey, CellStatus]
    spent: Tally
    queues: Mapping[str, Sequence[CellKey]]
    concurrency: int
    judge_upstream: str = ""
    breaks: Sequence[Break] = ()


class Run:
    """The threads that fill the cells of one comparison. Safe for threads.

    Arguments:
        comparison: whose cells.
        fill: fills one cell.
        cancel: stops a turn by its id.
        on_break: called with all breaks whenever there is one more, to keep them.
        on_end: the same, but called once, from the last thread.
    """

    def __init__(
        self,
        comparison: Comparison,
        workload: Workload,
        *,
        fill: Fill,
        cancel: Callable[[str], bool],
        on_break: Callable[[Sequence[Break]], None],
        on_end: Callable[[Sequence[Break]], None],
    ) -> None:
        self.comparison = comparison
        #: Tells it from others of the same comparison.
        self.id = new_id()
        self.error: RolebookError | None = None
        """What ended it before its time, beside upstreams that gave no answers."""
        self.breaks = tuple(workload.breaks)
        self.is_kept = False
        """Whether all that is to be known of it is in the log."""
        #: One cell is rendered at a time: many at once would each start a worker, which costs more than the waiting.
        self.rendering = threading.Lock()
        self._fill = fill
        self._cancel = cancel
        self._on_break = on_break
        self._on_end = on_end
        self._lock = threading.Lock()
        self._total = comparison.size
        self._statuses = dict(workload.begun)
        self._counted = Counter(self._statuses.values())
        self._spent = workload.spent
        self._cost, self._without_cost = workload.spent.cost, workload.spent.without_cost
        queues = dict(workload.queues)
        if workload.judge_upstream:
            queues.setdefault(workload.judge_upstream, ())
        self._lines = {
            name: Line(name, keys, workload.concurrency) for name, keys in queues.items()
        }
        wanted = [key for keys in workload.queues.values() for key in keys]
        self._wanted = len(wanted)
        #: What is complete before it begins is wanted for nothing else.
        only_judged = {key for key in wanted if self._statuses.get(key) is CellStatus.COMPLETE}
        self._to_judge = set(only_judged)
        self._outlook = _Outlook(wanted, only_judged)
        self._live: dict[CellKey, tuple[int, list[str]]] = {}
        self._judged: set[CellKey] = set()
        self._turns: dict[CellKey, tuple[Line, str]] = {}
        self._ended: list[CellKey] = []
        self._subscriptions: list[Subscription] = []
        self._ends: deque[float] = deque(maxlen=_RATE_OVER)
        self._alive = 0
        self._has_ended = threading.Event()

    def start(self) -> None:
        """Begin. Returns at once."""
        work = on_this_account(self._work)
        threads = [
            threading.Thread(target=work, args=(line,), name="rolebook-run", daemon=True)
            for line in self._lines.values()
            for _ in range(line.fillers)
        ]
        self._ends.append(time.monotonic())
        self._alive = len(threads)
        if not threads:
            self._end()
        for thread in threads:
            try:
                thread.start()
            except RuntimeError:
                # The system has no room for more, so the others do it all.
                self._leave()

    def stop(self) -> None:
        """Begin no further cell and stop those under way. Returns at once; calling it again does nothing."""
        self._close(self._lines.values())

    def is_closed(self, upstream: str) -> bool:
        """Whether an upstream is not called any more."""
        return self._lines[upstream].is_closed

    def _close(self, lines: Iterable[Line], *, ended: str = "") -> None:
        """Call these no more, and stop the turns there, except one that has ended."""
        with self._lock:
            for line in lines:
                line.close()
            turns = [turn_id for line, turn_id in self._turns.values() if line.is_closed]
        for turn_id in turns:
            if turn_id != ended:
                self._cancel(turn_id)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for its end. False if that did not come within the time."""
        with blocking():
            return self._has_ended.wait(timeout_s)

    @property
    def has_ended(self) -> bool:
        """Whether all its threads are done."""
        return self._has_ended.is_set()

    @property
    def progress(self) -> Progress:
        """How far the comparison is at this moment."""
        with self._lock:
            running, ends = len(self._live), list(self._ends)
            left_out = {key for line in self._lines.values() for key in line.left_out}
            waiting = self._wanted - len(left_out) - len(self._ended)
            to_judge = len(self._to_judge - left_out)
            cost_left = None if self._without_cost else self._outlook.cost_left(left_out)
            tally = self._tally(running)
        is_running = not self.has_ended
        elapsed = ends[-1] - ends[0]
        rate = (len(ends) - 1) / elapsed if elapsed > 0 and is_running else None
        left = waiting / rate if rate else None
        return Progress(
            tally,
            rate=rate,
            seconds_left=left,
            cost_left=cost_left if is_running else None,
            to_judge=to_judge if is_running else 0,
            is_running=is_running,
            breaks=self.breaks,
        )

    def _tally(self, running: int) -> Tally:
        return Tally(
            total=self._total,
            complete=self._counted[CellStatus.COMPLETE],
            failed=self._counted[CellStatus.FAILED],
            stopped=self._counted[CellStatus.STOPPED],
            running=running,
            recorded_failed=self._spent.recorded_failed,
            recorded_stopped=self._spent.recorded_stopped,
            cost=self._cost,
            without_cost=self._without_cost,
        )

    def _count(self, key: CellKey, status: CellStatus) -> None:
        """Count a cell as it is now, in place of what it was before."""
        before = self._statuses.get(key)
        if before is not None:
            self._counted[before] -= 1
        self._counted[status] += 1
        self._statuses[key] = status

    def live_texts(self) -> Mapping[CellKey, LiveText]:
        """What has arrived so far in the cells under way."""
        with self._lock:
            return self._live_texts()

    def _live_texts(self) -> Mapping[CellKey, LiveText]:
        return {
            key: LiveText(turn, "".join(pieces), key in self._judged)
            for key, (turn, pieces) in self._live.items()
        }

    @contextmanager
    def watching(self) -> Iterator[Subscription]:
        """The events from now on, and what had arrived until now; the last is RunEnded, at once if it has ended."""
        with self._lock:
            subscription = Subscription(self._live_texts(), tuple(self._ended))
            self._subscriptions.append(subscription)
            if self.has_ended:
                subscription.events.put(RunEnded())
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions.remove(subscription)

    def note_ready(self, key: CellKey) -> None:
        """A cell is recorded as to be called, so it counts as waiting, also where it had failed before."""
        with self._lock:
            if self._hide(key):
                self._tell(CellReady(key))

    def take_place(self, key: CellKey, place: Place) -> None:
        """Wait until a cell may be called, or the run is stopped. From then on the cell counts as running."""
        place.wait()
        with self._lock:
            self._live.setdefault(key, (0, []))
            self._hide(key)

    def note_answered(self, key: CellKey) -> None:
        """All of a cell is answered, and it waits for its judge."""
        with self._lock:
            self._to_judge.add(key)

    def note_judged(self, key: CellKey) -> None:
        """The judge of a cell has its place and is asked."""
        with self._lock:
            if key not in self._judged:
                self._judged.add(key)
                self._tell(CellJudged(key))

    def join_line(self, upstream: str) -> Place:
        """What will be a place at another upstream than that of the cell, for its judge."""
        return self._lines[upstream].join()

    def note_turn(self, key: CellKey, upstream: str, turn_id: str) -> None:
        """A turn for a cell is under way there and can be stopped by its id; an empty one: no longer."""
        line = self._lines[upstream]
        with self._lock:
            if turn_id:
                self._turns[key] = line, turn_id
            else:
                self._turns.pop(key, None)
            is_late = line.is_closed
        if is_late and turn_id:
            self._cancel(turn_id)

    def note_end(self, key: CellKey, turn: Turn, upstream: str) -> None:
        """A turn for a cell has ended there; a judge's counts as well."""
        with self._lock:
            self._outlook.note_cost(key, turn.cost or 0.0)
            self._cost += turn.cost or 0.0
            self._without_cost += turn.cost is None
        line = self._lines[upstream]
        if found := line.note_end(turn):
            self._close([line], ended=turn.id)
            self._keep(found)

    def _keep(self, found: Break) -> None:
        with self._lock:
            self.breaks = (*self.breaks, found)
        # Where the log cannot be written there is one more try at the end.
        with suppress(StorageError):
            self._on_break(self.breaks)

    def _work(self, line: Line) -> None:
        try:
            while begun := line.begin():
                self._fill_one(*begun)
        except RolebookError as error:
            self._break_off(error)
        except BaseException:
            self._break_off(
                RolebookError(
                    "Rolebook itself failed here. What it printed in its terminal says more."
                )
            )
            raise
        finally:
            self._leave()

    def _leave(self) -> None:
        """One thread less fills cells; the last one ends the run."""
        with self._lock:
            self._alive -= 1
            is_last = not self._alive
        if is_last:
            self._end()

    def _break_off(self, error: RolebookError) -> None:
        """End as a whole, because of something that is no matter of one upstream."""
        with self._lock:
            is_first = self.error is None
            self.error = self.error or error
        self.stop()
        # That it went to the trash meanwhile is told there, and no longer true when it is taken out again.
        if is_first and not isinstance(error, ConflictError):
            self._keep(Break(TurnError.of(error)))

    def _fill_one(self, key: CellKey, place: Place) -> None:
        try:
            for event in self._fill(self, key, place):
                self._note(event)
        finally:
            place.give_back()
            with self._lock:
                self._live.pop(key, None)
                self._judged.discard(key)
                self._turns.pop(key, None)

    def _hide(self, key: CellKey) -> bool:
        """A cell that is filled again counts as waiting or running, not as what it was; False if it never was."""
        has_begun = key in self._statuses
        if has_begun:
            self._count(key, CellStatus.WAITING)
        return has_begun

    def _note(self, event: RunEvent) -> None:
        with self._lock:
            match event:
                case CellStarted(key, turn):
                    self._live[key] = (turn, [])
                case CellDelta(key, _, text):
                    self._live[key][1].append(text)
                case CellEnded(cell):
                    self._live.pop(cell.key, None)
                    self._judged.discard(cell.key)
                    self._to_judge.discard(cell.key)
                    self._ended.append(cell.key)
                    self._outlook.note_end(cell.key)
                    self._count(cell.key, cell.status)
                    self._ends.append(time.monotonic())
            self._tell(event)

    def _tell(self, event: RunEvent) -> None:
        for subscription in self._subscriptions:
            subscription.events.put(event)

    def _end(self) -> None:
        try:
            self._on_end(self.breaks)
            self.is_kept = True
        except RolebookError as error:
            self.error = self.error or error
        finally:
            self._has_ended.set()
            self._note(RunEnded())


class _Outlook:
    """What the cells of a run will cost that have not ended, told by others of the same variant that have.

    The first cells to end are those of the variant that answers fastest, which may be the cheapest.

    Arguments:
        wanted: the cells to fill.
        only_judged: those of them that nobody but the judge is asked for.
    """

    def __init__(self, wanted: Iterable[CellKey], only_judged: Set[CellKey]) -> None:
        self._only_judged = frozenset(only_judged)
        self._left = Counter(map(self._kind, wanted))
        self._ended: Counter[tuple[int, bool]] = Counter()
        self._cost: dict[tuple[int, bool], float] = defaultdict(float)
        self._under_way: dict[CellKey, float] = defaultdict(float)

    def note_cost(self, key: CellKey, cost: float) -> None:
        """Something that was asked for a cell has cost so much."""
        self._under_way[key] += cost

    def note_end(self, key: CellKey) -> None:
        """A cell has ended."""
        kind = self._kind(key)
        self._left[kind] -= 1
        self._ended[kind] += 1
        self._cost[kind] += self._under_way.pop(key, 0.0)

    def cost_left(self, left_out: Iterable[CellKey]) -> float | None:
        """What the others will cost, in US dollars; ``None`` while too few have ended of a variant that has others.

        Arguments:
            left_out: cells that are not asked any more.
        """
        left = self._left - Counter(map(self._kind, left_out))
        if any(self._ended[kind] < _FEWEST_TELLING for kind in left):
            return None
        whole = sum(self._cost[kind] / self._ended[kind] * count for kind, count in left.items())
        return max(0.0, whole - sum(self._under_way.values()))

    def _kind(self, key: CellKey) -> tuple[int, bool]:
        return key.variant, key in self._only_judged
