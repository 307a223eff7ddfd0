//! PromQL: language, plan, evaluation.
