//! The operator as users meet it: on a real kube-apiserver, with the rights that the chart grants and no others, and
//! the simulator in place of authentik.

mod arena;
mod budgets;
mod fields;
mod life;
