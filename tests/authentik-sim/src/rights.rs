//! Who calls, and what they may do: global permissions of a role, rights on single objects, superusers.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

/// A kind of row, by the names that permissions, audit events and error texts give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Django application, e.g. `authentik_flows`.
    pub app: &'static str,
    /// Lower-case model name, e.g. `flowstagebinding`.
    pub name: &'static str,
    /// Class name, e.g. `FlowStageBinding`.
    pub class: &'static str,
}

impl Model {
    /// The permission that `verb` needs, e.g. `authentik_flows.view_flow`.
    pub fn permission(self, verb: &str) -> String {
        format!("{}.{verb}_{}", self.app, self.name)
    }
}

/// An account of the server.
#[derive(Clone, Debug)]
pub struct User {
    /// Key in the database.
    pub pk: i64,
    /// Login name.
    pub username: String,
    /// May do everything.
    pub superuser: bool,
    /// An inactive user's tokens are refused.
    pub active: bool,
    pub(crate) uid: String,
    pub(crate) permissions: BTreeSet<String>,
    /// Pairs of a permission and the key of the row that it is granted on.
    pub(crate) object_permissions: BTreeSet<(String, String)>,
}

impl User {
    pub(crate) fn new(pk: i64, username: &str, superuser: bool) -> Self {
        Self {
            pk,
            username: username.to_owned(),
            superuser,
            active: true,
            uid: format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()),
            permissions: BTreeSet::new(),
            object_permissions: BTreeSet::new(),
        }
    }

    /// Whether the user has `verb` on every row of `model`.
    pub(crate) fn may(&self, verb: &str, model: Model) -> bool {
        self.superuser || self.permissions.contains(&model.permission(verb))
    }

    /// Whether the user has `verb` on the row `key` of `model`, by either kind of right.
    pub(crate) fn may_on(&self, verb: &str, model: Model, key: &str) -> bool {
        self.may(verb, model)
            || self
                .object_permissions
                .contains(&(model.permission(verb), key.to_owned()))
    }
}

/// Accounts and their API tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) users: Vec<User>,
    tokens: HashMap<String, i64>,
}

impl Accounts {
    pub(crate) fn user(&self, pk: i64) -> Option<&User> {
        self.users.iter().find(|user| user.pk == pk)
    }

    pub(crate) fn named(&self, username: &str) -> Option<&User> {
        self.users.iter().find(|user| user.username == username)
    }

    /// The account with that name, made if there is none.
    pub(crate) fn ensure(&mut self, username: &str, superuser: bool) -> i64 {
        if let Some(user) = self.users.iter_mut().find(|user| user.username == username) {
            user.superuser = superuser;
            return user.pk;
        }
        let pk = self.users.iter().map(|user| user.pk).max().unwrap_or(0) + 1;
        self.users.push(User::new(pk, username, superuser));
        pk
    }

    pub(crate) fn by_token(&self, key: &str) -> Option<&User> {
        self.tokens
            .get(key)
            .and_then(|pk| self.user(*pk))
            .filter(|user| user.active)
    }

    pub(crate) fn by_token_mut(&mut self, key: &str) -> Option<&mut User> {
        let pk = *self.tokens.get(key)?;
        self.users.iter_mut().find(|user| user.pk == pk)
    }

    pub(crate) fn issue(&mut self, key: String, user: i64) {
        self.tokens.insert(key, user);
    }

    pub(crate) fn revoke(&mut self, key: &str) -> bool {
        self.tokens.remove(key).is_some()
    }
}
