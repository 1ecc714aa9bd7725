//! Which resource has which stage: one owner for each, over all connections.
//!
//! ```text
//!   holds a pk          keeps it, whatever others claim
//!   has a name          keeps it, also while somebody else has renamed its stage in authentik
//!   waits for a name    the older one has it first; of one age, the smaller UID
//! ```

use std::collections::{HashMap, HashSet};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use uuid::Uuid;

use crate::api::{AuthenticatorSMSStage, DeletionPolicy, ManagementPolicy, Origin};

use super::validate::deletion_policy;
use super::{ConnectionKey, ResourceKey, resolve};

/// What one resource lays claim to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts, each with a name
pub struct Claim {
    /// The resource.
    pub resource: ResourceKey,
    /// When it was created.
    pub created_at: Timestamp,
    /// The connection that it goes through, once it is known.
    pub connection: Option<ConnectionKey>,
    /// The stage name that it wants.
    pub name: String,
    /// The stage that it owns.
    pub pk: Option<Uuid>,
    /// Whether that stage has the name that it wants, or had it before somebody else renamed it.
    pub has_name: bool,
    /// An intent whose outcome is not known yet, under this name.
    pub intent: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// A stage that it looks at without owning it.
    pub watched: Option<Uuid>,
    /// Whether the connection's owner lets it: who only names a connection has no say in what happens there.
    pub admitted: bool,
    /// Whether it would ever write: one that is suspended or only observes claims nothing.
    pub writes: bool,
    /// Whether deleting it would delete a stage.
    pub deletes: bool,
}

impl Claim {
    /// What a resource says, by itself, that it lays claim to.
    #[must_use]
    pub fn of(object: &AuthenticatorSMSStage, default_connection: Option<&ConnectionKey>) -> Self {
        let resource = ResourceKey::of(object);
        let spec = &object.spec;
        let status = object.status.as_ref();
        let pinned = status.and_then(|status| status.connection.as_ref());
        let shown = status
            .and_then(|status| status.stage.as_ref())
            .and_then(|stage| stage.pk.parse().ok());
        let origin = status.and_then(|status| status.origin);
        let name = spec
            .name
            .as_deref()
            .map_or(resource.name.as_str(), str::trim)
            .to_owned();
        Self {
            created_at: object.creation_timestamp().map(|time| time.0).unwrap_or_default(),
            connection: resolve::connection_key(spec, &resource.namespace, pinned, default_connection).ok(),
            name,
            pk: shown.filter(|_| origin.is_some()),
            has_name: false,
            intent: status
                .and_then(|status| status.pending_create.as_ref())
                .map(|intent| intent.name.clone()),
            deleting: object.metadata.deletion_timestamp.is_some(),
            watched: shown.filter(|_| origin.is_none()),
            admitted: false,
            writes: !spec.suspend && spec.management_policy == ManagementPolicy::Full,
            deletes: deletion_policy(spec, origin == Some(Origin::Adopted)) != DeletionPolicy::Orphan,
            resource,
        }
        .with(
            shown.filter(|_| origin.is_some()),
            status
                .and_then(|status| status.stage.as_ref())
                .map(|stage| stage.name.as_str()),
        )
    }

    /// What a resource keeps whose spec nobody can read: the stage that its status says it has, or may have. None:
    /// nothing.
    #[must_use]
    pub fn of_record(resource: ResourceKey, created_at: Timestamp, status: &serde_json::Value) -> Option<Self> {
        let text = |pointer| status.pointer(pointer).and_then(|value| value.as_str());
        let pk = text("/stage/pk")
            .filter(|_| text("/origin").is_some())
            .and_then(|pk| pk.parse().ok());
        let intent = text("/pendingCreate/name").map(ToOwned::to_owned);
        let connection = text("/connection/namespace").zip(text("/connection/name"));
        (pk.is_some() || intent.is_some()).then(|| Self {
            created_at,
            connection: connection.map(|(namespace, name)| ConnectionKey {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            name: text("/stage/name").unwrap_or(&resource.name).to_owned(),
            pk,
            has_name: pk.is_some(),
            intent,
            deleting: false,
            watched: None,
            admitted: true,
            writes: false,
            deletes: false,
            resource,
        })
    }

    /// The same claim of a resource that owns this stage, which has that name.
    #[must_use]
    pub fn with(mut self, pk: Option<Uuid>, named: Option<&str>) -> Self {
        self.has_name = pk.is_some() && named == Some(self.name.as_str());
        self.pk = pk;
        self
    }
}

/// Who has what one wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// The other resource.
    pub resource: ResourceKey,
    /// Whether it is on its way out, so that waiting helps.
    pub deleting: bool,
}

/// The claims of all resources, by UID.
#[derive(Debug, Default)]
pub struct Claims(HashMap<String, Claim>);

impl Claims {
    /// Records, or renews, what a resource claims.
    pub fn put(&mut self, uid: &str, mut claim: Claim) {
        let before = self.0.get(uid);
        claim.admitted |= claim.pk.is_some() || claim.intent.is_some();
        claim.admitted |= claim
            .connection
            .as_ref()
            .is_some_and(|key| key.namespace == claim.resource.namespace);
        claim.admitted |= before.is_some_and(|before| before.admitted && before.connection == claim.connection);
        claim.has_name |= claim.pk.is_some()
            && before.is_some_and(|before| before.has_name && before.pk == claim.pk && before.name == claim.name);
        self.0.insert(uid.to_owned(), claim);
    }

    /// Records that the connection's owner lets a resource use it.
    pub fn admit(&mut self, uid: &str) {
        if let Some(claim) = self.0.get_mut(uid) {
            claim.admitted = true;
        }
    }

    /// Records that the connection's owner does not let a resource use it, unless it has a stage there; true if that is
    /// new.
    pub fn dismiss(&mut self, uid: &str) -> bool {
        self.0.get_mut(uid).is_some_and(|claim| {
            let was = claim.admitted;
            claim.admitted = claim.pk.is_some() || claim.intent.is_some();
            was && !claim.admitted
        })
    }

    /// Records that a resource owns a stage now.
    ///
    /// # Errors
    /// Another resource does.
    pub fn own(&mut self, uid: &str, connection: &ConnectionKey, pk: Uuid) -> Result<(), Rival> {
        if let Some(rival) = self.owner_of(pk, uid) {
            return Err(rival);
        }
        if let Some(claim) = self.0.get_mut(uid) {
            claim.pk = Some(pk);
            claim.intent = None;
            claim.connection = Some(connection.clone());
        }
        Ok(())
    }

    /// Forgets a resource that is gone.
    pub fn remove(&mut self, uid: &str) -> Option<Claim> {
        self.0.remove(uid)
    }

    /// The claim of one resource.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<&Claim> {
        self.0.get(uid)
    }

    /// The other resource that owns a stage.
    #[must_use]
    pub fn owner_of(&self, pk: Uuid, not: &str) -> Option<Rival> {
        self.0
            .iter()
            .find(|(uid, claim)| uid.as_str() != not && claim.pk == Some(pk))
            .map(rival)
    }

    /// The resource before which the one of `uid` has to stand back for a name on the server that all of these
    /// connections lead to.
    #[must_use]
    pub fn before(&self, uid: &str, connections: &HashSet<ConnectionKey>, name: &str) -> Option<Rival> {
        let mine = self.0.get(uid)?;
        self.0
            .iter()
            .filter(|(other, claim)| {
                let there = claim.connection.as_ref().is_some_and(|key| connections.contains(key));
                other.as_str() != uid && claim.admitted && (claim.writes || claim.intent.is_some()) && there
            })
            .filter(|(_, claim)| match &claim.intent {
                Some(intended) => intended == name,
                None => claim.name == name,
            })
            // One that is on its way out asks for no name any more.
            .filter(|(_, claim)| claim.has_name || claim.intent.is_some() || !claim.deleting)
            .min_by_key(|(other, claim)| rank(other, claim))
            .filter(|(other, claim)| rank(other, claim) < rank(uid, mine))
            .map(rival)
    }

    /// All stages that resources own or look at through a connection.
    #[must_use]
    pub fn managed(&self, connection: &ConnectionKey) -> HashSet<Uuid> {
        self.through(connection)
            .into_iter()
            .flat_map(|claim| [claim.pk, claim.watched])
            .flatten()
            .collect()
    }

    /// The resources that own or look at a stage.
    #[must_use]
    pub fn interested_in(&self, pk: Uuid) -> Vec<ResourceKey> {
        let interested = |claim: &&Claim| claim.pk == Some(pk) || claim.watched == Some(pk);
        self.0
            .values()
            .filter(interested)
            .map(|claim| claim.resource.clone())
            .collect()
    }

    /// The resources that have no stage on a connection yet, with the name that they wait for.
    #[must_use]
    pub fn without_a_stage(&self, connection: &ConnectionKey) -> Vec<(String, ResourceKey)> {
        self.through(connection)
            .into_iter()
            .filter(|claim| claim.pk.is_none())
            .map(|claim| (claim.name.clone(), claim.resource.clone()))
            .collect()
    }

    /// The resources that want a name, whichever connection they go through.
    #[must_use]
    pub fn wanting(&self, name: &str) -> Vec<ResourceKey> {
        self.0
            .values()
            .filter(|claim| claim.name == name)
            .map(|claim| claim.resource.clone())
            .collect()
    }

    /// All resources that go through a connection.
    #[must_use]
    pub fn through(&self, connection: &ConnectionKey) -> Vec<&Claim> {
        self.0
            .values()
            .filter(|claim| claim.connection.as_ref() == Some(connection))
            .collect()
    }

    /// Resources that need a connection to stay: they own a stage there, or may.
    #[must_use]
    pub fn holding(&self, connection: &ConnectionKey) -> Vec<ResourceKey> {
        let mut resources: Vec<_> = self
            .through(connection)
            .into_iter()
            .filter(|claim| claim.pk.is_some() || claim.intent.is_some())
            .map(|claim| claim.resource.clone())
            .collect();
        resources.sort();
        resources
    }
}

/// The smaller has a name first: an order over all claimants, so that never two wait for each other.
fn rank<'a>(uid: &'a str, claim: &Claim) -> (bool, bool, Timestamp, &'a str) {
    (!claim.has_name, claim.intent.is_none(), claim.created_at, uid)
}

fn rival((_, claim): (&String, &Claim)) -> Rival {
    Rival {
        resource: claim.resource.clone(),
        deleting: claim.deleting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> ConnectionKey {
        ConnectionKey {
            namespace: "ns".into(),
            name: "authentik".into(),
        }
    }

    fn claim(resource: &str, second: i64) -> Claim {
        Claim {
            resource: ResourceKey {
                namespace: "ns".into(),
                name: resource.into(),
            },
            created_at: Timestamp::from_second(second).unwrap(),
            connection: Some(connection()),
            name: "sms".into(),
            pk: None,
            has_name: false,
            intent: None,
            deleting: false,
            watched: None,
            admitted: true,
            writes: true,
            deletes: true,
        }
    }

    fn claims(of: &[(&str, Claim)]) -> Claims {
        let mut claims = Claims::default();
        for (uid, claim) in of {
            claims.put(uid, claim.clone());
        }
        claims
    }

    fn winner(claims: &Claims, uid: &str) -> Option<String> {
        claims
            .before(uid, &HashSet::from([connection()]), "sms")
            .map(|rival| rival.resource.name)
    }

    #[test]
    fn the_older_claimant_of_a_name_has_it() {
        let all = claims(&[("b", claim("old", 1)), ("a", claim("young", 2))]);
        assert_eq!(winner(&all, "a").as_deref(), Some("old"));
        assert_eq!(winner(&all, "b"), None);
    }

    #[test]
    fn two_connections_to_one_server_are_one_world_of_names() {
        let second = ConnectionKey {
            name: "second".into(),
            ..connection()
        };
        let old = Claim {
            connection: Some(second.clone()),
            ..claim("old", 1)
        };
        let mut all = claims(&[("a", claim("young", 2)), ("b", old)]);
        let on = |connections: &[&ConnectionKey]| connections.iter().copied().cloned().collect::<HashSet<_>>();
        let rival = all.before("a", &on(&[&connection(), &second]), "sms").unwrap();
        assert_eq!(rival.resource.name, "old");
        assert_eq!(winner(&all, "a"), None, "another server");

        let pk = Uuid::from_u128(1);
        assert_eq!(all.own("a", &connection(), pk), Ok(()));
        assert_eq!(all.own("a", &connection(), pk), Ok(()), "again");
        assert_eq!(all.own("b", &second, pk).unwrap_err().resource.name, "young");
    }

    #[test]
    fn of_one_age_the_smaller_uid_has_it() {
        let all = claims(&[("a", claim("first", 1)), ("b", claim("second", 1))]);
        assert_eq!(winner(&all, "b").as_deref(), Some("first"));
        assert_eq!(winner(&all, "a"), None);
    }

    #[test]
    fn whoever_holds_the_stage_keeps_it_though_younger() {
        let holder = Claim {
            pk: Some(Uuid::from_u128(1)),
            has_name: true,
            ..claim("holder", 9)
        };
        let all = claims(&[("a", claim("old", 1)), ("b", holder)]);
        assert_eq!(winner(&all, "a").as_deref(), Some("holder"));
        assert_eq!(winner(&all, "b"), None);
        assert_eq!(all.owner_of(Uuid::from_u128(1), "a").unwrap().resource.name, "holder");
        assert_eq!(all.owner_of(Uuid::from_u128(1), "b"), None, "nobody is its own rival");
    }

    #[test]
    fn of_those_who_wait_for_a_name_the_older_has_it_whether_or_not_it_has_a_stage() {
        let renaming = |resource, second, pk| Claim {
            pk: Some(Uuid::from_u128(pk)),
            ..claim(resource, second)
        };
        let all = claims(&[
            ("a", claim("old", 1)),
            ("b", renaming("young", 2, 1)),
            ("c", renaming("younger", 3, 2)),
        ]);
        assert_eq!(winner(&all, "a"), None, "somebody can go on");
        assert_eq!(winner(&all, "b").as_deref(), Some("old"));
        assert_eq!(winner(&all, "c").as_deref(), Some("old"));
    }

    #[test]
    fn a_name_is_kept_while_somebody_else_has_renamed_the_stage() {
        let pk = Some(Uuid::from_u128(1));
        let mut all = claims(&[("a", claim("old", 1)), ("b", claim("holder", 9).with(pk, Some("sms")))]);
        all.put("b", claim("holder", 9).with(pk, Some("renamed by hand")));
        assert_eq!(winner(&all, "b"), None);
        all.put(
            "b",
            Claim {
                name: "other".into(),
                ..claim("holder", 9)
            }
            .with(pk, Some("sms")),
        );
        all.put("b", claim("holder", 9).with(pk, Some("renamed by hand")));
        assert_eq!(winner(&all, "b").as_deref(), Some("old"), "it had let go of the name");
    }

    #[test]
    fn one_that_never_writes_or_is_leaving_with_nothing_stands_in_nobodys_way() {
        let observer = Claim {
            writes: false,
            ..claim("observer", 1)
        };
        let leaving = Claim {
            deleting: true,
            ..claim("leaving", 1)
        };
        let all = claims(&[("a", observer), ("b", leaving), ("c", claim("young", 2))]);
        assert_eq!(winner(&all, "c"), None);
    }

    #[test]
    fn an_intent_holds_its_own_name() {
        let intending = Claim {
            intent: Some("sms".into()),
            name: "renamed".into(),
            ..claim("intending", 9)
        };
        let all = claims(&[("a", claim("old", 1)), ("b", intending)]);
        assert_eq!(
            winner(&all, "a").as_deref(),
            Some("intending"),
            "a POST of it may still land"
        );
    }
}
