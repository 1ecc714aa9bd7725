//! authentik-stage-operator.
