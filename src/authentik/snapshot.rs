//! What the last complete reading of all SMS stages saw, and what we have written since.
//!
//! A pure data structure: no I/O and no clock. Pages of a reading race with writes, so a row is believed only if its
//! reading began after our last write to that stage had ended; until then the reply to the write stands for it.
//!
//! ```text
//!        round 1           round 2               a write to x ends within round 2:
//!   ├───────────────┤ ├───────────────┤          what round 2 says of x is not believed,
//!                           ▲                    what the write's reply said is
//!                     write to x ends
//! ```

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use secrecy::SecretString;
use uuid::Uuid;

use super::credential::same;
use super::wire::{FlowSetEntry, StageRow};

/// One complete reading.
pub struct Round {
    /// When its first request was sent.
    pub started: Instant,
    /// The managed rows.
    pub rows: Vec<StageRow>,
    /// Who has which name, of all rows.
    pub names: HashMap<String, Uuid>,
    /// All rows.
    pub seen: HashSet<Uuid>,
}

/// What a round has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Managed stages that are new here, or differ from what was known.
    pub changed: Vec<Uuid>,
    /// Managed stages that are no longer seen. A hint: ask for each before acting on it.
    pub missing: Vec<Uuid>,
    /// So many went at once that the next round must agree before anything is done about `missing`; it will name them
    /// again.
    pub suspicious: bool,
}

/// Who has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No round is complete yet.
    Unknown,
    /// Nobody, when the last round was made.
    Absent,
    /// This SMS stage.
    Present(Uuid),
}

/// Managed rows in full; of the others only name and id.
#[derive(Default)]
pub struct Snapshot {
    started: Option<Instant>,
    count: u64,
    rows: HashMap<Uuid, StageRow>,
    names: HashMap<String, Uuid>,
    /// Our writes that ended after the last round had begun, with the name that the stage then had.
    written: HashMap<Uuid, Written>,
    /// Managed stages that were missing from a suspicious round.
    doubted: HashSet<Uuid>,
}

struct Written {
    ended: Instant,
    name: Option<String>,
}

impl Snapshot {
    /// Knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a complete round and says what is different. A round older than the last one is ignored.
    #[must_use = "what has changed is not told again"]
    pub fn complete(&mut self, round: Round) -> Changes {
        let Round {
            started,
            rows,
            names,
            seen,
        } = round;
        if self.started.is_some_and(|last| started < last) {
            return Changes::default();
        }
        self.started = Some(started);
        self.count = seen.len() as u64;
        self.written.retain(|_, written| written.ended >= started);
        self.names = names;
        self.overlay_names();

        let mut changes = self.miss(&seen);
        let mut managed = HashSet::with_capacity(rows.len());
        for row in rows {
            managed.insert(row.pk);
            if self.written.contains_key(&row.pk) {
                continue;
            }
            if self.rows.get(&row.pk).is_none_or(|known| !same_row(known, &row)) {
                changes.changed.push(row.pk);
            }
            self.rows.insert(row.pk, row);
        }
        // What is still there but no longer managed is none of ours.
        self.rows
            .retain(|pk, _| managed.contains(pk) || self.written.contains_key(pk) || self.doubted.contains(pk));
        changes
    }

    /// A managed row, if what is known of it is not older than our last write to it.
    #[must_use]
    pub fn row(&self, pk: Uuid) -> Option<&StageRow> {
        self.rows.get(&pk).filter(|_| !self.doubted.contains(&pk))
    }

    /// A write of ours to this stage ended: with this reply, or with the stage deleted.
    pub fn wrote(&mut self, pk: Uuid, row: Option<StageRow>, ended: Instant) {
        let name = row.as_ref().map(|row| row.name.clone());
        match row {
            Some(row) => self.rows.insert(pk, row),
            None => self.rows.remove(&pk),
        };
        self.doubted.remove(&pk);
        self.written.insert(pk, Written { ended, name });
        self.overlay_names();
    }

    /// Who has this name, with our writes since the last round.
    #[must_use]
    pub fn pk_of_name(&self, name: &str) -> Lookup {
        match (self.names.get(name), self.started) {
            (Some(pk), _) => Lookup::Present(*pk),
            (None, Some(_)) => Lookup::Absent,
            (None, None) => Lookup::Unknown,
        }
    }

    /// When the last complete round began.
    #[must_use]
    pub fn started(&self) -> Option<Instant> {
        self.started
    }

    /// Any managed stage: one on which a right can be probed.
    #[must_use]
    pub fn any_managed(&self) -> Option<Uuid> {
        self.rows.keys().min().copied()
    }

    /// How many SMS stages the last complete round saw.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn overlay_names(&mut self) {
        let Self { names, written, .. } = self;
        names.retain(|_, pk| !written.contains_key(pk));
        names.extend(
            written
                .iter()
                .filter_map(|(pk, written)| Some((written.name.clone()?, *pk))),
        );
    }

    /// What is missing; forgotten, unless the next round must agree first.
    fn miss(&mut self, seen: &HashSet<Uuid>) -> Changes {
        let known = self.rows.len();
        let is_missing = |pk: &Uuid| !seen.contains(pk) && !self.written.contains_key(pk);
        let mut missing: Vec<Uuid> = self.rows.keys().copied().filter(is_missing).collect();
        missing.sort_unstable();
        let at_once = missing.iter().filter(|pk| !self.doubted.contains(pk)).count();
        let suspicious = at_once > 3 && at_once * 5 > known;
        self.doubted.clear();
        if suspicious {
            self.doubted.extend(&missing);
        } else {
            self.rows.retain(|pk, _| !missing.contains(pk));
        }
        Changes {
            changed: Vec::new(),
            missing,
            suspicious,
        }
    }
}

/// Whether two readings of a stage tell the same. A credential that one of them does not tell, tells nothing.
fn same_row(one: &StageRow, other: &StageRow) -> bool {
    let StageRow {
        pk,
        name,
        component,
        verbose_name,
        verbose_name_plural,
        meta_model_name,
        friendly_name,
        configure_flow,
        provider,
        from_number,
        account_sid,
        auth,
        auth_password,
        auth_type,
        verify_only,
        mapping,
        flow_set,
    } = one;
    *pk == other.pk
        && *name == other.name
        && *component == other.component
        && *verbose_name == other.verbose_name
        && *verbose_name_plural == other.verbose_name_plural
        && *meta_model_name == other.meta_model_name
        && *friendly_name == other.friendly_name
        && *configure_flow == other.configure_flow
        && *provider == other.provider
        && *from_number == other.from_number
        && same(account_sid, &other.account_sid)
        && same_if_told(auth.as_ref(), other.auth.as_ref())
        && same_if_told(auth_password.as_ref(), other.auth_password.as_ref())
        && *auth_type == other.auth_type
        && *verify_only == other.verify_only
        && *mapping == other.mapping
        && sorted(flow_set) == sorted(&other.flow_set)
}

fn same_if_told(one: Option<&SecretString>, other: Option<&SecretString>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => same(one, other),
        (None, _) | (_, None) => true,
    }
}

fn sorted(flows: &[FlowSetEntry]) -> Vec<&FlowSetEntry> {
    let mut flows: Vec<_> = flows.iter().collect();
    flows.sort();
    flows
}

#[cfg(test)]
mod tests;
