//! A stateful stand-in for authentik.
