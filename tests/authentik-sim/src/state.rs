//! Everything that the simulated server remembers, and the only code that changes it.
//!
//! A change made here leaves the same traces as in authentik: references that vanish are set to null, what hangs on a
//! row goes with it, and the audit log says so. Each change moves `revision`.

use std::time::SystemTime;

use serde_json::json;
use uuid::Uuid;

use crate::{
    audit::{Action, Actor, Event},
    rights::{Accounts, User},
    rows::{AnyStage, Binding, Device, Flow, Mapping, OtherStage, Row, Stage, ValidateStage},
};

/// The superuser that every authentik has.
pub(crate) const ADMINISTRATOR: &str = "akadmin";

/// The database of the simulated server. Rows stand in the order of their creation.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) accounts: Accounts,
    pub(crate) stages: Vec<Stage>,
    pub(crate) validate_stages: Vec<ValidateStage>,
    pub(crate) other_stages: Vec<OtherStage>,
    pub(crate) flows: Vec<Flow>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) devices: Vec<Device>,
    pub(crate) events: Vec<Event>,
    next_device: i64,
    revision: u64,
}

// === reading ===

impl State {
    /// Moves with every change of any row.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All SMS stages.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The SMS stage with that key.
    pub fn stage(&self, pk: Uuid) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.pk == pk)
    }

    /// The SMS stage with exactly that name.
    pub fn stage_named(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// All stages that validate a second factor.
    pub fn validate_stages(&self) -> &[ValidateStage] {
        &self.validate_stages
    }

    /// All flows.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// The flow with that slug.
    pub fn flow(&self, slug: &str) -> Option<&Flow> {
        self.flows.iter().find(|flow| flow.slug == slug)
    }

    /// All bindings of stages into flows.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// All webhook mappings.
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// All SMS devices.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The audit log, oldest first.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub(crate) fn any_stages(&self) -> Vec<AnyStage> {
        let any = |pk, name: &str, meta: &str| AnyStage {
            pk,
            name: name.to_owned(),
            meta_model_name: meta.to_owned(),
        };
        let sms = self
            .stages
            .iter()
            .map(|stage| any(stage.pk, &stage.name, Stage::META_MODEL_NAME));
        let validate = self
            .validate_stages
            .iter()
            .map(|stage| any(stage.pk, &stage.name, ValidateStage::META_MODEL_NAME));
        let other = self
            .other_stages
            .iter()
            .map(|stage| any(stage.pk, &stage.name, &stage.meta_model_name));
        sms.chain(validate).chain(other).collect()
    }

    /// Whether a stage of any kind, other than `except`, has the name.
    pub(crate) fn name_taken(&self, name: &str, except: Option<Uuid>) -> bool {
        let taken = |pk: Uuid, other: &str| other == name && Some(pk) != except;
        self.stages.iter().any(|stage| taken(stage.pk, &stage.name))
            || self.validate_stages.iter().any(|stage| taken(stage.pk, &stage.name))
            || self.other_stages.iter().any(|stage| taken(stage.pk, &stage.name))
    }

    pub(crate) fn any_stage_exists(&self, pk: Uuid) -> bool {
        self.stage(pk).is_some()
            || self.validate_stages.iter().any(|stage| stage.pk == pk)
            || self.other_stages.iter().any(|stage| stage.pk == pk)
    }

    pub(crate) fn has_devices(&self, stage: Uuid) -> bool {
        self.devices.iter().any(|device| device.stage == stage)
    }

    pub(crate) fn flow_exists(&self, pk: Uuid) -> bool {
        self.flows.iter().any(|flow| flow.pk == pk)
    }

    pub(crate) fn mapping_exists(&self, pk: Uuid) -> bool {
        self.mappings.iter().any(|mapping| mapping.pk == pk)
    }

    /// The flows that bind the stage, once for each binding.
    pub(crate) fn flows_of(&self, stage: Uuid) -> impl Iterator<Item = &Flow> {
        self.bindings
            .iter()
            .filter(move |binding| binding.stage == stage)
            .filter_map(|binding| self.flows.iter().find(|flow| flow.pk == binding.target))
    }
}

// === writing, as a request does ===

/// A kind of row whose writes are audited.
pub(crate) trait Table: Row + Sized {
    fn rows(state: &mut State) -> &mut Vec<Self>;

    /// Releases what hangs on the row with that key before it is deleted.
    fn release(_state: &mut State, _key: &str, _actor: &Actor) {}
}

impl Table for Stage {
    fn rows(state: &mut State) -> &mut Vec<Self> {
        &mut state.stages
    }

    /// Bindings and devices go with it; that it leaves validate stages, no event tells.
    fn release(state: &mut State, key: &str, actor: &Actor) {
        state.delete_where(|binding: &Binding| binding.stage.to_string() == key, actor);
        state.delete_where(|device: &Device| device.stage.to_string() == key, actor);
        for validate in &mut state.validate_stages {
            validate.configuration_stages.retain(|stage| stage.to_string() != key);
        }
    }
}

impl Table for Flow {
    fn rows(state: &mut State) -> &mut Vec<Self> {
        &mut state.flows
    }

    /// Bindings go with it; that stages forget it, no event tells.
    fn release(state: &mut State, key: &str, actor: &Actor) {
        state.delete_where(|binding: &Binding| binding.target.to_string() == key, actor);
        for stage in &mut state.stages {
            stage.configure_flow = stage.configure_flow.filter(|flow| flow.to_string() != key);
        }
    }
}

impl Table for Mapping {
    fn rows(state: &mut State) -> &mut Vec<Self> {
        &mut state.mappings
    }

    /// That stages forget it, no event tells.
    fn release(state: &mut State, key: &str, _actor: &Actor) {
        for stage in &mut state.stages {
            stage.mapping = stage.mapping.filter(|mapping| mapping.to_string() != key);
        }
    }
}

impl Table for Binding {
    fn rows(state: &mut State) -> &mut Vec<Self> {
        &mut state.bindings
    }
}

impl Table for Device {
    fn rows(state: &mut State) -> &mut Vec<Self> {
        &mut state.devices
    }
}

impl State {
    pub(crate) fn create<R: Table>(&mut self, row: R, actor: &Actor) {
        self.log(Action::Created, &row, actor);
        R::rows(self).push(row);
    }

    /// Puts the row in the place of the one with its key.
    pub(crate) fn replace<R: Table>(&mut self, row: R, actor: &Actor) {
        self.log(Action::Updated, &row, actor);
        if let Some(old) = R::rows(self).iter_mut().find(|old| old.key() == row.key()) {
            *old = row;
        }
    }

    /// Deletes the row with that key and what hangs on it. False if there is none.
    pub(crate) fn delete<R: Table>(&mut self, key: &str, actor: &Actor) -> bool {
        R::release(self, key, actor);
        let Some(at) = R::rows(self).iter().position(|row| row.key() == key) else {
            return false;
        };
        let row = R::rows(self).remove(at);
        self.log(Action::Deleted, &row, actor);
        true
    }

    fn delete_where<R: Table>(&mut self, doomed: impl Fn(&R) -> bool, actor: &Actor) {
        let rows = R::rows(self).iter().filter(|row| doomed(row));
        let keys: Vec<String> = rows.map(Row::key).collect();
        for key in keys {
            self.delete::<R>(&key, actor);
        }
    }

    fn log<R: Row>(&mut self, action: Action, row: &R, actor: &Actor) {
        self.revision += 1;
        let model_pk = match row.key().parse::<i64>() {
            Ok(number) => json!(number),
            Err(_) => json!(row.key().replace('-', "")),
        };
        self.events.push(Event {
            pk: Uuid::new_v4(),
            number: self.revision,
            action,
            model: R::MODEL,
            model_pk,
            model_name: row.title(),
            actor: actor.clone(),
            created: SystemTime::now(),
        });
    }
}

// === writing, from outside the API ===

impl State {
    /// Adds an SMS stage and says its key.
    ///
    /// # Panics
    /// If a stage of any kind has that name: authentik could not hold both.
    pub fn add_stage(&mut self, stage: Stage) -> Uuid {
        assert!(
            !self.name_taken(&stage.name, None),
            "a stage named {:?} is there",
            stage.name
        );
        let pk = stage.pk;
        self.create(stage, &by_hand(self, "POST", "stages/authenticator/sms/"));
        pk
    }

    /// Changes an SMS stage as somebody does in the web interface: with an audit event. False if there is none.
    pub fn edit(&mut self, pk: Uuid, change: impl FnOnce(&mut Stage)) -> bool {
        let Some(mut stage) = self.stage(pk).cloned() else {
            return false;
        };
        change(&mut stage);
        let actor = by_hand(self, "PATCH", &format!("stages/authenticator/sms/{pk}/"));
        self.replace(stage, &actor);
        true
    }

    /// Changes an SMS stage as a database migration does: no audit event tells of it. False if there is none.
    pub fn edit_silently(&mut self, pk: Uuid, change: impl FnOnce(&mut Stage)) -> bool {
        let Some(stage) = self.stages.iter_mut().find(|stage| stage.pk == pk) else {
            return false;
        };
        change(stage);
        self.revision += 1;
        true
    }

    /// Deletes an SMS stage with all that hangs on it, devices too. False if there is none.
    pub fn remove(&mut self, pk: Uuid) -> bool {
        let actor = by_hand(self, "DELETE", &format!("stages/authenticator/sms/{pk}/"));
        self.delete::<Stage>(&pk.to_string(), &actor)
    }

    /// Adds a stage that validates a second factor.
    pub fn add_validate_stage(&mut self, name: &str, configuration_stages: &[Uuid], device_classes: &[&str]) -> Uuid {
        assert!(!self.name_taken(name, None), "a stage named {name:?} is there");
        let pk = Uuid::new_v4();
        self.validate_stages.push(ValidateStage {
            pk,
            name: name.to_owned(),
            not_configured_action: "configure".to_owned(),
            device_classes: device_classes.iter().map(|&class| class.to_owned()).collect(),
            configuration_stages: configuration_stages.to_vec(),
        });
        self.revision += 1;
        pk
    }

    /// Changes a validate stage; false if there is none.
    pub fn edit_validate_stage(&mut self, pk: Uuid, change: impl FnOnce(&mut ValidateStage)) -> bool {
        let Some(stage) = self.validate_stages.iter_mut().find(|stage| stage.pk == pk) else {
            return false;
        };
        change(stage);
        self.revision += 1;
        true
    }

    /// Adds a stage of another kind, e.g. `authentik_stages_user_login.userloginstage`.
    pub fn add_other_stage(&mut self, name: &str, meta_model_name: &str) -> Uuid {
        assert!(!self.name_taken(name, None), "a stage named {name:?} is there");
        let pk = Uuid::new_v4();
        self.other_stages.push(OtherStage {
            pk,
            name: name.to_owned(),
            meta_model_name: meta_model_name.to_owned(),
        });
        self.revision += 1;
        pk
    }

    /// Deletes a stage of another kind, and its bindings. False if there is none.
    pub fn remove_other_stage(&mut self, pk: Uuid) -> bool {
        let before = self.other_stages.len() + self.validate_stages.len();
        self.other_stages.retain(|stage| stage.pk != pk);
        self.validate_stages.retain(|stage| stage.pk != pk);
        self.bindings.retain(|binding| binding.stage != pk);
        self.revision += 1;
        before > self.other_stages.len() + self.validate_stages.len()
    }

    /// Adds a flow named and titled as its slug.
    pub fn add_flow(&mut self, slug: &str, designation: &str) -> Uuid {
        self.insert_flow(Flow::new(slug, designation))
    }

    /// Adds a flow.
    pub fn insert_flow(&mut self, flow: Flow) -> Uuid {
        assert!(self.flow(&flow.slug).is_none(), "a flow {:?} is there", flow.slug);
        let pk = flow.pk;
        self.create(flow, &by_hand(self, "POST", "flows/instances/"));
        pk
    }

    /// Changes a flow; false if there is none.
    pub fn edit_flow(&mut self, slug: &str, change: impl FnOnce(&mut Flow)) -> bool {
        let Some(flow) = self.flows.iter_mut().find(|flow| flow.slug == slug) else {
            return false;
        };
        change(flow);
        self.revision += 1;
        true
    }

    /// Deletes a flow; false if there is none.
    pub fn remove_flow(&mut self, slug: &str) -> bool {
        let Some(pk) = self.flow(slug).map(|flow| flow.pk) else {
            return false;
        };
        let actor = by_hand(self, "DELETE", &format!("flows/instances/{slug}/"));
        self.delete::<Flow>(&pk.to_string(), &actor)
    }

    /// Binds a stage of any kind into a flow.
    pub fn add_binding(&mut self, flow: Uuid, stage: Uuid, order: i64) -> Uuid {
        assert!(
            self.flow_exists(flow) && self.any_stage_exists(stage),
            "flow {flow} or stage {stage} is missing"
        );
        let binding = Binding::new(flow, stage, order);
        let pk = binding.pk;
        self.create(binding, &by_hand(self, "POST", "flows/bindings/"));
        pk
    }

    /// Deletes a binding; false if there is none.
    pub fn remove_binding(&mut self, pk: Uuid) -> bool {
        let actor = by_hand(self, "DELETE", &format!("flows/bindings/{pk}/"));
        self.delete::<Binding>(&pk.to_string(), &actor)
    }

    /// Adds a webhook mapping.
    pub fn add_mapping(&mut self, name: &str) -> Uuid {
        let mapping = Mapping {
            pk: Uuid::new_v4(),
            name: name.to_owned(),
            expression: "return {}".to_owned(),
        };
        let pk = mapping.pk;
        self.create(mapping, &by_hand(self, "POST", "propertymappings/notification/"));
        pk
    }

    /// Deletes a webhook mapping; false if there is none.
    pub fn remove_mapping(&mut self, name: &str) -> bool {
        let Some(pk) = self
            .mappings
            .iter()
            .find(|mapping| mapping.name == name)
            .map(|mapping| mapping.pk)
        else {
            return false;
        };
        let actor = by_hand(self, "DELETE", &format!("propertymappings/notification/{pk}/"));
        self.delete::<Mapping>(&pk.to_string(), &actor)
    }

    /// A user enrols a phone on the stage. The device is named `phone0`, `phone1`, ... in the order of enrolment.
    pub fn enrol(&mut self, stage: Uuid, number: &str) -> i64 {
        assert!(self.stage(stage).is_some(), "no SMS stage {stage}");
        self.next_device += 1;
        self.devices.push(Device {
            pk: self.next_device,
            name: format!(
                "phone{}",
                self.devices.iter().filter(|device| device.stage == stage).count()
            ),
            phone_number: number.to_owned(),
            stage,
            user: self.accounts.named("AnonymousUser").map_or(0, |user| user.pk),
        });
        self.revision += 1;
        self.next_device
    }

    /// A user's device goes; false if there is none.
    pub fn remove_device(&mut self, pk: i64) -> bool {
        let before = self.devices.len();
        self.devices.retain(|device| device.pk != pk);
        self.revision += 1;
        before > self.devices.len()
    }

    /// The account that a token belongs to.
    pub fn user_of(&self, token: &str) -> Option<&User> {
        self.accounts.by_token(token)
    }
}

/// Somebody with a browser: the author of every change that comes from outside the API.
fn by_hand(state: &State, method: &str, path: &str) -> Actor {
    let user = state.accounts.named(ADMINISTRATOR).map_or(0, |user| user.pk);
    Actor {
        user,
        username: ADMINISTRATOR.to_owned(),
        path: format!("/api/v3/{path}"),
        method: method.to_owned(),
        request_id: Uuid::new_v4().simple().to_string(),
        user_agent: "Mozilla/5.0".to_owned(),
        args: Vec::new(),
    }
}
