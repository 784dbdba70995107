"""Two evaluations of the same questions side by side: two folders in, a dict (JSON) of paired differences out.

    found = compare("eval/base", "eval/tuned")
    found["verdict"]     # "utility +3.1 (±1.2) points, safety -8.0 (±3.0) points: utility gained at the cost of safety"

Everything is paired: a document counts where both runs scored it, and a delta is b - a. `change` is the delta turned
so that positive is better (the metric's `better`). What is None could not be computed; notes say why.

    found = {
      "format": 1, "jitune": version,
      "a": {"directory", "created", "model", "settings"}, "b": the same,    # as in results.json
      "settings": {name: [a's, b's]},          # settings that differ and hinder nothing (dtype, ...)
      "warnings": [text],                      # what `force` let pass, and what else to know
      "left_out": {task: reason},              # tasks that only one of the runs has
      "tasks": {name: {
        "axis", "title", "domain", "languages": [...], "headline": metric,
        "documents": those in both runs,
        "metrics": {metric: comparison},       # the headline first
        "flips": {"metric", "better": count, "worse": count, "same": count, "unscored": count,
                  "examples": {"worse": [example], "better": [example]}},   # of the headline, largest change first
        "slices": {tag: {value: comparison}}}},           # of the headline; tags: language, domain
      "axes": {axis: change},                  # only axes with a task; in the order utility, faithfulness, safety
      "slices": {"language": {value: {axis: change}}, "domain": the same},
      "verdict": one line}

    comparison = {
      "a", "b": means over the pairs (shares as in results.json, 0 to 1), "delta", "change",
      "se", "low", "high": of the delta (95 %),
      "p": two-sided, "p_holm": adjusted over the tasks' headlines (None elsewhere),
      "method": "mcnemar" | "t" | "bootstrap" | "none",          # of p; see `paired`
      "mde": the smallest true delta that would be found with 80 % power at 5 %,
      "pairs": documents scored in both, "clusters": independent groups among them,
      "unscored_a", "unscored_b": documents without a score in each, "better_pairs", "worse_pairs": counts,
      "a_own", "b_own": what each run reports over all that it scored itself,
      "better": "higher" | "lower", "unit": "share" | "", "meaning", "chance", "note": text, "" as a rule}

    change = {"value", "se", "low", "high", "unit": "points" | "sd", "tasks": [names], "left_out": {name: reason}}
      points: mean over the axis' tasks of 100 x the headline's change; of shares only.
      sd: where no headline is a share, changes over standard deviations of the scores, instead.

    example = {"document", "id", "prompt", "target", "tags", "a": side, "b": side}
    side = {"score", "answer", "text": the first generated text or None, "failure"}
"""

from __future__ import annotations
