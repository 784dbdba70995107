"""Imports go down: a file imports from lower floors, or from what stands before it on its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jitune"
# From the ground up; within a floor, in the order of building. A name without a dot covers its folder.
FLOORS = (
    ("types", "tree", "recipes",
     "options",
     "config"),
    ("cpu_threads",
     "sharding",
     "leaves.parts", "leaves.grouped", "leaves.factored", "leaves.rows", "leaves.quantized",
     "rules.bind", "rules.products", "rules.moves", "rules.control", "rules.table", "structured",
     "laid", "hoist",
     "host_memory",
     "models.family", "models.presets", "models.families", "models.keys", "models.rope", "models.config",
     "models.names",
     "limits",
     "models.rotary",
     "models.masks", "models.chunked", "models.backends", "models.kernels",
     "models.attention",
     "models.context_attention",
     "models.cache", "models.cached_attention",
     "models.moe",
     "models.layers",
     "models.flax_bridge", "models.decoder", "flops", "hardware",
     "data.visible",
     "data.json_rows", "data.file_rows",
     "data.sources",
     "data.streams",
     "data.formats",
     "data.record",
     "data.record_schema",
     "data.record_rows",
     "data.row_parts",
     "data.preferences",
     "data.chat", "data.packing", "data.pipeline",
     "data.token_store",
     "data.pairs",
     "data.measure",
     "data.show_record",
     "data.show"),
    ("transforms.weights", "transforms.full", "transforms.lora", "transforms.dora", "transforms.quantize",
     "transforms.partial", "transforms.tokens", "transforms.prefix", "transforms.prompt", "transforms.chain",
     "transforms.build",
     "objectives.balance",
     "objectives.loss", "objectives.sft",
     "objectives.divergence", "objectives.distill", "objectives.on_policy",
     "objectives.sequences",
     "objectives.preference",
     "objectives.build",
     "optimizers", "step", "checkpoint",
     "generation.detokenize", "generation.sampling", "generation.prompts", "generation.decode_loop",
     "generation.batches", "generation.slots", "generation.rows", "generation.generate",
     "generation.several",
     "generation.speculative_loop",
     "generation.prompt_logprobs",
     "hub.files",
     "hub.stored",
     "hub.tokenizer", "hub.resize", "hub.weights", "hub.fresh",
     "hub.vocabulary",
     "generation.speculative",
     "hub.fused",
     "hub.peft_config", "hub.adapter", "hub.peft_read", "hub.peft"),
    ("report.style", "report.page", "report.axes", "report.charts", "report.intervals",
     "report.heat",
     "report.records",
     "report.curves",
     "report.run",
     "compile_cache", "runlog", "rundir", "meter", "profiling", "samples", "state", "stopping", "export",
     "compiling", "interactive",
     "evals.task", "evals.rows", "evals.store", "evals.catalogue", "evals.stats",
     "evals.agreement",
     "evals.aggregate", "evals.results",
     "evals.engine.plan", "evals.engine.score", "evals.engine.scoring", "evals.engine.tokens", "evals.engine.answers",
     "evals.engine.pool",
     "evals.engine.engine",
     "generators.call",
     "generators.purse", "generators.account", "generators.local", "generators.cached",
     "generators.endpoint", "generators.wire", "generators.calls",
     "generators.replay",
     "generators.open",
     "evals.judge.prompts",
     "evals.judge.judge", "evals.judge.classifier", "evals.judge.options", "evals.judge.answers",
     "evals.judge.length", "evals.judge.pairwise", "evals.judge.validate", "evals.judge.human_page",
     "evals.judge.human",
     "evals.sandbox",
     "evals.metrics.words", "evals.metrics.numbers", "evals.metrics.answers", "evals.metrics.labels",
     "evals.metrics.overlap", "evals.metrics.grounding", "evals.metrics.detection",
     "evals.metrics.refusal_phrases", "evals.metrics.refusal", "evals.metrics.harm",
     "evals.instructions.language", "evals.instructions.detect", "evals.instructions.checks",
     "evals.instructions.en", "evals.instructions.es", "evals.instructions.fr", "evals.instructions.ja",
     "evals.instructions.table",
     "evals.tasks.ifeval", "evals.tasks.gsm8k", "evals.tasks.mgsm", "evals.tasks.bbh", "evals.tasks.humaneval",
     "evals.tasks.pubmedqa", "evals.tasks.xcopa", "evals.tasks.lawbench", "evals.tasks.tatqa", "evals.tasks.legalbench",
     "evals.tasks.open_ended", "evals.tasks.multiple_choice", "evals.tasks.generation", "evals.tasks.perplexity",
     "evals.tasks.truthfulqa_rows", "evals.tasks.truthfulqa_mc", "evals.tasks.truthfulqa_gen", "evals.tasks.halueval",
     "evals.tasks.xquad_rows", "evals.tasks.grounded_qa", "evals.tasks.claim_support", "evals.tasks.selfcheck",
     "evals.tasks.begin",
     "evals.tasks.xstest", "evals.tasks.advbench", "evals.tasks.harmbench", "evals.tasks.strongreject",
     "evals.tasks.multijail", "evals.tasks.bbq", "evals.tasks.toxicity",
     "evals.choose", "evals.progress", "evals.responses", "evals.run",
     "evals.comparison.pairs", "evals.comparison.tradeoff", "evals.comparison.compare", "evals.comparison.text",
     "evals.pages.shown", "evals.pages.examples", "evals.pages.tasks", "evals.pages.evaluation", "evals.pages.flips",
     "evals.pages.comparison",
     "evals.screen", "evals.harness", "evals.during", "evals.command",
     # Records in and out.
     "construct.ledger", "construct.whole_file", "construct.record_files",
     "construct.readers.training", "construct.readers.own",
     "construct.readers.trees", "construct.readers.oasst", "construct.readers.items",
     "construct.readers.label_studio", "construct.readers.argilla",
     "construct.reading", "construct.convert",
     "construct.annotate.questions", "construct.annotate.assignment", "construct.annotate.items",
     "construct.annotate.log", "construct.annotate.shown", "construct.annotate.desk", "construct.annotate.guidelines",
     "construct.annotate.page", "construct.annotate.server", "construct.annotate.export",
     "construct.annotate.label_studio", "construct.annotate.command",
     "construct.agreement.labels", "construct.agreement.shapes", "construct.agreement.read",
     "construct.agreement.measure", "construct.agreement.dawid_skene", "construct.agreement.ranked_pairs",
     "construct.agreement.bradley_terry", "construct.agreement.accepted", "construct.agreement.reliability",
     "construct.agreement.queue", "construct.agreement.rankings", "construct.agreement.study",
     "construct.agreement.chosen",
     "construct.agreement.text", "construct.agreement.pages", "construct.agreement.files",
     "construct.curate.stage", "construct.curate.ids",
     "construct.curate.filters.parts", "construct.curate.filters.units", "construct.curate.filters.length",
     "construct.curate.filters.empty", "construct.curate.filters.mojibake", "construct.curate.filters.encoding",
     "construct.curate.filters.language", "construct.curate.filters.refusal", "construct.curate.filters.boilerplate",
     "construct.curate.filters.missing_phrases", "construct.curate.filters.hallucinated_input",
     "construct.curate.filters.repetition", "construct.curate.filters.artifacts",
     "construct.curate.filters.pii_patterns", "construct.curate.filters.pii_presidio", "construct.curate.filters.pii",
     "construct.curate.scores.model", "construct.curate.scores.embed", "construct.curate.scores.pick",
     "construct.curate.scores.texts", "construct.curate.scores.losses", "construct.curate.scores.ifd",
     "construct.curate.scores.perplexity", "construct.curate.scores.deita", "construct.curate.scores.own",
     "construct.curate.words", "construct.curate.pieces", "construct.curate.exact", "construct.curate.minhash",
     "construct.curate.near", "construct.curate.diversity", "construct.curate.grams", "construct.curate.decontaminate",
     "construct.curate.mix",
     "construct.curate.table", "construct.curate.sift", "construct.curate.tally", "construct.curate.workers",
     "construct.curate.passes", "construct.curate.identity", "construct.curate.config", "construct.curate.funnel",
     "construct.curate.card", "construct.curate.examples", "construct.curate.report", "construct.curate.run",
     # Records in and out.
     # What people say of them.
     # Curation: stages,
     # and what runs them.
     "construct.distill.method",
     "construct.distill.asking", "construct.distill.folder",
     "construct.distill.ranges", "construct.distill.texts", "construct.distill.checks", "construct.distill.rouge",
     "construct.distill.classified", "construct.distill.templates", "construct.distill.seeds",
     "construct.distill.instances", "construct.distill.instructions", "construct.distill.numbered",
     "construct.distill.growing",
     "construct.distill.self_instruct", "construct.distill.alpaca",
     "construct.distill.faults",
     "construct.distill.respond",
     "construct.distill.stop_words",
     "construct.distill.forms",
     "construct.distill.evolve_prompts",
     "construct.distill.evolve",
     "construct.distill.pre_query",
     "construct.distill.magpie_prompts",
     "construct.distill.magpie",
     "construct.distill.backtranslate_prompts",
     "construct.distill.backtranslate",
     "construct.distill.table", "construct.distill.config",
     "construct.distill.funnel", "construct.distill.card", "construct.distill.report",
     "construct.distill.run",
     "construct.verify.verifier",
     "construct.verify.arithmetic",
     "construct.verify.units",
     "construct.verify.math_text",
     "construct.verify.math_value",
     "construct.verify.math",
     "construct.verify.code",
     "construct.verify.constraints",
     "construct.verify.exact",
     "construct.verify.worker",
     "construct.verify.guard",
     "construct.verify.table",
     "construct.improve.select",
     "construct.improve.prompts",
     "construct.improve.constitution",
     "feed", "companions", "references", "own_answers",
     "construct.distill.teacher",
     "finish",
     "construct.improve.stopping",
     "construct.improve.collapse",
     "train",
     "construct.improve.problems",
     "construct.improve.makers", "construct.improve.methods", "construct.improve.evaluate",
     "construct.improve.config", "construct.improve.models", "construct.improve.frame",
     "construct.improve.phases", "construct.improve.rounds", "construct.improve.summary",
     "construct.improve.report", "construct.improve.run",
     "planning.hlo", "planning.collectives", "planning.count", "planning.study", "planning.tables", "planning.compare",
     "planning.plan", "planning.dry_run", "failures",
     "quickstart.words", "quickstart.tasks", "quickstart.grade", "quickstart.measure", "quickstart.screen",
     "quickstart.page", "quickstart.run",
     "serve.row", "serve.engine", "serve.fields", "serve.prompts", "serve.replies", "serve.models", "serve.running",
     "serve.reply", "serve.app", "serve.run"),
    ("commands.going_on", "commands.quickstart", "commands.init",
     "commands.data_convert",
     "commands.data_show",
     "commands.data_annotate",
     "commands.data_agreement",
     "commands.data_curate",
     "commands.data_distill",
     "commands.data_teacher",
     "commands.data", "commands.plan", "commands.train",
     "commands.generate", "commands.eval", "commands.judge", "commands.export",
     "commands.improve",
     "commands.serve",
     "commands.report", "cli", "__main__"),
)
ORDER = [name for floor in FLOORS for name in floor]
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written with their full path"
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    names = {n.removeprefix("jitune.") for n in found if n.startswith("jitune.")}
    return {n for n in names if n in ORDER}


@pytest.mark.core
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down(path):
    name = name_of(path)
    assert name in ORDER, f"{name} has no place: add it to FLOORS"
    above = [n for n in imported(path) if ORDER.index(n) >= ORDER.index(name)]
    assert not above, f"{name} imports {above}, which stand above it"


def test_every_place_is_taken():
    assert {name_of(p) for p in FILES} == set(ORDER)


def test_the_data_floor_is_free_of_jax():
    for path in (PACKAGE / "data").glob("*.py"):
        assert "import jax" not in path.read_text(), f"{path.name} imports jax"
