//! The two resource kinds and the words they speak: types only.
//!
//! Nothing here does I/O or decides anything. The OpenAPI schemas with their CEL rules come from these types, so a
//! bound or a rule stands in one place: at the field it is about.

#![allow(clippy::duplicated_attributes)] // the derives of both kinds repeat `printcolumn` and `validation`

mod connection;
mod reason;
mod reference;
pub mod rules;
pub mod schema;
mod stage;
mod stage_status;

pub use connection::{
    AllowedNamespaces, AuthentikConnection, AuthentikConnectionSpec, AuthentikConnectionStatus, CaBundle,
    ForeignAdoption, LabelSelector, NamespacesFrom, SelectorOperator, SelectorRequirement, VerifiedWith,
};
pub use reason::{Abnormal, Reason};
pub use reference::{ConfigMapKeyRef, ConnectionRef, SecretKeyRef};
pub use stage::{
    AdoptionPolicy, AuthType, AuthenticatorSMSStage, AuthenticatorSMSStageSpec, ConfigureFlow, DeletionPolicy, Generic,
    ManagementPolicy, Mapping, Provider, Twilio,
};
pub use stage_status::{
    AuthenticatorSMSStageStatus, CredentialMarker, Dependent, Drift, FlowSet, IntendedFields, ObservedStage, Origin,
    PendingCreate, PinnedConnection, Warning, WarningCode,
};

/// API group of both kinds, and prefix of every name that the operator puts on an object.
pub const GROUP: &str = "stages.authentik-operator.dev";

/// Served and stored version of both kinds.
pub const VERSION: &str = "v1alpha1";

/// Finalizer on a stage resource that owns, or may own, a stage in authentik.
pub const STAGE_FINALIZER: &str = "stages.authentik-operator.dev/stage";

/// Finalizer on a connection that stages still need.
pub const CONNECTION_FINALIZER: &str = "stages.authentik-operator.dev/in-use";

/// Annotation that asks for a round now; its value is acknowledged in `status.lastHandledReconcileAt`.
pub const RECONCILE_ANNOTATION: &str = "stages.authentik-operator.dev/reconcile-requested-at";

/// Field manager of every server-side apply of the operator.
pub const FIELD_MANAGER: &str = "stages.authentik-operator.dev";

/// Condition type that every resource always has: the whole truth in one word.
pub const READY: &str = "Ready";

/// Condition type beside `Ready=False`: work goes on, or something other than this resource can still mend it.
pub const RECONCILING: &str = "Reconciling";

/// Condition type beside `Ready=False`: only an edit of this resource can mend it.
pub const STALLED: &str = "Stalled";
