"""Two models compared by a judge: two games a question, with the sides swapped.

    games = play(pairs, judge)       # [Game(pair, score 1, 0.5, 0 or None, verdicts, failure), ...]
    summarize(games)["win_rate"]     # {"value": 0.62, "low": 0.55, "high": 0.69, ...}

A model wins a question where both games name it; where they disagree it is a tie (MT-Bench: Zheng et al. 2023). A tie
is half a win. A question that one verdict is missing of is not scored, and counted. Two answers that are the same
text are a tie without a game.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jitune.evals.judge import prompts
from jitune.evals.judge.answers import Pair
from jitune.evals.stats import mean_interval
from jitune.evals.task import Verdict

# What a verdict says of a: in the first game a stands first, in the second b.
MEANING = ({"A": "a", "B": "b", "C": "tie"}, {"A": "b", "B": "a", "C": "tie"})


class Game(NamedTuple):
    """A question's two games. winners: a, b, tie or None of each; empty where the answers are the same."""

    pair: Pair
    score: float | None
    winners: tuple[str | None, ...]
    verdicts: tuple[Verdict, ...]
    failure: str = ""


def play(pairs: Sequence[Pair], judge, *, references: bool = True, on_done=None) -> list[Game]:
    """Asks the judge, twice a pair. references: shows it those that there are. on_done: as in `Judge.answer`."""
    asks, places = [], {}
    for i, pair in enumerate(pairs):
        if pair.a != pair.b:
            places[i] = len(asks)
            reference = pair.reference if references else ""
            asks += [prompts.pair(pair.question, x, y, reference=reference)
                     for x, y in ((pair.a, pair.b), (pair.b, pair.a))]
    verdicts = judge.answer(asks, on_done)
    return [decide(pair, tuple(verdicts[places[i]: places[i] + 2]) if i in places else ())
            for i, pair in enumerate(pairs)]


def decide(pair: Pair, verdicts: tuple[Verdict, ...]) -> Game:
    """The outcome of a question's two games."""
    if not verdicts:
        return Game(pair, 0.5, (), ())
    read = [prompts.read_pair(v.value) if v.value is not None else None for v in verdicts]
    winners = tuple(meaning.get(found) for meaning, found in zip(MEANING, read, strict=True))
    if None in winners:
        missing = verdicts[winners.index(None)]
        return Game(pair, None, winners, verdicts, missing.failure or "judge: no verdict in its answer")
    score = {("a", "a"): 1.0, ("b", "b"): 0.0}.get(winners, 0.5)
    return Game(pair, score, winners, verdicts)


def summarize(games: Sequence[Game]) -> dict[str, Any]:
    """Win rate of a with its interval, length-controlled too, counts, and how much the judge goes by position.

    position_bias: {"n": questions with two verdicts, "disagreement": the share whose games contradict each other,
    "first", "second": shares that went to the same side in both games}.
    """
    from jitune.evals.judge.length import controlled  # it takes scipy.optimize with it

    scored = [g for g in games if g.score is not None]
    scores, clusters = [g.score for g in scored], [g.pair.cluster for g in scored]
    lengths = [[len(text) for text in side] for side in ([g.pair.a for g in scored], [g.pair.b for g in scored])]
    failures: dict[str, int] = {}
    for game in games:
        if game.failure:
            kind = game.failure.partition(":")[0]
            failures[kind] = failures.get(kind, 0) + 1
    return {
        "win_rate": rate(scores, clusters),
        "length_controlled": controlled(scores, *lengths, clusters),
        "wins": scores.count(1.0), "ties": scores.count(0.5), "losses": scores.count(0.0),
        "identical": sum(not g.winners for g in scored),
        "unscored": len(games) - len(scored), "failures": failures,
        "position_bias": position_bias(scored),
        "length": {side: sum(n) / len(n) if n else None for side, n in zip("ab", lengths, strict=True)},
    }


def rate(scores: Sequence[float], clusters: Sequence[str] | None = None) -> dict[str, Any]:
    """The mean of wins (1), ties (0.5) and losses (0) with its interval. Nothing but ties: none can be told."""
    found = mean_interval(scores, clusters, bounds=(0.0, 1.0))
    if scores and set(scores) == {0.5}:
        found = found._replace(se=None, low=None, high=None, note="nothing but ties: no error can be told")
    return found._asdict()


def position_bias(scored: Sequence[Game]) -> dict[str, Any]:
    """See `summarize`. A judge without it has first and second near 0."""
    played = [g.winners for g in scored if g.winners]
    if not played:
        return {"n": 0, "disagreement": None, "first": None, "second": None}
    count = {"first": played.count(("a", "b")), "second": played.count(("b", "a")),
             "disagreement": sum(x != y for x, y in played)}
    return {"n": len(played), **{name: k / len(played) for name, k in count.items()}}


def line(game: Game) -> dict[str, Any]:
    """A game as JSON, for games.jsonl."""
    said = [{"first": side, "winner": winner, "text": verdict.value, "failure": verdict.failure}
            for side, winner, verdict in zip("ab", game.winners, game.verdicts, strict=False)]
    pair = game.pair
    return {"id": pair.id, "question": pair.question, "a": pair.a, "b": pair.b, "score": game.score,
            "failure": game.failure, "games": said}
