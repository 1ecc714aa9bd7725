//! Replays recordings of running authentik servers against the simulator: every exchange, in its order, with equal
//! status, headers and body. Then each recorded value is falsified in turn, and the comparison must notice.

// A test program: it prints what it did, and a panic is a failure.
#![allow(clippy::print_stdout, clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "replay/compare.rs"]
mod compare;
#[path = "replay/recording.rs"]
mod recording;

use std::{collections::HashMap, process::ExitCode};

use authentik_sim::{Config, Sim};
use serde_json::{Value, json};
use uuid::Uuid;

use compare::{Cut, Known, differences};
use recording::{Answer, Exchange, read};

/// The client that made the recordings.
const RECORDER: &str = "authentik-contract-recorder";

/// One recording played against one version.
struct Play {
    recording: &'static str,
    version: &'static str,
}

/// Each recording against the version that it was made of.
const RECORDED: [Play; 4] = [
    Play {
        recording: "2023.10",
        version: "2023.10.2",
    },
    Play {
        recording: "2025.10",
        version: "2025.10.0-rc1",
    },
    Play {
        recording: "2026.5",
        version: "2026.5.0-rc1",
    },
    Play {
        recording: "access-2026.5",
        version: "2026.5.0-rc1",
    },
];

/// The newest recordings against a later version, with the differences that are documented.
const LATER: [Play; 2] = [
    Play {
        recording: "2026.5",
        version: "2026.8.2",
    },
    Play {
        recording: "access-2026.5",
        version: "2026.8.2",
    },
];

#[tokio::main]
async fn main() -> ExitCode {
    let recorded = play_all("each against its own version", &RECORDED).await;
    let later = play_all("against a later version", &LATER).await;
    if recorded && later {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays the recordings, prints what came of it, and says whether all is well.
async fn play_all(how: &str, plays: &[Play]) -> bool {
    let (mut replayed, mut left_out, mut failed, mut blind) = (0, 0, 0, 0);
    for play in plays {
        let outcome = run(play).await;
        println!(
            "{} on {}: replayed {} exchanges",
            play.recording, play.version, outcome.replayed
        );
        for (id, reason) in &outcome.left_out {
            println!("  left out {id}: {reason}");
        }
        for failure in &outcome.failures {
            println!("  FAILED {failure}");
        }
        println!(
            "  falsified {} recorded values: {} are each server's own, unnoticed {}",
            outcome.falsified,
            outcome.free,
            outcome.blind.len(),
        );
        for value in &outcome.blind {
            println!("  UNNOTICED {value}");
        }
        replayed += outcome.replayed;
        left_out += outcome.left_out.len();
        failed += outcome.failures.len();
        blind += outcome.blind.len();
    }
    println!("replayed {replayed} exchanges {how}, left out {left_out}, failed {failed}");
    failed == 0 && blind == 0 && replayed > 0
}

#[derive(Default)]
struct Outcome {
    replayed: usize,
    left_out: Vec<(String, &'static str)>,
    failures: Vec<String>,
    falsified: usize,
    free: usize,
    blind: Vec<String>,
}

async fn run(play: &Play) -> Outcome {
    let sim = Sim::start(Config::new(play.version)).await;
    let mut replay = Replay {
        url: sim.url(),
        client: reqwest::Client::new(),
        known: Known::default(),
        tokens: HashMap::from([(String::new(), sim.admin_token().to_owned())]),
    };
    let access = play.recording.starts_with("access");
    if access {
        replay.prepare_access(&sim).await;
    }
    let mut outcome = Outcome::default();
    let mut compared = Vec::new();
    for mut exchange in read(play.recording) {
        if let Some(reason) = left_out(play, &exchange.id) {
            outcome.left_out.push((exchange.id, reason));
            continue;
        }
        if exchange.id == "used-by-devices" && !access {
            let pk = Uuid::parse_str(&replay.known.fill("{{pk}}")).expect("a uuid");
            sim.with(|state| ["+15550000", "+15550001"].map(|number| state.enrol(pk, number)));
        }
        adapt(play, &mut exchange);
        let cut = cut(access, &exchange.id);
        let came = shaped(&exchange, replay.send(&exchange).await);
        either_binding(&mut exchange, &came);
        let found = differences(&exchange, &came, cut, &mut replay.known);
        outcome.replayed += 1;
        if !found.is_empty() {
            outcome.failures.push(format!("{}: {}", exchange.id, found.join("; ")));
        }
        if refuses_devices(play) && matches!(exchange.id.as_str(), "delete-with-devices" | "delete-in-use") {
            assert!(!sim.devices().is_empty(), "a refused delete keeps the devices");
        }
        compared.push((exchange, came, cut));
    }
    for (exchange, came, cut) in &compared {
        falsify(exchange, came, *cut, &replay.known, &mut outcome);
    }
    outcome
}

fn refuses_devices(play: &Play) -> bool {
    play.version.starts_with("2026.8")
}

/// Exchanges that cannot be compared, and why.
fn left_out(play: &Play, id: &str) -> Option<&'static str> {
    match id {
        "events" if play.version.starts_with("2023") => Some("recorded events that no API write made"),
        "get-after-delete-with-devices"
        | "devices-after-delete"
        | "bindings-after-delete"
        | "events"
        | "validate-after"
        | "get-after-object-view"
        | "list-after-object-view"
            if refuses_devices(play) =>
        {
            Some("rests on a delete that this version refuses")
        }
        _ => None,
    }
}

/// What the played version does differently from the recorded one, by the documentation.
fn adapt(play: &Play, exchange: &mut Exchange) {
    if !refuses_devices(play) {
        return;
    }
    if matches!(exchange.id.as_str(), "delete-with-devices" | "delete-in-use") {
        exchange.answer = Answer {
            status: 500,
            content_type: Some("text/html".to_owned()),
            allow: None,
            vary: None,
            body: json!("<text/html; charset=utf-8, 0 bytes>"),
        };
    }
    rewrite(&mut exchange.answer.body, play.version);
}

/// Drops credentials from stages and puts the played version in the place of the recorded one.
fn rewrite(value: &mut Value, version: &str) {
    match value {
        Value::Object(members) => {
            if members.get("component") == Some(&json!("ak-stage-authenticator-sms-form")) {
                members.remove("auth");
                members.remove("auth_password");
            }
            members.values_mut().for_each(|value| rewrite(value, version));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rewrite(value, version)),
        Value::String(text) if text == "2026.5.0-rc1" => version.clone_into(text),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// How much of the answer the recording kept.
fn cut(access: bool, id: &str) -> Cut {
    const WHOLE: [&str; 6] = [
        "post-empty",
        "used-by",
        "binding-create",
        "binding-duplicate",
        "delete",
        "device-delete",
    ];
    match id {
        "root-config" => Cut::TypesOnly,
        "me" | "events" => Cut::SomeMembers,
        _ if access && !WHOLE.iter().any(|whole| id.starts_with(whole)) => Cut::SomeMembers,
        _ => Cut::Whole,
    }
}

/// Brings a real answer into the shape in which the recording keeps it.
fn shaped(exchange: &Exchange, mut came: Answer) -> Answer {
    if exchange.id.starts_with("options-") {
        let actions = came.body.get("actions").cloned().unwrap_or_else(|| json!({}));
        let names = actions
            .as_object()
            .expect("actions by name")
            .keys()
            .cloned()
            .collect::<Vec<_>>();
        came.body["actions"] = if exchange.id.starts_with("options-list") {
            actions
        } else {
            json!(names)
        };
    }
    // The main recordings keep action, app and model of an event.
    if exchange.id == "events" {
        for row in came.body["results"].as_array_mut().expect("a page of events") {
            row["model"] = row["context"]["model"].clone();
        }
    }
    came
}

/// Rows of one kind are deleted in any order, so the last recorded event may be of either binding.
fn either_binding(exchange: &mut Exchange, came: &Answer) {
    let recorded = exchange
        .answer
        .body
        .pointer_mut("/results/3/model")
        .filter(|_| exchange.id == "events");
    let name = came.body.pointer("/results/3/model/name").and_then(Value::as_str);
    if let (Some(recorded), Some(name)) = (recorded, name) {
        let key = if name.contains("#11") {
            ("#11", "{{binding2_pk}}")
        } else {
            ("#20", "{{binding_pk}}")
        };
        recorded["name"] = json!(format!("Flow-stage binding {} to {{{{flow2_pk}}}}", key.0));
        recorded["pk"] = json!(key.1);
    }
}

/// Changes each value of the recorded answer in turn; each change must be noticed.
fn falsify(exchange: &Exchange, came: &Answer, cut: Cut, known: &Known, outcome: &mut Outcome) {
    let mut leaves = Vec::new();
    pointers(&exchange.answer.body, String::new(), &mut leaves);
    let mut changed: Vec<(String, Exchange)> = Vec::new();
    let mut other = exchange.clone();
    other.answer.status += 1;
    changed.push(("status".to_owned(), other));
    for leaf in leaves {
        let mut other = exchange.clone();
        let value = other.answer.body.pointer_mut(&leaf).expect("a leaf just found");
        *value = match value {
            Value::Bool(value) => json!(!*value),
            Value::Number(number) => json!(number.as_f64().unwrap_or(0.0) + 4711.0),
            Value::String(text) => json!(format!("not {text}")),
            Value::Null => json!("not null"),
            Value::Array(_) | Value::Object(_) => json!({"not": "this"}),
        };
        changed.push((leaf, other));
    }
    for (what, other) in changed {
        outcome.falsified += 1;
        if !differences(&other, came, cut, &mut known.clone()).is_empty() {
            continue;
        }
        // Only these are a server's own: addresses, timings and switches of the installation.
        if exchange.id == "root-config" {
            outcome.free += 1;
        } else {
            outcome.blind.push(format!("{} {what}", exchange.id));
        }
    }
}

fn pointers(value: &Value, at: String, leaves: &mut Vec<String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            members
                .iter()
                .for_each(|(key, value)| pointers(value, format!("{at}/{key}"), leaves));
        }
        Value::Array(values) if !values.is_empty() => {
            values
                .iter()
                .enumerate()
                .for_each(|(index, value)| pointers(value, format!("{at}/{index}"), leaves));
        }
        Value::Object(_) | Value::Array(_) | Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {
            leaves.push(at);
        }
    }
}

struct Replay {
    url: String,
    client: reqwest::Client,
    known: Known,
    tokens: HashMap<String, String>,
}

impl Replay {
    async fn send(&self, exchange: &Exchange) -> Answer {
        let token = match exchange.id.as_str() {
            "auth-none" => None,
            "auth-bad-token" => Some("no-such-token"),
            _ => Some(self.tokens[&exchange.bearer].as_str()),
        };
        // Recorded under these names, and seen again in the audit log.
        let agent = match exchange.id.as_str() {
            "agent-create" => "authentik-stage-operator/0 (uid=u; intent=n)",
            "agent-update" => "somebody",
            _ => RECORDER,
        };
        let body = match &exchange.request {
            Value::Null => None,
            Value::String(raw) => Some(raw.clone()),
            Value::Object(_) | Value::Array(_) | Value::Bool(_) | Value::Number(_) => {
                Some(self.known.fill_in(&exchange.request).to_string())
            }
        };
        self.call(&exchange.method, &self.known.fill(&exchange.path), token, agent, body)
            .await
    }

    async fn call(&self, method: &str, path: &str, token: Option<&str>, agent: &str, body: Option<String>) -> Answer {
        let url = format!("{}/api/v3{path}", self.url);
        let mut request = self
            .client
            .request(method.parse().expect("a method"), url)
            .header("user-agent", agent);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.expect("an answer");
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let (status, content_type) = (response.status().as_u16(), header("content-type"));
        let (allow, vary) = (header("allow"), header("vary"));
        for name in ["x-authentik-id", "x-powered-by"] {
            assert!(header(name).is_some(), "{method} {path} is answered without {name}");
        }
        let text = response.text().await.expect("a body");
        let body = match &content_type {
            None => Value::Null,
            Some(html) if html.starts_with("text/html") => json!(format!("<{html}, {} bytes>", text.len())),
            Some(_) => serde_json::from_str(&text).expect("JSON"),
        };
        Answer {
            status: status.into(),
            content_type,
            allow,
            vary,
            body,
        }
    }

    /// The start state of the access recordings, made by the superuser.
    async fn prepare_access(&mut self, sim: &Sim) {
        const BASE: [&str; 7] = [
            "authentik_stages_authenticator_sms.view_authenticatorsmsstage",
            "authentik_stages_authenticator_sms.add_authenticatorsmsstage",
            "authentik_stages_authenticator_sms.change_authenticatorsmsstage",
            "authentik_stages_authenticator_sms.delete_authenticatorsmsstage",
            "authentik_flows.view_flow",
            "authentik_flows.view_stage",
            "authentik_events.view_notificationwebhookmapping",
        ];
        const GUARD: [&str; 3] = [
            "authentik_stages_authenticator_sms.view_smsdevice",
            "authentik_flows.view_flowstagebinding",
            "authentik_stages_authenticator_validate.view_authenticatorvalidatestage",
        ];
        const BINDINGS: [&str; 3] = [
            "authentik_flows.add_flowstagebinding",
            "authentik_flows.change_flowstagebinding",
            "authentik_flows.delete_flowstagebinding",
        ];
        let guard = [&BASE[..], &GUARD].concat();
        let rights: [(&str, Vec<&str>); 9] = [
            ("base", BASE.to_vec()),
            ("guard", guard.clone()),
            ("bindings", [&guard[..], &BINDINGS].concat()),
            (
                "devices",
                [&guard[..], &["authentik_stages_authenticator_sms.delete_smsdevice"]].concat(),
            ),
            ("events", [&BASE[..], &["authentik_events.view_event"]].concat()),
            ("view-only", vec![BASE[0]]),
            ("add-only", vec![BASE[1]]),
            ("object-view", Vec::new()),
            ("nothing", Vec::new()),
        ];
        for (name, permissions) in rights {
            let username = format!("contract-{name}");
            self.tokens
                .insert(name.to_owned(), sim.add_token(&username, &permissions, false));
            self.known.set(&format!("user_{}", name.replace('-', "_")), &username);
        }
        self.tokens.insert("admin".to_owned(), sim.admin_token().to_owned());

        // The recorded keys, which the server draws, happen to order b before a.
        let (a, b) = loop {
            let (a, b) = (self.create_stage("access-a").await, self.create_stage("access-b").await);
            if b < a {
                break (a, b);
            }
            sim.remove(a);
            sim.remove(b);
        };
        let (flow, binding, validate, devices) = sim.with(|state| {
            let flow = state.add_flow("access-flow", "stage_configuration");
            state.edit_flow("access-flow", |flow| "Set up".clone_into(&mut flow.title));
            let binding = state.add_binding(flow, a, 0);
            let validate = state.add_validate_stage("access-validate", &[a], &["sms"]);
            (
                flow,
                binding,
                validate,
                ["+15550000", "+15550001"].map(|number| state.enrol(a, number)),
            )
        });
        sim.grant_on(&self.tokens["object-view"], BASE[0], a);
        for (name, key) in [
            ("a_pk", a),
            ("b_pk", b),
            ("flow_pk", flow),
            ("binding_pk", binding),
            ("validate_pk", validate),
        ] {
            self.known.set(name, &key.to_string());
        }
        self.known.set("device_pk", &devices[0].to_string());
    }

    async fn create_stage(&self, name: &str) -> Uuid {
        let body = json!({
            "name": name,
            "provider": "twilio",
            "from_number": "+15005550006",
            "account_sid": "AC00000000000000000000000000000000",
            "auth": "first-token",
        });
        let token = self.tokens["admin"].as_str();
        let created = self
            .call(
                "POST",
                "/stages/authenticator/sms/",
                Some(token),
                RECORDER,
                Some(body.to_string()),
            )
            .await;
        Uuid::parse_str(created.body["pk"].as_str().expect("a key")).expect("a uuid")
    }
}
