"""Personal data by presidio's recognizers: an extra beside jitune's own patterns.

    find("Call 212-736-5000", language="en", entities=(), model="", min_score=0.4)     # [Match("phone_number", 5, 17)]

Without `model`, only recognizers that need no language model are used: patterns, checksums and telephone numbers.
With the name of an installed spaCy model, names of people and places are found as well; no model is downloaded.
(presidio's own check of addresses asks the network once for a list of domains, and has a copy where there is none.)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jitune.construct.curate.filters.pii_patterns import Match
from jitune.types import UserError

# Found in most texts, and seldom of a person.
NOT_PERSONAL = ("DATE_TIME", "URL", "NRP", "LOCATION", "ORGANIZATION")


@lru_cache(maxsize=4)
def _analyzer(language: str, model: str) -> Any:
    """presidio's engine; made once in a process."""
    try:
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    except ImportError as error:
        raise UserError("pii: engine 'presidio' needs presidio-analyzer: pip install 'jitune[pii]' "
                        f"({error})") from error
    engine = _spacy(language, model) if model else _no_engine(language)
    registry = RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language], nlp_engine=engine if model else None)
    if not model:
        for recognizer in [r for r in registry.recognizers if r.name in ("SpacyRecognizer", "StanzaRecognizer")]:
            registry.remove_recognizer(recognizer.name)
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])


def _spacy(language: str, model: str) -> Any:
    """presidio's engine on a spaCy model that is there."""
    import importlib.util

    from presidio_analyzer.nlp_engine import NlpEngineProvider

    if importlib.util.find_spec(model) is None:
        raise UserError(f"pii: the spaCy model {model!r} is not installed: python -m spacy download {model}")
    return NlpEngineProvider(nlp_configuration={
        "nlp_engine_name": "spacy", "models": [{"lang_code": language, "model_name": model}]}).create_engine()


def _no_engine(language: str) -> Any:
    """An engine that tells nothing of a text: no tokens, lemmas or entities."""
    from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine

    class NoEngine(NlpEngine):
        """What presidio asks of a language model, with nothing in it."""

        def load(self):
            pass

        def is_loaded(self):
            return True

        def process_text(self, text, language):
            return NlpArtifacts(entities=[], tokens=[], tokens_indices=[], lemmas=[], nlp_engine=self,
                                language=language)

        def process_batch(self, texts, language, **_):
            return ((text, self.process_text(text, language)) for text in texts)

        def is_stopword(self, word, language):
            return False

        def is_punct(self, word, language):
            return not any(c.isalnum() for c in word)

        def get_supported_entities(self):
            return []

        def get_supported_languages(self):
            return [language]

    return NoEngine()


def check(language: str, entities: str, model: str) -> tuple[str, ...]:
    """The names of entities in "A, B", all of which presidio knows; for "" all but NOT_PERSONAL.

    Raises:
      UserError: presidio or the model is missing, or an entity is unknown.
    """
    known = sorted(_analyzer(language, model).get_supported_entities(language))
    wanted = tuple(name.strip().upper() for name in entities.split(",") if name.strip())
    if not wanted:
        return tuple(name for name in known if name not in NOT_PERSONAL)
    for name in wanted:
        if name not in known:
            raise UserError(f"pii: entity {name!r} is not known; presidio has {', '.join(known)}")
    return wanted


def find(text: str, *, language: str, entities: tuple[str, ...], model: str, min_score: float) -> list[Match]:
    """What presidio finds, from left to right; of those that overlap, the one of the highest score."""
    found = _analyzer(language, model).analyze(text=text, language=language, entities=list(entities) or None,
                                               score_threshold=min_score)
    kept: list[Match] = []
    for result in sorted(found, key=lambda r: (-r.score, r.start, -r.end)):
        if not any(result.start < other.end and other.start < result.end for other in kept):
            kept.append(Match(result.entity_type.lower(), result.start, result.end))
    return sorted(kept, key=lambda match: match.start)
