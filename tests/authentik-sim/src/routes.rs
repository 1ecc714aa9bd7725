//! From a request to an answer: base path, authentication, and which route of the API it is.

mod bindings;
mod core;
mod devices;
mod events;
mod flows;
mod mappings;
mod stages;
mod validate;

use serde_json::json;

use crate::{
    audit::Actor,
    message::{Content, Reply, Request},
    rights::User,
    state::State,
    version::{Starting, Version},
};

/// What an operator of the server can set.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `AUTHENTIK_WEB__PATH`: begins and ends with a slash.
    pub(crate) base_path: String,
    pub(crate) default_page_size: Option<usize>,
    pub(crate) maximum_page_size: Option<usize>,
    /// Pictures of flows lie in a store whose URLs are signed afresh at every read.
    pub(crate) signed_backgrounds: bool,
    /// The application behind the outer server is not up yet.
    pub(crate) starting: bool,
    /// The enterprise licence has expired.
    pub(crate) read_only: bool,
}

/// What a route needs beside the rows.
pub(crate) struct Context<'c> {
    pub(crate) version: &'c Version,
    pub(crate) settings: &'c Settings,
    pub(crate) request: &'c Request,
    /// The request's method; HEAD counts as GET, whose body then stays away.
    pub(crate) method: &'c str,
    pub(crate) user: User,
}

impl Context<'_> {
    pub(crate) fn actor(&self) -> Actor {
        Actor {
            user: self.user.pk,
            username: self.user.username.clone(),
            path: self.request.path.clone(),
            method: self.request.method.clone(),
            request_id: self.request.id.clone(),
            user_agent: self.request.user_agent.clone(),
            args: self.request.query.clone(),
        }
    }
}

/// A URL of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'r> {
    Version,
    RootConfig,
    Me,
    SmsStages,
    SmsStage(&'r str),
    SmsStageUsedBy(&'r str),
    AllStages,
    ValidateStages,
    ValidateStage(&'r str),
    Flows,
    Flow(&'r str),
    Bindings,
    Binding(&'r str),
    Mappings,
    Mapping(&'r str),
    Devices,
    Device(&'r str),
    Events,
}

impl<'r> Route<'r> {
    /// The route of a path below `/api/v3`; every path of the API ends in a slash.
    fn of(path: &'r str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.strip_suffix('/')?.split('/').collect();
        Some(match segments.as_slice() {
            ["admin", "version"] => Self::Version,
            ["root", "config"] => Self::RootConfig,
            ["core", "users", "me"] => Self::Me,
            ["stages", "authenticator", "sms"] => Self::SmsStages,
            ["stages", "authenticator", "sms", pk] => Self::SmsStage(pk),
            ["stages", "authenticator", "sms", pk, "used_by"] => Self::SmsStageUsedBy(pk),
            ["stages", "all"] => Self::AllStages,
            ["stages", "authenticator", "validate"] => Self::ValidateStages,
            ["stages", "authenticator", "validate", pk] => Self::ValidateStage(pk),
            ["flows", "instances"] => Self::Flows,
            ["flows", "instances", slug] => Self::Flow(slug),
            ["flows", "bindings"] => Self::Bindings,
            ["flows", "bindings", pk] => Self::Binding(pk),
            ["propertymappings", "notification"] => Self::Mappings,
            ["propertymappings", "notification", pk] => Self::Mapping(pk),
            ["authenticators", "admin", "sms"] => Self::Devices,
            ["authenticators", "admin", "sms", pk] => Self::Device(pk),
            ["events", "events"] => Self::Events,
            _ => return None,
        })
    }

    /// The methods that the real view has, in the order in which it names them.
    fn allow(self) -> &'static str {
        match self {
            Self::Version | Self::RootConfig | Self::Me | Self::SmsStageUsedBy(_) | Self::AllStages => {
                "GET, HEAD, OPTIONS"
            }
            Self::SmsStages
            | Self::ValidateStages
            | Self::Flows
            | Self::Bindings
            | Self::Mappings
            | Self::Devices
            | Self::Events => "GET, POST, HEAD, OPTIONS",
            Self::SmsStage(_)
            | Self::ValidateStage(_)
            | Self::Flow(_)
            | Self::Binding(_)
            | Self::Mapping(_)
            | Self::Device(_) => "GET, PUT, PATCH, DELETE, HEAD, OPTIONS",
        }
    }

    /// Whether it is about one row.
    fn names_one(self) -> bool {
        match self {
            Self::SmsStage(_)
            | Self::SmsStageUsedBy(_)
            | Self::ValidateStage(_)
            | Self::Flow(_)
            | Self::Binding(_)
            | Self::Mapping(_)
            | Self::Device(_) => true,
            Self::Version
            | Self::RootConfig
            | Self::Me
            | Self::SmsStages
            | Self::AllStages
            | Self::ValidateStages
            | Self::Flows
            | Self::Bindings
            | Self::Mappings
            | Self::Devices
            | Self::Events => false,
        }
    }
}

/// The part of a path that is below the API's root, if it is.
pub(crate) fn below_api<'p>(base_path: &str, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(base_path.strip_suffix('/')?)?
        .strip_prefix("/api/v3")
        .filter(|rest| rest.starts_with('/'))
}

/// Answers a request as that version does, and changes the state if the request does.
pub(crate) fn answer(state: &mut State, settings: &Settings, version: &Version, request: &Request) -> Reply {
    let base = settings.base_path.strip_suffix('/').unwrap_or("");
    if !base.is_empty() && request.path == "/" {
        return Reply {
            location: Some(settings.base_path.clone()),
            ..Reply::new(302, Content::Empty)
        };
    }
    let Some(path) = request.path.strip_prefix(base).filter(|path| path.starts_with('/')) else {
        return Reply::unknown_url(version, &request.method);
    };
    if settings.starting {
        return starting(version, request);
    }
    if matches!(path, "/-/health/live/" | "/-/health/ready/") {
        return Reply::new(version.healthy_status(), Content::Empty);
    }
    let Some(route) = below_api(&settings.base_path, &request.path).and_then(Route::of) else {
        return Reply::unknown_url(version, &request.method);
    };
    let safe = matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS");
    if settings.read_only && version.checks_licence() && !safe {
        let body = json!({"detail": "Request denied due to expired/invalid license.", "code": "denied_license"});
        return Reply::json(400, body);
    }
    let mut reply = routed(state, settings, version, request, route).unwrap_or_else(|refusal| refusal);
    // A crash is answered by the error view, which names its own methods.
    if reply.allow.is_none() && !matches!(reply.content, Content::Text(..)) {
        reply.allow = Some(route.allow());
    }
    reply
}

fn routed(
    state: &mut State,
    settings: &Settings,
    version: &Version,
    request: &Request,
    route: Route<'_>,
) -> Result<Reply, Reply> {
    let method = if request.method == "HEAD" {
        "GET"
    } else {
        request.method.as_str()
    };
    let user = authenticate(state, version, request)?;
    if route == Route::RootConfig && method == "GET" {
        return Ok(core::root_config(version));
    }
    let Some(user) = user else {
        return Err(if route.names_one() {
            Reply::forbidden()
        } else {
            Reply::detail(403, "Authentication credentials were not provided.")
        });
    };
    if !route.allow().split(", ").any(|allowed| allowed == method) {
        return Err(Reply::detail(405, &format!("Method \"{method}\" not allowed.")));
    }
    let context = Context {
        version,
        settings,
        request,
        method,
        user,
    };
    match (route, method) {
        (Route::Version, "GET") => Ok(core::version(&context)),
        (Route::Me, "GET") => Ok(core::me(&context)),
        (Route::SmsStages, _) => stages::collection(&context, state),
        (Route::SmsStage(pk), _) => stages::single(&context, state, pk),
        (Route::SmsStageUsedBy(pk), "GET") => stages::used_by(&context, state, pk),
        (Route::AllStages, "GET") => stages::all(&context, state),
        (Route::ValidateStages, "GET") => validate::collection(&context, state),
        (Route::ValidateStage(pk), "GET") => validate::single(&context, state, pk),
        (Route::Flows, _) => flows::collection(&context, state),
        (Route::Flow(slug), _) => flows::single(&context, state, slug),
        (Route::Bindings, _) => bindings::collection(&context, state),
        (Route::Binding(pk), _) => bindings::single(&context, state, pk),
        (Route::Mappings, _) => mappings::collection(&context, state),
        (Route::Mapping(pk), _) => mappings::single(&context, state, pk),
        (Route::Devices, _) => devices::collection(&context, state),
        (Route::Device(pk), _) => devices::single(&context, state, pk),
        (Route::Events, "GET") => events::collection(&context, state),
        _ => Err(not_simulated(&context)),
    }
}

/// The real server has this method; the simulator says openly that it has not.
pub(crate) fn not_simulated(context: &Context<'_>) -> Reply {
    let Request { method, path, .. } = context.request;
    Reply::detail(501, &format!("authentik-sim does not simulate {method} {path}"))
}

/// Who calls; `None` without credentials. Whatever is wrong with a token is a 403.
fn authenticate(state: &State, version: &Version, request: &Request) -> Result<Option<User>, Reply> {
    let Some(header) = &request.authorization else {
        return Ok(None);
    };
    match header.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => match state.accounts.by_token(key) {
            Some(user) => Ok(Some(user.clone())),
            None => Err(Reply::detail(403, "Token invalid/expired")),
        },
        Some(_) | None if version.names_unsupported_scheme() => {
            Err(Reply::detail(403, "Unsupported authentication type"))
        }
        Some(_) | None => Ok(None),
    }
}

/// The outer server while the application behind it does not answer.
fn starting(version: &Version, request: &Request) -> Reply {
    let json_wanted = request.accept == "application/json";
    match version.starting() {
        Starting::BadGateway => {
            let text = "failed to connect to authentik backend: authentik starting";
            let body = if json_wanted {
                json!({"error": text}).to_string()
            } else {
                text.to_owned()
            };
            Reply::new(502, Content::Text(None, body))
        }
        late @ (Starting::OkWithError | Starting::Unavailable) => {
            let status = if late == Starting::OkWithError { 200 } else { 503 };
            let content = if json_wanted {
                Content::Json(json!({"error": "authentik starting"}))
            } else {
                Content::Text(Some("text/plain; charset=utf-8"), "authentik starting".to_owned())
            };
            Reply {
                retry_after: Some(5),
                ..Reply::new(status, content)
            }
        }
    }
}
