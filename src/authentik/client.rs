//! One function for each thing that the operator asks of authentik.
//!
//! Servers ignore filters that they do not know and then answer with everything, so every filter is applied here
//! again.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use url::Url;
use uuid::Uuid;

use super::changes::{FRIENDLY_NAME, StageChanges, WriteTag};
use super::endpoint::Endpoint;
use super::error::Error;
use super::listing;
use super::observer::{Method, Route};
use super::transport::{ClientConfig, Request, Transport};
use super::version::{Features, ServerVersion};
use super::wire::{
    self, AnyStage, Anything, Binding, Event, Flow, Mapping, Me, Page, RecentEvents, StageEvent, StageRow, UsedBy,
    ValidateStage,
};

const STAGES: &str = "stages/authenticator/sms/";
const VALIDATE_STAGES: &str = "stages/authenticator/validate/";
const DEVICES: &str = "authenticators/admin/sms/";
const MAPPINGS: &str = "propertymappings/notification/";
const EVENTS: &str = "events/events/";

/// authentik's name of the application in audit events.
const STAGE_APP: &str = "authentik_stages_authenticator_sms";

/// Rows asked for at once, the most that newer servers give.
const PAGE_SIZE: u32 = 100;

/// Events of the first page: a round mostly finds none that is new, and events are large.
const FEW_EVENTS: u32 = 20;

/// Most pages of events of one look.
const EVENT_PAGES_MAX: u32 = 50;

/// Calls one authentik with one token. Cheap to clone; clones share connections and the limit of calls at once.
#[derive(Clone)]
pub struct Client(Arc<Transport>);

impl Client {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// [`Error::CaBundle`], [`Error::TokenUnusable`], or [`Error::Tls`] where there are no public roots.
    pub fn new(config: ClientConfig) -> Result<Self, Error> {
        Ok(Self(Arc::new(Transport::new(config)?)))
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.0.endpoint()
    }

    /// How long a call may take in all.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.0.timeout()
    }

    /// The server's version. Any valid token may ask, so this also tells whether the token is one.
    pub async fn version(&self) -> Result<ServerVersion, Error> {
        let version: wire::Version = self
            .get(Route::Version, "admin/version/", &[])
            .await
            .map_err(token_refused)?;
        Ok(ServerVersion::parse(&version.version_current))
    }

    /// Whose token it is.
    pub async fn me(&self) -> Result<Me, Error> {
        self.get(Route::Me, "core/users/me/", &[]).await.map_err(token_refused)
    }

    /// Whether the token may create SMS stages. Changes nothing.
    pub async fn may_add(&self) -> Result<bool, Error> {
        self.options(Route::Stages, STAGES, "POST").await
    }

    /// Whether the token may change this stage. Changes nothing.
    pub async fn may_change(&self, pk: Uuid) -> Result<bool, Error> {
        self.options(Route::Stage, &stage_path(pk), "PUT").await
    }

    /// One page of all SMS stages, by `pk`. The server may give fewer rows than asked for.
    pub async fn page_of_stages(&self, page: u32, page_size: u32) -> Result<Page<StageRow>, Error> {
        self.page(Route::Stages, STAGES, &[("ordering", "pk")], page, page_size)
            .await
    }

    /// A stage.
    ///
    /// # Errors
    /// [`Error::NotFound`] only if the API itself says so.
    pub async fn stage(&self, pk: Uuid) -> Result<StageRow, Error> {
        let row: StageRow = self.get(Route::Stage, &stage_path(pk), &[]).await?;
        of_stage(pk, row)
    }

    /// The SMS stage of exactly this name.
    pub async fn stage_by_name(&self, name: &str) -> Result<Option<StageRow>, Error> {
        self.first(Route::Stages, STAGES, &[("name", name)], |stage: &StageRow| {
            stage.name == name
        })
        .await
    }

    /// The stages of any type of exactly this name: one at most, names being unique.
    pub async fn any_stages_by_name(&self, name: &str) -> Result<Vec<AnyStage>, Error> {
        self.all(
            Route::AllStages,
            "stages/all/",
            &[("name", name)],
            |stage: &AnyStage| stage.name == name,
        )
        .await
    }

    /// Creates a stage.
    pub async fn create_stage(
        &self,
        changes: &StageChanges,
        features: &Features,
        tag: &WriteTag,
    ) -> Result<StageRow, Error> {
        self.write(Method::Post, Route::Stages, STAGES, changes, features, tag)
            .await
    }

    /// Changes a stage.
    pub async fn update_stage(
        &self,
        pk: Uuid,
        changes: &StageChanges,
        features: &Features,
        tag: &WriteTag,
    ) -> Result<StageRow, Error> {
        let row = self
            .write(Method::Patch, Route::Stage, &stage_path(pk), changes, features, tag)
            .await?;
        of_stage(pk, row)
    }

    /// Deletes a stage.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none: what that means, the caller decides.
    pub async fn delete_stage(&self, pk: Uuid, tag: &WriteTag) -> Result<(), Error> {
        self.delete(Route::Stage, &stage_path(pk), tag).await
    }

    /// What refers to a stage, as far as the token may see it. Validate stages are never told here.
    pub async fn used_by(&self, pk: Uuid) -> Result<Vec<UsedBy>, Error> {
        let url = self.endpoint().api(&format!("{}used_by/", stage_path(pk)));
        self.0
            .call(self.request(Method::Get, Route::UsedBy, url), wire::every)
            .await
    }

    /// How many SMS devices there are in all. Succeeds only if the token may list devices, without which
    /// [`Client::used_by`] is silent about them.
    pub async fn device_count(&self) -> Result<u64, Error> {
        Ok(self.page::<Anything>(Route::Devices, DEVICES, &[], 1, 1).await?.count)
    }

    /// Deletes a user's SMS device.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub async fn delete_device(&self, pk: &str, tag: &WriteTag) -> Result<(), Error> {
        // It comes from the server and goes into a path.
        if pk.is_empty() || !pk.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(unusable("a device's id is neither a number nor a uuid"));
        }
        self.delete(Route::Device, &format!("{DEVICES}{pk}/"), tag).await
    }

    /// The validate stages in which users may enrol with this stage.
    pub async fn validate_stages_with(&self, stage: Uuid) -> Result<Vec<ValidateStage>, Error> {
        let filter = stage.to_string();
        let lists = |validate: &ValidateStage| validate.configuration_stages.contains(&stage);
        let found = self
            .all(
                Route::ValidateStages,
                VALIDATE_STAGES,
                &[("configuration_stages", &filter)],
                lists,
            )
            .await;
        none_if_unknown("configuration_stages", found)
    }

    /// All validate stages.
    pub async fn validate_stages(&self) -> Result<Vec<ValidateStage>, Error> {
        self.all(Route::ValidateStages, VALIDATE_STAGES, &[], |_: &ValidateStage| true)
            .await
    }

    /// Where a stage is bound.
    pub async fn bindings_of(&self, stage: Uuid) -> Result<Vec<Binding>, Error> {
        let filter = stage.to_string();
        let binds = |binding: &Binding| binding.stage == stage;
        none_if_unknown(
            "stage",
            self.all(Route::Bindings, "flows/bindings/", &[("stage", &filter)], binds)
                .await,
        )
    }

    /// The flow of exactly this slug.
    pub async fn flow_by_slug(&self, slug: &str) -> Result<Option<Flow>, Error> {
        self.first(Route::Flows, "flows/instances/", &[("slug", slug)], |flow: &Flow| {
            flow.slug == slug
        })
        .await
    }

    /// The flow of this uuid.
    pub async fn flow_by_uuid(&self, pk: Uuid) -> Result<Option<Flow>, Error> {
        let filter = pk.to_string();
        self.first(
            Route::Flows,
            "flows/instances/",
            &[("flow_uuid", &filter)],
            |flow: &Flow| flow.pk == pk,
        )
        .await
    }

    /// The webhook mapping of exactly this name.
    pub async fn mapping_by_name(&self, name: &str) -> Result<Option<Mapping>, Error> {
        self.first(Route::Mappings, MAPPINGS, &[("name", name)], |mapping: &Mapping| {
            mapping.name == name
        })
        .await
    }

    /// The webhook mapping of this uuid.
    pub async fn mapping_by_uuid(&self, pk: Uuid) -> Result<Option<Mapping>, Error> {
        match self.get(Route::Mapping, &format!("{MAPPINGS}{pk}/"), &[]).await {
            Ok(mapping) => Ok(Some(mapping)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The newest audit events of an action on one SMS stage, or on any; newest first, at most `count`.
    pub async fn newest_stage_events(
        &self,
        action: &str,
        stage: Option<Uuid>,
        count: u32,
    ) -> Result<Vec<StageEvent>, Error> {
        let stage_pk = stage.map(|stage| stage.to_string());
        // The pk alone says enough, and of events of other models of the app there may be many.
        let model = match &stage_pk {
            Some(pk) => ("context_model_pk", pk.as_str()),
            None => ("context_model_app", STAGE_APP),
        };
        let query = [("action", action), model, ("ordering", "-created")];
        let page: Page<Event> = self.page(Route::Events, EVENTS, &query, 1, count).await?;
        Ok(page
            .items
            .into_iter()
            .filter_map(|event| event.of_stage(action))
            .filter(|event| stage.is_none() || event.model_pk == stage)
            .collect())
    }

    /// The audit events of an action on any SMS stage that are newer than the event `seen`; without it, the newest few.
    ///
    /// One request as long as little happens. Of more than some thousand events the oldest are left out.
    pub async fn stage_events_since(&self, action: &str, seen: Option<&str>) -> Result<RecentEvents, Error> {
        let query = [
            ("action", action),
            ("context_model_app", STAGE_APP),
            ("ordering", "-created"),
        ];
        let page = |number, size| self.page::<Event>(Route::Events, EVENTS, &query, number, size);
        let first = page(1, FEW_EVENTS).await?;
        let goes_on = first.next.is_some() && seen.is_some();
        let mut recent = RecentEvents::default();
        if recent.take(first, action, seen).is_break() || !goes_on {
            return Ok(recent);
        }
        recent = RecentEvents::default();
        listing::walk(
            |number| page(number, PAGE_SIZE),
            |number, page| {
                let all_are_new = recent.take(page, action, seen).is_continue();
                Ok(if all_are_new && number < EVENT_PAGES_MAX {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            },
        )
        .await?;
        Ok(recent)
    }

    async fn write(
        &self,
        method: Method,
        route: Route,
        path: &str,
        changes: &StageChanges,
        features: &Features,
        tag: &WriteTag,
    ) -> Result<StageRow, Error> {
        let deadline = self.0.deadline();
        let send = |with_null| {
            let url = self.endpoint().api(path);
            let body = Some((changes, changes.to_json(with_null)));
            self.0.call(
                Request {
                    method,
                    route,
                    url,
                    tag: Some(tag),
                    body,
                    deadline,
                },
                wire::one,
            )
        };
        let with_null = features.clears_friendly_name_with_null;
        match send(with_null).await {
            // The version was read some time ago, or another replica answers: the reply knows better.
            Err(Error::Validation { fields, .. })
                if changes.clears_friendly_name() && fields.keys().eq([FRIENDLY_NAME]) =>
            {
                send(!with_null).await
            }
            result => result,
        }
    }

    async fn delete(&self, route: Route, path: &str, tag: &WriteTag) -> Result<(), Error> {
        let url = self.endpoint().api(path);
        let request = Request {
            tag: Some(tag),
            ..self.request(Method::Delete, route, url)
        };
        self.0.call(request, |_| Ok(())).await
    }

    async fn options(&self, route: Route, path: &str, action: &str) -> Result<bool, Error> {
        let url = self.endpoint().api(path);
        self.0
            .call(self.request(Method::Options, route, url), |body| {
                wire::offers(body, action)
            })
            .await
    }

    async fn get<T: DeserializeOwned>(&self, route: Route, path: &str, query: &[(&str, &str)]) -> Result<T, Error> {
        let url = self.url(path, query);
        self.0.call(self.request(Method::Get, route, url), wire::one).await
    }

    async fn page<T: DeserializeOwned>(
        &self,
        route: Route,
        path: &str,
        query: &[(&str, &str)],
        page: u32,
        page_size: u32,
    ) -> Result<Page<T>, Error> {
        let mut url = self.url(path, query);
        if page > 1 {
            url.query_pairs_mut().append_pair("page", &page.to_string());
        }
        url.query_pairs_mut().append_pair("page_size", &page_size.to_string());
        self.0.call(self.request(Method::Get, route, url), wire::page).await
    }

    /// All rows that match. A row that cannot be read might be one of them, so it is an error.
    async fn all<T: DeserializeOwned>(
        &self,
        route: Route,
        path: &str,
        query: &[(&str, &str)],
        matches: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        self.scan(route, path, query, |number, rows| {
            if number == 1 {
                found.clear();
            }
            found.extend(rows.into_iter().filter(&matches));
            ControlFlow::Continue(())
        })
        .await?;
        Ok(found)
    }

    /// The first row that matches, by a unique field.
    async fn first<T: DeserializeOwned>(
        &self,
        route: Route,
        path: &str,
        query: &[(&str, &str)],
        matches: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, Error> {
        let mut found = None;
        self.scan(route, path, query, |_, rows| {
            found = rows.into_iter().find(&matches);
            if found.is_some() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .await?;
        Ok(found)
    }

    async fn scan<T: DeserializeOwned>(
        &self,
        route: Route,
        path: &str,
        query: &[(&str, &str)],
        mut each: impl FnMut(u32, Vec<T>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let page = |number| self.page(route, path, query, number, PAGE_SIZE);
        listing::walk(page, |number, page: Page<T>| {
            if page.skipped > 0 {
                return Err(unusable("a row without a readable id or name"));
            }
            Ok(each(number, page.items))
        })
        .await
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.endpoint().api(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn request(&self, method: Method, route: Route, url: Url) -> Request<'static> {
        Request {
            method,
            route,
            url,
            tag: None,
            body: None,
            deadline: self.0.deadline(),
        }
    }
}

fn stage_path(pk: Uuid) -> String {
    format!("{STAGES}{pk}/")
}

/// On a route that every valid token may call, a 403 means the token itself.
fn token_refused(error: Error) -> Error {
    if matches!(error, Error::Forbidden { .. }) {
        Error::Unauthorized
    } else {
        error
    }
}

/// A filter by an object that no longer exists is refused, not answered with an empty page.
fn none_if_unknown<T>(filter: &str, found: Result<Vec<T>, Error>) -> Result<Vec<T>, Error> {
    match found {
        Err(Error::Validation { fields, .. }) if fields.keys().eq([filter]) => Ok(Vec::new()),
        found => found,
    }
}

/// A reply about another stage than the one asked for says nothing about it.
fn of_stage(pk: Uuid, row: StageRow) -> Result<StageRow, Error> {
    if row.pk == pk {
        Ok(row)
    } else {
        Err(unusable("it is about another stage"))
    }
}

fn unusable(why: &str) -> Error {
    Error::InvalidResponse {
        why: why.to_owned(),
        request_id: None,
    }
}

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
