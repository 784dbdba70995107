"""The load-balancing loss of a model with experts, in the sums of an objective.

    hidden, routed = model.hidden(params, batch)
    return balanced((loss_sum, weight_sum, metrics), routed, training=key is not None)

The balance is a product of two means over the tokens of a forward pass, so that it has no sum over microbatches or
tokens: it is taken of each microbatch, over all devices, and weighs what the microbatch weighs. The loss of a step is
sum(loss) / sum(weight) + coef * the mean of the microbatches' balances, weighted by their weight sums. With one
microbatch that is the loss of transformers with output_router_logits=True, on any mesh; of several, its trainer takes
each by itself too.
"""

from __future__ import annotations

from jitune.types import Routed


def balanced(sums, routed: Routed | None, *, training: bool):
    """(loss_sum, weight_sum, metrics) with what the routers did; as they are where the model has no experts.

    training: whether the loss counts it; evaluation keeps the loss of the objective alone. metrics: besides
    `router_balance`, k where a token's k experts are chosen evenly and more where not, and `router_peak`, the share of
    choices that the most loaded expert of any layer got, of all that its layer made.
    """
    if routed is None:
        return sums
    loss_sum, weight_sum, metrics = sums
    metrics = {**metrics, "router_balance": routed.balance * weight_sum, "router_peak": routed.load.max() * weight_sum}
    return loss_sum + routed.coef * routed.balance * weight_sum if training else loss_sum, weight_sum, metrics
