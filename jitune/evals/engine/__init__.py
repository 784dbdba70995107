"""The engine of evaluation: log-likelihoods and answers of a model, with few compiled shapes."""
