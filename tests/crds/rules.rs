//! Every CEL rule of both kinds, on a real API server: one case that passes, one that fails with the exact message,
//! reason and field. A rule that no case is about fails the test.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::samples::{self, Sample, sample};
use crate::schema::{Kind, Rule};
use crate::server::{Cause, Server};

const FORBIDDEN: &str = "FieldValueForbidden";
const INVALID: &str = "FieldValueInvalid";
const REQUIRED: &str = "FieldValueRequired";

/// Rules that stand at many fields: for these the cases are made from the samples, at every field that has the rule.
struct Shared {
    message: &'static str,
    /// Makes the sample's value at that field wrong.
    spoil: fn(&str) -> String,
}

const SHARED: [Shared; 6] = [
    Shared {
        message: "remove the white space before or after the value: authentik would cut it off",
        // Not only ASCII counts: this is an em space.
        spoil: |value| format!("{value}\u{2003}"),
    },
    Shared {
        message: "remove the control characters (tab, line feed, NUL, ...) from the value",
        spoil: |value| {
            let (first, rest) = value.split_at(1);
            format!("{first}\t{rest}")
        },
    },
    Shared {
        message: "write the name of an object in Kubernetes: lower-case letters, digits, - and . only",
        spoil: |value| format!("../{value}"),
    },
    Shared {
        message: "write the name of a namespace: lower-case letters, digits and - only",
        spoil: |value| format!("{value}.x"),
    },
    Shared {
        message: "write a key of the object's data: letters, digits, -, _ and . only",
        spoil: |value| format!("{value}/x"),
    },
    Shared {
        message: "write the value of a label: letters, digits, -, _ and . only, at most 63",
        spoil: |value| format!("{value}-"),
    },
];

/// One rule that stands at one field.
struct Case {
    /// Path of the node with the rule.
    at: &'static str,
    message: &'static str,
    reason: &'static str,
    /// Where the error has to stand.
    field: &'static str,
    /// Sample from which the others differ by merge patches of the spec.
    sample: &'static str,
    /// What is stored before, for rules on changes.
    before: Option<Value>,
    passes: Vec<Value>,
    fails: Vec<Value>,
}

fn case(at: &'static str, field: &'static str, reason: &'static str, message: &'static str) -> Case {
    Case {
        at,
        message,
        reason,
        field,
        sample: "",
        before: None,
        passes: Vec::new(),
        fails: Vec::new(),
    }
}

impl Case {
    fn of(self, sample: &'static str) -> Self {
        Self { sample, ..self }
    }

    fn after(self, before: Value) -> Self {
        Self {
            before: Some(before),
            ..self
        }
    }

    fn passes(mut self, spec: Value) -> Self {
        self.passes.push(spec);
        self
    }

    fn fails(mut self, spec: Value) -> Self {
        self.fails.push(spec);
        self
    }
}

fn secret() -> Value {
    json!({"name": "other", "key": "value"})
}

fn connection_ref() -> Vec<Case> {
    let fixed = "connectionRef cannot be set or removed later: create another resource, and delete this one with deletionPolicy Orphan";
    let same =
        "connectionRef cannot be changed: create another resource, and delete this one with deletionPolicy Orphan";
    let at = "spec.connectionRef";
    vec![
        case("spec", at, FORBIDDEN, fixed)
            .of("twilio")
            .after(json!({}))
            .passes(json!({"suspend": false}))
            .fails(json!({"connectionRef": null})),
        case("spec", at, FORBIDDEN, fixed)
            .of("twilio-secret")
            .after(json!({}))
            .passes(json!({"suspend": true}))
            .fails(json!({"connectionRef": {"name": "authentik"}})),
        case(at, at, FORBIDDEN, same)
            .of("twilio")
            .after(json!({}))
            .passes(json!({"connectionRef": {"name": "authentik", "namespace": "login"}}))
            .fails(json!({"connectionRef": {"name": "other"}}))
            .fails(json!({"connectionRef": {"namespace": "other"}}))
            .fails(json!({"connectionRef": {"namespace": null}})),
        case(at, at, FORBIDDEN, same)
            .of("twilio-secret")
            .after(json!({"connectionRef": {"name": "authentik"}}))
            .passes(json!({"connectionRef": {"name": "authentik"}}))
            .fails(json!({"connectionRef": {"name": "authentik", "namespace": "login"}})),
    ]
}

fn provider() -> Vec<Case> {
    let twilio = json!({"accountSid": "AC0123456789abcdef0123456789abcdef", "authTokenSecretRef": secret()});
    let generic = json!({"url": "https://sms.example.com", "username": "sms"});
    vec![
        case("spec", "spec.twilio", REQUIRED, "set twilio: provider twilio needs it")
            .of("twilio")
            .passes(json!({}))
            .fails(json!({"twilio": null})),
        case(
            "spec",
            "spec.generic",
            REQUIRED,
            "set generic: provider generic needs it",
        )
        .of("basic")
        .passes(json!({}))
        .fails(json!({"generic": null})),
        case(
            "spec",
            "spec.twilio",
            FORBIDDEN,
            "remove twilio, or set provider to twilio: it is used with no other",
        )
        .of("basic")
        .passes(json!({}))
        .fails(json!({"twilio": twilio})),
        case(
            "spec",
            "spec.generic",
            FORBIDDEN,
            "remove generic, or set provider to generic: it is used with no other",
        )
        .of("twilio")
        .passes(json!({}))
        .fails(json!({"generic": generic})),
    ]
}

fn references() -> Vec<Case> {
    let uuid = "0f9b5c0e-6d2c-4b52-9d3c-0b5d9a3f6c11";
    vec![
        case(
            "spec.configureFlow",
            "spec.configureFlow.slug",
            REQUIRED,
            "set exactly one of slug and uuid",
        )
        .of("twilio")
        .passes(json!({"configureFlow": null}))
        .passes(json!({"configureFlow": {"slug": "a"}}))
        .passes(json!({"configureFlow": {"slug": null, "uuid": uuid}}))
        .fails(json!({"configureFlow": {"slug": null}})),
        case(
            "spec.configureFlow",
            "spec.configureFlow.uuid",
            FORBIDDEN,
            "set exactly one of slug and uuid: remove one of them",
        )
        .of("twilio")
        .passes(json!({}))
        .fails(json!({"configureFlow": {"uuid": uuid}})),
        case(
            "spec.configureFlow.slug",
            "spec.configureFlow.slug",
            INVALID,
            "a slug has only letters, digits, - and _: write the last part of the flow's URL",
        )
        .of("twilio")
        .passes(json!({"configureFlow": {"slug": "Az09-_"}}))
        .passes(json!({"configureFlow": {"slug": "s".repeat(255)}}))
        .fails(json!({"configureFlow": {"slug": "https://sso.example.com/if/flow/setup/"}}))
        .fails(json!({"configureFlow": {"slug": "übersicht"}})),
        case(
            "spec.mapping",
            "spec.mapping.name",
            REQUIRED,
            "set exactly one of name and uuid",
        )
        .of("twilio")
        .passes(json!({"mapping": null}))
        .passes(json!({"mapping": {"name": null, "uuid": uuid}}))
        .fails(json!({"mapping": {"name": null}})),
        case(
            "spec.mapping",
            "spec.mapping.uuid",
            FORBIDDEN,
            "set exactly one of name and uuid: remove one of them",
        )
        .of("twilio")
        .passes(json!({}))
        .fails(json!({"mapping": {"uuid": uuid}})),
    ]
}

fn deletion_policy() -> Vec<Case> {
    let at = "spec.deletionPolicy";
    vec![
        case(at, at, INVALID, "write Delete, Orphan or ForceDelete, or leave it out")
            .of("twilio")
            .passes(json!({"deletionPolicy": "Orphan"}))
            .passes(json!({"deletionPolicy": "ForceDelete"}))
            .passes(json!({"deletionPolicy": null}))
            .fails(json!({"deletionPolicy": "delete"}))
            .fails(json!({"deletionPolicy": ""})),
    ]
}

fn twilio() -> Vec<Case> {
    let sid = "spec.twilio.accountSid";
    vec![
        case("spec.twilio", sid, REQUIRED, "set exactly one of accountSid and accountSidSecretRef")
            .of("twilio")
            .passes(json!({"twilio": {"accountSid": null, "accountSidSecretRef": secret()}}))
            .fails(json!({"twilio": {"accountSid": null}})),
        case(
            "spec.twilio",
            "spec.twilio.accountSidSecretRef",
            FORBIDDEN,
            "set exactly one of accountSid and accountSidSecretRef: remove one of them",
        )
        .of("twilio")
        .passes(json!({}))
        .fails(json!({"twilio": {"accountSidSecretRef": secret()}})),
        case(
            sid,
            sid,
            FORBIDDEN,
            "an Account SID is AC and 32 hexadecimal digits: copy it from Twilio's console (an API key SK... cannot be used)",
        )
        .of("twilio")
        .passes(json!({"twilio": {"accountSid": "ACABCDEF6789abcdef0123456789abcdef"}}))
        .fails(json!({"twilio": {"accountSid": "SK0123456789abcdef0123456789abcdef"}}))
        .fails(json!({"twilio": {"accountSid": "AC0123456789abcdef0123456789abcde"}}))
        .fails(json!({"twilio": {"accountSid": "AC0123456789abcdef0123456789abcdef0"}})),
    ]
}

fn gateway_url() -> Vec<Case> {
    let url = "spec.generic.url";
    let absolute = "write an absolute URL such as https://sms.example.com/send";
    let bare = "remove user, password and fragment from the URL: credentials belong into username and passwordSecretRef, or tokenSecretRef";
    vec![
        case("spec.generic", url, REQUIRED, "set exactly one of url and urlSecretRef")
            .of("basic")
            .passes(json!({"generic": {"url": null, "urlSecretRef": secret()}}))
            .fails(json!({"generic": {"url": null}})),
        case(
            "spec.generic",
            "spec.generic.urlSecretRef",
            FORBIDDEN,
            "set exactly one of url and urlSecretRef: remove one of them",
        )
        .of("basic")
        .passes(json!({}))
        .fails(json!({"generic": {"urlSecretRef": secret()}})),
        case(url, url, FORBIDDEN, absolute)
            .of("basic")
            .passes(json!({"generic": {"url": "http://10.0.0.1:8080/send?key=x&to=a@b.example"}}))
            .passes(json!({"generic": {"url": "https://[2001:db8::1]:65535"}}))
            .fails(json!({"generic": {"url": "sms.example.com/send"}}))
            .fails(json!({"generic": {"url": "ftp://sms.example.com"}}))
            .fails(json!({"generic": {"url": "https:///send"}}))
            .fails(json!({"generic": {"url": "https://sms.example.com:65536"}}))
            .fails(json!({"generic": {"url": "https://sms.example.com:99999999999999999999"}})),
        case(url, url, FORBIDDEN, bare)
            .of("basic")
            .passes(json!({"generic": {"url": "https://sms.example.com/@me"}}))
            .fails(json!({"generic": {"url": "https://user:password@sms.example.com"}}))
            .fails(json!({"generic": {"url": "https://user@sms.example.com/"}}))
            .fails(json!({"generic": {"url": "https://sms.example.com/#send"}})),
    ]
}

fn gateway_credentials() -> Vec<Case> {
    let at = "spec.generic";
    let name = "spec.generic.username";
    vec![
        case(
            at,
            name,
            REQUIRED,
            "set exactly one of username and usernameSecretRef: authType basic needs it",
        )
        .of("basic")
        .passes(json!({"generic": {"username": null, "usernameSecretRef": secret()}}))
        // `basic` is the default.
        .passes(json!({"generic": {"authType": null}}))
        .fails(json!({"generic": {"username": null}}))
        .fails(json!({"generic": {"username": null, "authType": null}})),
        case(
            at,
            "spec.generic.usernameSecretRef",
            FORBIDDEN,
            "set exactly one of username and usernameSecretRef: remove one of them",
        )
        .of("basic")
        .passes(json!({}))
        .fails(json!({"generic": {"usernameSecretRef": secret()}})),
        case(
            at,
            name,
            FORBIDDEN,
            "remove username, or set authType to basic: it is used with no other",
        )
        .of("bearer")
        .passes(json!({}))
        .fails(json!({"generic": {"username": "sms"}})),
        case(
            at,
            "spec.generic.usernameSecretRef",
            FORBIDDEN,
            "remove usernameSecretRef, or set authType to basic: it is used with no other",
        )
        .of("bearer")
        .passes(json!({}))
        .fails(json!({"generic": {"usernameSecretRef": secret()}})),
        case(
            at,
            "spec.generic.passwordSecretRef",
            FORBIDDEN,
            "remove passwordSecretRef, or set authType to basic: it is used with no other",
        )
        .of("bearer")
        .passes(json!({}))
        .fails(json!({"generic": {"passwordSecretRef": secret()}})),
        case(
            at,
            "spec.generic.tokenSecretRef",
            REQUIRED,
            "set tokenSecretRef: authType bearer needs it",
        )
        .of("bearer")
        .passes(json!({}))
        .fails(json!({"generic": {"tokenSecretRef": null}})),
        case(
            at,
            "spec.generic.tokenSecretRef",
            FORBIDDEN,
            "remove tokenSecretRef, or set authType to bearer: it is used with no other",
        )
        .of("basic")
        .passes(json!({"generic": {"passwordSecretRef": null}}))
        .fails(json!({"generic": {"tokenSecretRef": secret()}})),
        case(
            name,
            name,
            FORBIDDEN,
            "remove the colon: HTTP basic authentication has no user name with one",
        )
        .of("basic")
        .passes(json!({"generic": {"username": "a.b@c d"}}))
        .fails(json!({"generic": {"username": "user:password"}})),
        case(
            name,
            name,
            FORBIDDEN,
            "use Latin-1 characters only: the user name goes into an HTTP header",
        )
        .of("basic")
        .passes(json!({"generic": {"username": "müller\u{ff}"}}))
        .fails(json!({"generic": {"username": "\u{100}"}}))
        .fails(json!({"generic": {"username": "user😀"}})),
    ]
}

fn connection_url() -> Vec<Case> {
    let url = "spec.url";
    let absolute = "write an absolute URL such as https://sso.example.com";
    let bare = "remove user, password, query and fragment from the URL: the token belongs into tokenSecretRef";
    let local = "link-local addresses are refused: cloud metadata services live there";
    vec![
        case(
            "spec",
            url,
            FORBIDDEN,
            "write https://, or set allowInsecureHTTP to send the token in clear text",
        )
        .of("connection")
        .passes(json!({"url": "http://authentik.login.svc"}))
        .passes(json!({"allowInsecureHTTP": false}))
        .fails(json!({"url": "http://authentik.login.svc", "allowInsecureHTTP": false}))
        // `false` is the default.
        .fails(json!({"url": "HTTP://authentik.login.svc", "allowInsecureHTTP": null})),
        case(url, url, FORBIDDEN, absolute)
            .of("connection")
            .passes(json!({"url": "https://[2001:db8::1]:9443/authentik/"}))
            .fails(json!({"url": "sso.example.com"}))
            .fails(json!({"url": "ldaps://sso.example.com"}))
            .fails(json!({"url": "https://"}))
            .fails(json!({"url": "https://sso.example.com:65536"})),
        case(url, url, FORBIDDEN, bare)
            .of("connection")
            .passes(json!({"url": "https://sso.example.com/@team"}))
            .fails(json!({"url": "https://akadmin:token@sso.example.com"}))
            .fails(json!({"url": "https://sso.example.com/?token=x"}))
            .fails(json!({"url": "https://sso.example.com/#token"})),
        case(url, url, FORBIDDEN, local)
            .of("connection")
            .passes(json!({"url": "https://169.253.1.1"}))
            .passes(json!({"url": "https://[fec0::1]"}))
            .passes(json!({"url": "https://fe80.example.com/169.254.169.254"}))
            .fails(json!({"url": "https://169.254.169.254"}))
            .fails(json!({"url": "https://[fe80::1]"}))
            .fails(json!({"url": "https://[FEBF::1]:9443"}))
            .fails(json!({"url": "https://[::ffff:169.254.169.254]"})),
    ]
}

fn connection_rest() -> Vec<Case> {
    let from = "spec.allowedNamespaces";
    let selector = "spec.allowedNamespaces.selector";
    let sync = "spec.syncInterval";
    let sync_range = "write a duration from 10s to 24h such as 60s or 5m, or 0s for none";
    let timeout = "spec.timeout";
    let timeout_range = "write a duration from 1s to 15s such as 10s";
    vec![
        case(
            "spec.caBundle",
            "spec.caBundle.configMapKeyRef",
            REQUIRED,
            "set exactly one of configMapKeyRef and secretKeyRef",
        )
        .of("connection")
        .passes(json!({"caBundle": null}))
        .passes(json!({"caBundle": {"configMapKeyRef": null, "secretKeyRef": secret()}}))
        .fails(json!({"caBundle": {"configMapKeyRef": null}})),
        case(
            "spec.caBundle",
            "spec.caBundle.secretKeyRef",
            FORBIDDEN,
            "set exactly one of configMapKeyRef and secretKeyRef: remove one of them",
        )
        .of("connection")
        .passes(json!({}))
        .fails(json!({"caBundle": {"secretKeyRef": secret()}})),
        case(from, selector, REQUIRED, "set selector: from Selector needs it")
            .of("connection")
            // Empty: every namespace.
            .passes(json!({"allowedNamespaces": {"selector": {"matchLabels": null, "matchExpressions": null}}}))
            .fails(json!({"allowedNamespaces": {"selector": null}})),
        case(
            from,
            selector,
            FORBIDDEN,
            "remove selector, or set from to Selector: it is used with no other",
        )
        .of("connection")
        .passes(json!({"allowedNamespaces": {"from": "All", "selector": null}}))
        .fails(json!({"allowedNamespaces": {"from": "All"}}))
        // `Same` is the default.
        .fails(json!({"allowedNamespaces": {"from": null}})),
        case(
            "spec.allowedNamespaces.selector.matchLabels",
            "spec.allowedNamespaces.selector.matchLabels",
            INVALID,
            "write labels whose keys have at most 317 characters",
        )
        .of("connection")
        .passes(json!({"allowedNamespaces": {"selector": {"matchLabels": {"k".repeat(317): "v"}}}}))
        .fails(json!({"allowedNamespaces": {"selector": {"matchLabels": {"k".repeat(318): "v"}}}})),
        case(
            "spec.allowedNamespaces.selector.matchExpressions[]",
            "spec.allowedNamespaces.selector.matchExpressions[0].values",
            INVALID,
            "set values exactly when operator is In or NotIn",
        )
        .of("connection")
        .passes(expression(
            &json!({"key": "team", "operator": "In", "values": ["login", ""]}),
        ))
        .passes(expression(&json!({"key": "team", "operator": "DoesNotExist"})))
        .passes(expression(&json!({"key": "team", "operator": "Exists", "values": []})))
        .fails(expression(&json!({"key": "team", "operator": "In"})))
        .fails(expression(&json!({"key": "team", "operator": "NotIn", "values": []})))
        .fails(expression(
            &json!({"key": "team", "operator": "Exists", "values": ["login"]}),
        )),
        case(
            "spec.allowedNamespaces.selector.matchExpressions[].key",
            "spec.allowedNamespaces.selector.matchExpressions[0].key",
            INVALID,
            "write the key of a label, such as kubernetes.io/metadata.name",
        )
        .of("connection")
        .passes(expression(
            &json!({"key": "a.example/Team_1.x-y", "operator": "Exists"}),
        ))
        .fails(expression(&json!({"key": "a b", "operator": "Exists"})))
        .fails(expression(&json!({"key": "/team", "operator": "Exists"}))),
        case(sync, sync, INVALID, sync_range)
            .of("connection")
            .passes(json!({"syncInterval": "10s"}))
            .passes(json!({"syncInterval": "24h"}))
            .passes(json!({"syncInterval": "1h30m"}))
            .passes(json!({"syncInterval": "0s"}))
            .fails(json!({"syncInterval": "9s"}))
            .fails(json!({"syncInterval": "24h1s"}))
            .fails(json!({"syncInterval": "1d"}))
            .fails(json!({"syncInterval": "-60s"}))
            .fails(json!({"syncInterval": "60"}))
            .fails(json!({"syncInterval": "60 s"})),
        case(timeout, timeout, INVALID, timeout_range)
            .of("connection")
            .passes(json!({"timeout": "1s"}))
            .passes(json!({"timeout": "1500ms"}))
            .passes(json!({"timeout": "15s"}))
            .fails(json!({"timeout": "0s"}))
            .fails(json!({"timeout": "999ms"}))
            .fails(json!({"timeout": "16s"}))
            .fails(json!({"timeout": "ten seconds"})),
    ]
}

fn expression(expression: &Value) -> Value {
    json!({"allowedNamespaces": {"selector": {"matchExpressions": [expression]}}})
}

fn cases() -> Vec<Case> {
    [
        connection_ref(),
        provider(),
        references(),
        deletion_policy(),
        twilio(),
        gateway_url(),
        gateway_credentials(),
        connection_url(),
        connection_rest(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn every_rule_has_a_case() {
    let mut covered = BTreeSet::new();
    for case in cases() {
        assert!(
            !case.passes.is_empty() && !case.fails.is_empty(),
            "{}: {} is half a case",
            case.at,
            case.message
        );
        covered.insert((sample(case.sample).kind, case.at.to_owned(), case.message.to_owned()));
    }
    let rules: BTreeSet<_> = Kind::ALL
        .into_iter()
        .flat_map(|kind| {
            all_rules(kind)
                .into_iter()
                .map(move |rule| (kind, rule.at.to_string(), rule.message))
        })
        .collect();
    let shared = |message: &str| SHARED.iter().any(|shared| shared.message == message);
    let missing: Vec<_> = rules
        .iter()
        .filter(|rule| !shared(&rule.2) && !covered.contains(*rule))
        .collect();
    assert!(missing.is_empty(), "no case for {missing:#?}");
    let gone: Vec<_> = covered.difference(&rules).collect();
    assert!(gone.is_empty(), "cases for rules that do not exist: {gone:#?}");
    for Shared { message, .. } in SHARED {
        assert!(
            rules.iter().any(|rule| rule.2 == message),
            "no field has the rule: {message}"
        );
    }
}

#[test]
fn a_message_names_one_rule_of_a_field() {
    for kind in Kind::ALL {
        let mut seen = BTreeSet::new();
        for rule in all_rules(kind) {
            assert!(
                seen.insert((rule.at.to_string(), rule.message.clone())),
                "{kind:?} {}: {}",
                rule.at,
                rule.message
            );
        }
    }
}

fn all_rules(kind: Kind) -> Vec<Rule> {
    kind.nodes().iter().flat_map(crate::schema::Node::rules).collect()
}

#[tokio::test]
async fn every_sample_is_accepted() {
    let server = Server::new().await;
    for Sample { kind, name, resource } in samples::all() {
        server
            .try_create(kind, &resource)
            .await
            .unwrap_or_else(|causes| panic!("{name}: {causes:#?}"));
    }
}

#[tokio::test]
async fn every_case_comes_out_as_it_says() {
    let server = Server::new().await;
    for (number, case) in cases().into_iter().enumerate() {
        let sample = sample(case.sample);
        let rule = format!("{:?} {}: {}", sample.kind, case.at, case.message);
        let resource = |spec: &Value| {
            let mut resource = sample.with(spec);
            resource["metadata"]["name"] = json!(format!("case-{number}"));
            resource
        };
        let before = case.before.as_ref().map(resource);
        if let Some(before) = &before {
            server
                .create(sample.kind, before)
                .await
                .unwrap_or_else(|causes| panic!("{rule}: before: {causes:#?}"));
        }
        let ask = async |spec: &Value| {
            if before.is_some() {
                server.try_replace(sample.kind, &resource(spec)).await
            } else {
                server.try_create(sample.kind, &resource(spec)).await
            }
        };
        for spec in &case.passes {
            let answer = ask(spec).await;
            assert!(answer.is_ok(), "{rule}\n{spec} has to pass: {answer:#?}");
        }
        for spec in &case.fails {
            let causes = ask(spec)
                .await
                .err()
                .unwrap_or_else(|| panic!("{rule}\n{spec} has to fail"));
            assert!(
                causes
                    .iter()
                    .any(|cause| says(cause, case.field, case.reason, case.message)),
                "{rule}\n{spec} fails otherwise: {causes:#?}"
            );
            // One mistake, one message: what else is said is about the same field.
            assert!(
                causes.iter().all(|cause| cause.field == case.field),
                "{rule}\n{spec}: {causes:#?}"
            );
        }
    }
}

#[tokio::test]
async fn shared_rules_hold_at_every_field_that_has_them() {
    let server = Server::new().await;
    let mut tried = 0;
    for kind in Kind::ALL {
        for rule in all_rules(kind) {
            let Some(shared) = SHARED.iter().find(|shared| shared.message == rule.message) else {
                continue;
            };
            let sample = samples::all()
                .into_iter()
                .find(|sample| sample.kind == kind && rule.at.find(&sample.resource).is_some())
                .unwrap_or_else(|| panic!("no sample of {kind:?} has {}", rule.at));
            let mut resource = sample.resource;
            let field = rule.at.in_errors(&resource);
            let value = rule.at.find_mut(&mut resource).unwrap();
            *value = json!((shared.spoil)(value.as_str().unwrap()));
            let causes = server
                .try_create(kind, &resource)
                .await
                .err()
                .unwrap_or_else(|| panic!("{field} takes {:?}", rule.at.find(&resource)));
            assert!(
                causes
                    .iter()
                    .any(|cause| says(cause, &field, &rule.reason, &rule.message)),
                "{field}: {} is not said: {causes:#?}",
                rule.message
            );
            tried += 1;
        }
    }
    assert!(tried > 30, "only {tried} fields were tried");
}

#[tokio::test]
async fn connection_ref_may_be_written_in_another_way() {
    let server = Server::new().await;
    let bare = sample("twilio-secret").with(&json!({"connectionRef": {"name": "authentik"}}));
    server.create(Kind::Stage, &bare).await.unwrap();
    // `null` is the same as absent, and a change of it is none.
    let mut spelled_out = bare.clone();
    spelled_out["spec"]["connectionRef"]["namespace"] = Value::Null;
    server.try_replace(Kind::Stage, &spelled_out).await.unwrap();
}

/// Whether a cause is the one that a rule of that message gives.
fn says(cause: &Cause, field: &str, reason: &str, message: &str) -> bool {
    let text = match reason {
        FORBIDDEN => cause.message == format!("Forbidden: {message}"),
        REQUIRED => cause.message == format!("Required value: {message}"),
        // With the value in between from 1.37 on, with its type before.
        INVALID => cause.message.starts_with("Invalid value: ") && cause.message.ends_with(&format!(": {message}")),
        other => panic!("unexpected reason {other}"),
    };
    text && cause.is_at(field) && cause.reason == reason
}
