//! Step 4: what has to be done, decided in one pure and total function over gathered input.
//!
//! ```text
//!   observed         Full                                            Observe
//!   -----------      ---------------------------------------------   --------------------
//!   Owned            Update with the fields that differ, or nothing   nothing, with drift
//!   Gone             Create again                                     nothing
//!   Vacant           Create                                           nothing
//!   Unowned          Adopt if the policy lets us, else Refuse         nothing, with drift
//!   Taken            Refuse                                           nothing
//! ```
//!
//! On a stage that is ours, a reference that does not resolve holds back its own field and no other. Nothing is created
//! or adopted while one does not resolve.

use secrecy::SecretString;
use uuid::Uuid;

use crate::api::{AdoptionPolicy, Drift, ManagementPolicy, Provider, Reason, schema};
use crate::authentik::{StageChanges, StageRow};

use super::Failure;
use super::fingerprint::{self, same};
use super::goal::{Credentials, Goal, Resolved};
use super::observe::Observed;
use super::status::bounded;

/// What a drift entry shows in place of a credential.
pub const SENSITIVE: &str = "(sensitive)";

/// What may be done, and what is known besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What to do with a stage of that name that is not ours.
    pub adoption: AdoptionPolicy,
    /// Whether to write at all.
    pub management: ManagementPolicy,
    /// Whether credentials that the server does not tell have to be sent: their source changed, a round was forced, or
    /// somebody else wrote.
    pub credentials_stale: bool,
}

/// What has to be done.
#[derive(Clone, Debug)]
#[must_use]
pub struct Plan {
    /// The one write, if any.
    pub action: Action,
    /// Where authentik differs, whatever is done about it.
    pub drift: Vec<Drift>,
    /// What cannot be done, each holding back only itself.
    pub held: Vec<Failure>,
}

/// One write, or why there is none.
#[derive(Clone, Debug)]
pub enum Action {
    /// Everything is as it should be, or nothing may be written.
    Nothing,
    /// Create the stage.
    Create,
    /// Take over this stage; what differs is corrected once it is ours.
    Adopt(Uuid),
    /// Change these fields, and no other.
    Update(Uuid, Update),
    /// Nothing can be done.
    Refuse(Failure),
}

/// A change of a stage.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// The fields to send.
    pub changes: StageChanges,
    /// The credentials are among them only as a precaution: whoever changed a field that shows may have changed one
    /// that does not.
    pub precaution: bool,
}

impl Update {
    /// Fields that are changed together or not at all.
    const GROUP: [&'static str; 5] = ["provider", "account_sid", "auth_type", "auth", "auth_password"];

    /// Whether nothing is left to send: a precaution alone is no reason to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let fields = self.changes.fields();
        fields
            .iter()
            .all(|field| self.precaution && matches!(*field, "auth" | "auth_password"))
    }

    /// The same without a field, or without the group that it belongs to.
    #[must_use]
    pub fn without(self, field: &str) -> Self {
        let together: &[&str] = if Self::GROUP.contains(&field) {
            &Self::GROUP
        } else {
            &[field]
        };
        Self {
            changes: together
                .iter()
                .fold(self.changes, |changes, field| changes.without(field)),
            ..self
        }
    }
}

/// Decides.
pub fn plan(goal: &Goal, observed: &Observed, policy: Policy) -> Plan {
    let writes = policy.management == ManagementPolicy::Full;
    match observed {
        Observed::Owned(row) => {
            let Difference {
                changes,
                precaution,
                drift,
                held,
            } = difference(goal, row, policy.credentials_stale);
            let update = Update { changes, precaution };
            let action = if writes && !update.is_empty() {
                Action::Update(row.pk, update)
            } else {
                Action::Nothing
            };
            Plan { action, drift, held }
        }
        Observed::Gone | Observed::Vacant => {
            let action = match (writes, goal.unresolved()) {
                (false, _) => Action::Nothing,
                (true, Some(failure)) => Action::Refuse(failure.clone()),
                (true, None) => Action::Create,
            };
            Plan {
                action,
                drift: Vec::new(),
                held: Vec::new(),
            }
        }
        Observed::Unowned(row) => {
            let Difference {
                changes: _,
                precaution: _,
                drift,
                held,
            } = difference(goal, row, false);
            if !writes {
                return Plan {
                    action: Action::Nothing,
                    drift,
                    held,
                };
            }
            let action = adoption(goal, row, &drift, policy.adoption);
            // Values of a stage that may belong to somebody else are nobody's to read.
            let drift = match &action {
                Action::Refuse(_) => drift
                    .into_iter()
                    .filter(|drift| !is_credential(&drift.field))
                    .map(
                        |Drift {
                             field,
                             desired: _,
                             observed: _,
                         }| Drift {
                            field,
                            desired: None,
                            observed: None,
                        },
                    )
                    .collect(),
                Action::Nothing | Action::Create | Action::Adopt(_) | Action::Update(..) => drift,
            };
            Plan {
                action,
                drift,
                held: Vec::new(),
            }
        }
        Observed::Taken(failure) => {
            let action = if writes {
                Action::Refuse(failure.clone())
            } else {
                Action::Nothing
            };
            Plan {
                action,
                drift: Vec::new(),
                held: Vec::new(),
            }
        }
    }
}

fn adoption(goal: &Goal, row: &StageRow, drift: &[Drift], policy: AdoptionPolicy) -> Action {
    if let Some(failure) = goal.unresolved() {
        return Action::Refuse(failure.clone());
    }
    let ignored = |field: &str| match field {
        "auth" | "auth_password" => true,
        // Twilio makes no use of it, so it says nothing about whose the stage is.
        "auth_type" => goal
            .credentials
            .as_ref()
            .is_ok_and(|credentials| credentials.provider == Provider::Twilio),
        _ => false,
    };
    let fields: Vec<_> = drift
        .iter()
        .map(|drift| drift.field.as_str())
        .filter(|field| !ignored(field))
        .collect();
    match policy {
        AdoptionPolicy::Always => Action::Adopt(row.pk),
        AdoptionPolicy::IfMatch if fields.is_empty() => Action::Adopt(row.pk),
        AdoptionPolicy::IfMatch => {
            // Whether a guessed account is right is nobody's to learn.
            let told: Vec<_> = fields.into_iter().filter(|field| !is_credential(field)).collect();
            let told = if told.is_empty() {
                "its account".to_owned()
            } else {
                told.join(", ")
            };
            Action::Refuse(Failure::new(
                Reason::NameConflict,
                format!(
                    "authentik has a stage {:?} that this resource did not create, and it differs in {told}: set \
                     adoptionPolicy to Always to take it over and correct it, make the spec equal to it, or choose another name",
                    goal.name,
                ),
            ))
        }
        AdoptionPolicy::Never => Action::Refuse(Failure::new(
            Reason::NameConflict,
            format!(
                "authentik has a stage {:?} that this resource did not create: choose another name, or set \
                 adoptionPolicy to IfMatch or Always to take it over",
                goal.name
            ),
        )),
    }
}

/// What is not shown of a stage that belongs to somebody else, not even whether it equals the spec.
fn is_credential(field: &str) -> bool {
    matches!(field, "account_sid" | "auth" | "auth_password")
}

/// Where a stage differs from what it should be.
struct Difference {
    changes: StageChanges,
    precaution: bool,
    drift: Vec<Drift>,
    held: Vec<Failure>,
}

impl Difference {
    /// A field that stands alone.
    fn field<T: PartialEq>(
        &mut self,
        name: &'static str,
        desired: &T,
        observed: &T,
        show: impl Fn(&T) -> String,
        set: impl FnOnce(&mut StageChanges, &T),
    ) {
        if desired != observed {
            self.differs(name, &show(desired), &show(observed));
            set(&mut self.changes, desired);
        }
    }

    fn reference(
        &mut self,
        name: &'static str,
        desired: &Resolved<Option<Uuid>>,
        observed: Option<Uuid>,
        set: impl FnOnce(&mut StageChanges, &Option<Uuid>),
    ) {
        match desired {
            Ok(desired) => self.field(name, desired, &observed, show_reference, set),
            Err(failure) => self.held.push(failure.clone()),
        }
    }

    fn differs(&mut self, field: &str, desired: &str, observed: &str) {
        self.drift.push(Drift {
            field: field.to_owned(),
            desired: Some(bounded(desired, schema::STATUS_URL)),
            observed: Some(bounded(observed, schema::STATUS_URL)),
        });
    }
}

#[allow(clippy::ref_option)] // it shows what a field holds
fn show_reference(pk: &Option<Uuid>) -> String {
    pk.map_or_else(|| "(none)".to_owned(), |pk| pk.to_string())
}

fn difference(goal: &Goal, row: &StageRow, credentials_stale: bool) -> Difference {
    // Listed without `..`: a field that is added to the goal has to be compared here.
    let Goal {
        name,
        friendly_name,
        configure_flow,
        from_number,
        verify_only,
        credentials,
        mapping,
    } = goal;
    let mut all = Difference {
        changes: StageChanges::default(),
        precaution: false,
        drift: Vec::new(),
        held: Vec::new(),
    };
    let text = String::clone;
    all.field("name", name, &row.name, text, |changes, name| {
        changes.name = Some(name.clone());
    });
    all.field(
        "friendly_name",
        friendly_name,
        &row.friendly_name,
        text,
        |changes, value| {
            changes.friendly_name = Some(value.clone());
        },
    );
    all.reference("configure_flow", configure_flow, row.configure_flow, |changes, pk| {
        changes.configure_flow = Some(*pk);
    });
    all.field("from_number", from_number, &row.from_number, text, |changes, value| {
        changes.from_number = Some(value.clone());
    });
    all.field(
        "verify_only",
        verify_only,
        &row.verify_only,
        bool::to_string,
        |changes, value| {
            changes.verify_only = Some(*value);
        },
    );
    all.reference("mapping", mapping, row.mapping, |changes, pk| {
        changes.mapping = Some(*pk);
    });
    match credentials {
        Ok(credentials) => credential_group(&mut all, credentials, row, credentials_stale),
        Err(failure) => all.held.insert(0, failure.clone()),
    }
    all
}

/// The atomic group: a change of provider, account or type sends all of it, since half of it works with nothing.
fn credential_group(all: &mut Difference, desired: &Credentials, row: &StageRow, stale: bool) {
    let Credentials {
        provider,
        account_sid,
        account_in_clear,
        auth_type,
        auth,
        auth_password,
        markers: _,
    } = desired;
    let before = all.drift.len();
    if provider.as_str() != row.provider {
        all.differs("provider", provider.as_str(), &row.provider);
    }
    if !same(account_sid, &row.account_sid) {
        let show = |value| fingerprint::shown(value, account_in_clear.as_deref()).unwrap_or_else(sensitive);
        all.differs("account_sid", &show(account_sid), &show(&row.account_sid));
    }
    if auth_type.as_str() != row.auth_type {
        all.differs("auth_type", auth_type.as_str(), &row.auth_type);
    }
    let group_differs = all.drift.len() > before;

    let auth_differs = secret_differs(all, "auth", auth, row.auth.as_ref());
    let password_differs = secret_differs(all, "auth_password", auth_password, row.auth_password.as_ref());
    // Whoever changed a field that shows may have changed one that does not.
    all.precaution = row.auth.is_none() && !stale && !group_differs && !all.changes.is_empty();
    let resend = row.auth.is_none() && (stale || all.precaution);

    if group_differs {
        all.changes.provider = Some(provider.as_str().to_owned());
        all.changes.account_sid = Some(account_sid.clone());
        all.changes.auth_type = Some(auth_type.as_str().to_owned());
    }
    if group_differs || auth_differs || resend {
        all.changes.auth = Some(auth.clone());
    }
    if group_differs || password_differs || resend {
        all.changes.auth_password = Some(auth_password.clone());
    }
    if stale && resend && !group_differs {
        // Only a difference that is known to be one is drift; this one is a precaution or a rotation.
        all.differs("auth", SENSITIVE, SENSITIVE);
    }
}

fn secret_differs(all: &mut Difference, field: &str, desired: &SecretString, observed: Option<&SecretString>) -> bool {
    let differs = observed.is_some_and(|observed| !same(desired, observed));
    if differs {
        all.differs(field, SENSITIVE, SENSITIVE);
    }
    differs
}

fn sensitive() -> String {
    SENSITIVE.to_owned()
}

#[cfg(test)]
mod tests;
