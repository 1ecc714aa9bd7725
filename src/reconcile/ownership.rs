//! Which stage a resource has: how it comes by one, and before whom it stands back.

use uuid::Uuid;

use super::claims::{Claim, Rival};
use super::observe::Observed;
use super::plan::Update;
use super::record::Fenced;
use super::server::Server;
use super::status::{self, Notice, Verdict};
use super::{Failure, Halt, Object, Work, failure};
use crate::api::{Origin, PinnedConnection, Reason};
use crate::authentik::StageRow;

impl Work<'_> {
    pub(super) async fn adopt(&mut self, server: &Server, observed: Observed) -> Result<Observed, Halt> {
        let Observed::Unowned(row) = observed else {
            return Ok(observed);
        };
        self.stand_back(server)?;
        // Before anything is waited for: another resource may be about to take over the same stage.
        self.reserve(server, &row)?;
        self.record.take_finalizer().await?;
        self.own(server, &row, Origin::Adopted)?;
        let note = format!("taking over stage {:?} ({})", row.name, row.pk);
        self.record.notices.push(Notice {
            warning: false,
            reason: Reason::Updating,
            note: note.clone(),
        });
        self.record
            .conclude(self.context, &Verdict::working(Reason::Updating, note));
        self.record.write_status(Fenced::Yes).await?;
        Ok(Observed::Owned(row))
    }

    /// From now on this resource has this stage.
    ///
    /// # Errors
    /// `NameConflict` if another resource has it: it was there first, through another connection.
    pub(super) fn own(&mut self, server: &Server, row: &StageRow, origin: Origin) -> Result<(), Failure> {
        self.reserve(server, row)?;
        let status = &mut self.record.status;
        status.credentials.clear();
        status.stage = Some(status::stage_view(row, None));
        status.origin = Some(origin);
        status.pending_create = None;
        self.pin(server);
        server.wrote(row.pk, Some(row.clone()), self.context.clock.now());
        server.showed_a_stage();
        self.pass.wake.push(Object::Connection(server.key.clone()));
        Ok(())
    }

    fn reserve(&self, server: &Server, row: &StageRow) -> Result<(), Failure> {
        let owned = self.context.claims().own(&self.record.uid(), &server.key, row.pk);
        owned.map_err(|rival| failure::name_of_another(&row.name, &rival.resource, rival.deleting))
    }

    pub(super) fn pin(&mut self, server: &Server) {
        self.record.status.connection = Some(PinnedConnection {
            namespace: server.key.namespace.clone(),
            name: server.key.name.clone(),
            uid: server.uid.clone(),
            url: server.url(),
            server_version: server.version().map(|version| version.to_string()),
        });
    }

    /// The key of the stage that is ours.
    pub(super) fn owned_pk(&self) -> Option<Uuid> {
        let status = &self.record.status;
        status.origin?;
        status.stage.as_ref()?.pk.parse().ok()
    }

    /// The connection's owner does not let this resource use it any more: whoever waited for its name may have it.
    pub(super) fn stand_aside(&mut self, name: &str) {
        let waiting = {
            let mut claims = self.context.claims();
            if !claims.dismiss(&self.record.uid()) {
                return;
            }
            claims.wanting(name)
        };
        self.pass.wake.extend(waiting.into_iter().map(Object::Stage));
    }

    /// Whether another resource has the name before this one.
    pub(super) fn stand_back(&self, server: &Server) -> Result<(), Failure> {
        let name = self.wanted_name();
        match self.before(server, &name) {
            Some(rival) => Err(failure::name_of_another(&name, &rival.resource, rival.deleting)),
            None => Ok(()),
        }
    }

    fn before(&self, server: &Server, name: &str) -> Option<Rival> {
        let connections = self.context.servers.leading_to(server);
        self.context.claims().before(&self.record.uid(), &connections, name)
    }

    /// Whether the last pass found that somebody else has the name, and nothing was edited since.
    pub(super) fn was_refused_the_name(&self) -> bool {
        let generation = Some(self.record.generation());
        status::ready(&self.record.status.conditions).is_some_and(|ready| {
            ready.reason == Reason::NameConflict.as_str() && ready.observed_generation == generation
        })
    }

    pub(super) fn wanted_name(&self) -> String {
        self.record
            .object
            .spec
            .name
            .clone()
            .unwrap_or_else(|| self.key.name.clone())
            .trim()
            .to_owned()
    }

    /// A rename to a name that another resource has first holds back only the name.
    pub(super) fn without_a_rivals_name(&self, server: &Server, update: Update) -> (Update, Option<Failure>) {
        let Some(name) = update.changes.name.clone() else {
            return (update, None);
        };
        match self.before(server, &name) {
            Some(rival) => {
                let conflict = failure::name_of_another(&name, &rival.resource, rival.deleting);
                (update.without("name"), Some(conflict))
            }
            None => (update, None),
        }
    }

    /// Records what the resource, as it is now, lays claim to.
    pub(super) fn claim_again(&self) {
        let default = self.context.settings.default_connection.as_ref();
        let named = self.record.status.stage.as_ref().map(|stage| stage.name.as_str());
        let mut claim = Claim::of(&self.record.object, default).with(self.owned_pk(), named);
        claim.intent = self
            .record
            .status
            .pending_create
            .as_ref()
            .map(|intent| intent.name.clone());
        self.context.claims().put(&self.record.uid(), claim);
    }
}
