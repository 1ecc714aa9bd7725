//! The subcommands, one file each.

pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod tools;
