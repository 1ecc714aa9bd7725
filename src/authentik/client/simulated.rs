//! The calls against the simulator: one life of a stage in every version, and every fault.

use std::time::Duration;

use authentik_sim::{Config, Fault, Sim, Stage, What};
use secrecy::ExposeSecret;

use super::*;
use crate::authentik::listing::list_all;

const VERSIONS: [&str; 5] = ["2023.10.2", "2025.8.1", "2025.10.0", "2026.5.0", "2026.8.2"];

fn config(sim: &Sim) -> ClientConfig {
    ClientConfig {
        endpoint: Endpoint::try_from(sim.url().as_str()).unwrap(),
        token: sim.admin_token().into(),
        ca_bundle: None,
        timeout: Duration::from_secs(2),
        max_concurrent: 4,
        observer: Arc::new(()),
    }
}

fn client(sim: &Sim) -> Client {
    Client::new(config(sim)).unwrap()
}

fn tag(nonce: &str) -> WriteTag {
    WriteTag {
        cluster: "c".into(),
        resource_uid: "u".into(),
        nonce: nonce.into(),
    }
}

fn new_stage() -> StageChanges {
    StageChanges {
        name: Some("sms".into()),
        friendly_name: Some("Text message".into()),
        from_number: Some("+15550100".into()),
        provider: Some("twilio".into()),
        account_sid: Some("AC00000000000000000000000000000000".into()),
        auth: Some("first".into()),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_stage_lives_in_every_version() {
    for version in VERSIONS {
        let sim = Sim::start(Config {
            signed_backgrounds: true,
            ..Config::new(version)
        })
        .await;
        let client = client(&sim);
        let features = Features::of(Some(&client.version().await.unwrap()));
        assert!(client.me().await.unwrap().is_superuser, "{version}");
        assert!(client.may_add().await.unwrap(), "{version}");

        let (flow, mapping) = sim.with(|state| {
            (
                state.add_flow("setup", "stage_configuration"),
                state.add_mapping("words"),
            )
        });
        assert_eq!(
            client.flow_by_slug("setup").await.unwrap().unwrap().pk,
            flow,
            "{version}"
        );
        assert_eq!(
            client.flow_by_uuid(flow).await.unwrap().unwrap().slug,
            "setup",
            "{version}"
        );
        assert!(client.flow_by_slug("Setup").await.unwrap().is_none(), "{version}");
        assert_eq!(
            client.mapping_by_name("words").await.unwrap().unwrap().pk,
            mapping,
            "{version}"
        );
        assert_eq!(
            client.mapping_by_uuid(mapping).await.unwrap().unwrap().name,
            "words",
            "{version}"
        );
        assert!(client.mapping_by_uuid(flow).await.unwrap().is_none(), "{version}");

        let created = client.create_stage(&new_stage(), &features, &tag("one")).await.unwrap();
        let pk = created.pk;
        assert!(client.may_change(pk).await.unwrap(), "{version}");
        assert_eq!(client.stage_by_name("sms").await.unwrap().unwrap().pk, pk, "{version}");
        assert_eq!(client.any_stages_by_name("sms").await.unwrap()[0].pk, pk, "{version}");
        assert_eq!(
            created.auth.is_none(),
            version == "2026.8.2",
            "{version}: who tells credentials"
        );
        let events = client.newest_stage_events("model_created", Some(pk), 1).await.unwrap();
        if version != "2023.10.2" {
            assert_eq!(events[0].user_agent, tag("one").user_agent(), "{version}");
        }

        let changes = StageChanges {
            friendly_name: Some(String::new()),
            configure_flow: Some(Some(flow)),
            mapping: Some(Some(mapping)),
            auth: Some("second".into()),
            ..Default::default()
        };
        let updated = client.update_stage(pk, &changes, &features, &tag("two")).await.unwrap();
        assert_eq!(
            (updated.configure_flow, updated.mapping),
            (Some(flow), Some(mapping)),
            "{version}"
        );
        assert_eq!(updated.friendly_name, "", "{version}");
        let stored = sim.stage_named("sms").unwrap();
        assert_eq!(
            (stored.auth.as_str(), stored.friendly_name.unwrap_or_default().as_str()),
            ("second", "")
        );
        assert_eq!(
            sim.count("PATCH", ""),
            1,
            "{version}: the first form of clearing was the right one"
        );
    }
}

#[tokio::test]
async fn what_depends_on_a_stage_is_seen_in_every_version() {
    for version in VERSIONS {
        let sim = Sim::start(Config {
            signed_backgrounds: true,
            ..Config::new(version)
        })
        .await;
        let client = client(&sim);
        let features = Features::of(Some(&client.version().await.unwrap()));
        let pk = sim.with(|state| {
            let flow = state.add_flow("setup", "stage_configuration");
            let pk = state.add_stage(Stage::twilio("sms"));
            state.add_binding(flow, pk, 0);
            state.add_validate_stage("login", &[pk], &["sms"]);
            state.enrol(pk, "+15550000");
            pk
        });
        let (one, other) = (client.stage(pk).await.unwrap(), client.stage(pk).await.unwrap());
        assert_eq!(one.flow_set.len(), 1, "{version}");
        assert_eq!(one.flow_set, other.flow_set, "{version}: a signature is no change");
        assert_eq!(client.bindings_of(pk).await.unwrap().len(), 1, "{version}");
        assert_eq!(
            client.validate_stages_with(pk).await.unwrap()[0].name,
            "login",
            "{version}"
        );
        let validate_stages = client.validate_stages().await.unwrap();
        assert!(
            validate_stages.iter().any(|validate| validate.name == "login"),
            "{version}"
        );
        assert_eq!(client.device_count().await.unwrap(), 1, "{version}");
        let used_by = client.used_by(pk).await.unwrap();
        let device = used_by.iter().find(|user| user.model_name == "smsdevice").unwrap();
        assert_eq!(device.action, "cascade", "{version}");

        if !features.deletes_devices_with_stage {
            let error = client.delete_stage(pk, &tag("three")).await.unwrap_err();
            assert!(
                matches!(error, Error::Server { status: 500, .. }),
                "{version}: {error:?}"
            );
            client.delete_device(&device.pk, &tag("three")).await.unwrap();
        }
        client.delete_stage(pk, &tag("four")).await.unwrap();
        assert!(sim.stages().is_empty() && sim.devices().is_empty(), "{version}");
        let gone = client.stage(pk).await.unwrap_err();
        assert!(matches!(gone, Error::NotFound { .. }), "{version}: {gone:?}");
        assert!(client.bindings_of(pk).await.unwrap().is_empty(), "{version}");
        assert!(client.validate_stages_with(pk).await.unwrap().is_empty(), "{version}");
    }
}

#[tokio::test]
async fn a_sub_path_is_part_of_every_url() {
    let sim = Sim::start(Config {
        base_path: "/authentik/".into(),
        ..Config::new("2026.5.0")
    })
    .await;
    client(&sim).version().await.unwrap();
    let origin = format!("http://127.0.0.1:{}", sim.port());
    let elsewhere = ClientConfig {
        endpoint: Endpoint::try_from(origin.as_str()).unwrap(),
        ..config(&sim)
    };
    let error = Client::new(elsewhere).unwrap().version().await.unwrap_err();
    assert!(matches!(error, Error::NotAuthentik { .. }), "{error:?}");
}

#[tokio::test]
async fn a_list_costs_one_read_a_page() {
    let sim = Sim::start(Config::new("2026.5.0")).await;
    sim.with(|state| {
        for number in 0..250 {
            state.add_stage(Stage::twilio(&format!("s{number}")));
        }
    });
    let mut names = std::collections::HashSet::new();
    let listing = list_all(&client(&sim), 100, |row| {
        assert_eq!(row.auth.unwrap().expose_secret(), "token");
        names.insert(row.name);
    })
    .await
    .unwrap();
    assert_eq!(
        (listing.count, listing.pages, listing.skipped, names.len()),
        (250, 3, 0, 250)
    );
    assert_eq!(sim.count("GET", ""), 3);
}

#[tokio::test]
async fn replicas_of_two_versions_both_clear_the_friendly_name() {
    let sim = Sim::start(Config::new("2025.8.1")).await;
    let client = client(&sim);
    let features = Features::of(None);
    let pk = client
        .create_stage(&new_stage(), &features, &tag("n"))
        .await
        .unwrap()
        .pk;
    for version in ["2025.8.1", "2026.5.0"] {
        sim.set_version(version);
        let set = StageChanges {
            friendly_name: Some("x".into()),
            ..Default::default()
        };
        client.update_stage(pk, &set, &features, &tag("n")).await.unwrap();
        let clear = StageChanges {
            friendly_name: Some(String::new()),
            ..Default::default()
        };
        assert_eq!(
            client
                .update_stage(pk, &clear, &features, &tag("n"))
                .await
                .unwrap()
                .friendly_name,
            "",
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_stale_connection_is_seen_by_no_call() {
    let sim = Sim::start(Config::new("2026.5.0")).await;
    let (client, features) = (client(&sim), Features::of(None));
    let stale = || sim.inject(Fault::next(What::StaleConnection));
    let mut pk = None;
    for round in 0..3 {
        stale();
        client.version().await.unwrap();
        let changes = StageChanges {
            name: Some(format!("s{round}")),
            ..new_stage()
        };
        let created = client.create_stage(&changes, &features, &tag("n")).await.unwrap();
        stale();
        client.version().await.unwrap();
        client
            .update_stage(created.pk, &new_stage().without("name"), &features, &tag("n"))
            .await
            .unwrap();
        pk = Some(created.pk);
    }
    stale();
    client.version().await.unwrap();
    client.delete_stage(pk.unwrap(), &tag("n")).await.unwrap();
    assert_eq!(sim.stages().len(), 2);
}

#[tokio::test]
async fn every_fault_is_an_outcome() {
    let sim = Sim::start(Config::new("2026.5.0")).await;
    let client = Client::new(ClientConfig {
        timeout: Duration::from_millis(300),
        ..config(&sim)
    })
    .unwrap();
    let pk = client
        .create_stage(&new_stage(), &Features::of(None), &tag("n"))
        .await
        .unwrap()
        .pk;
    let no_answer: fn(&Error) -> bool = |error| matches!(error, Error::NoAnswer { .. });
    let unusable: fn(&Error) -> bool = |error| matches!(error, Error::InvalidResponse { .. });
    let failed: fn(&Error) -> bool = |error| matches!(error, Error::Server { .. });
    for (what, is_told) in [
        (What::Delay(Duration::from_millis(600)), no_answer),
        (What::Hang, no_answer),
        (What::HangAfterEffect, no_answer),
        (What::ResetBeforeEffect, no_answer),
        (What::SlowBody(10), no_answer),
        (What::Crash, failed),
        (What::CutBody, unusable),
        (What::HugeBody(5 << 20), unusable),
        (What::DeepJson(100_000), unusable),
        (What::WrongContentType, unusable),
        (What::NotJson, unusable),
    ] {
        sim.inject(Fault::every(what.clone()));
        let error = client.stage(pk).await.unwrap_err();
        sim.clear_faults();
        assert!(is_told(&error), "{what:?}: {error:?}");
    }
    client.stage(pk).await.unwrap();
}

#[tokio::test]
async fn a_list_without_an_end_ends() {
    let sim = Sim::start(Config::new("2026.5.0")).await;
    sim.with(|state| state.add_stage(Stage::twilio("sms")));
    sim.inject(Fault::every(What::EndlessPages));
    let client = client(&sim);
    let listed = list_all(&client, 100, |_| ()).await.unwrap_err();
    let searched = client.stage_by_name("none").await.unwrap_err();
    for error in [listed, searched] {
        assert!(matches!(error, Error::InvalidResponse { .. }), "{error:?}");
    }
    assert!(sim.count("GET", "") < 50, "{}", sim.count("GET", ""));
}

#[tokio::test]
async fn a_server_that_starts_is_told_from_one_that_fails() {
    for version in VERSIONS {
        let sim = Sim::start(Config::new(version)).await;
        sim.set_starting(true);
        let error = client(&sim).version().await.unwrap_err();
        assert!(matches!(error, Error::Starting { .. }), "{version}: {error:?}");
    }
}

#[tokio::test]
async fn an_expired_licence_refuses_writes_only() {
    let sim = Sim::start(Config::new("2026.5.0")).await;
    sim.set_read_only(true);
    let error = client(&sim)
        .create_stage(&new_stage(), &Features::of(None), &tag("n"))
        .await
        .unwrap_err();
    assert_eq!(error, Error::ReadOnly);
    client(&sim).version().await.unwrap();
}

#[tokio::test]
async fn what_a_token_may_not_is_forbidden_and_a_bad_token_unauthorized() {
    let sim = Sim::start(Config::new("2026.5.0")).await;
    let token = sim.add_token("nobody", &[], false);
    let of = |token: &str| {
        Client::new(ClientConfig {
            token: token.into(),
            ..config(&sim)
        })
        .unwrap()
    };
    let nobody = of(&token);
    nobody.version().await.unwrap();
    assert!(!nobody.may_add().await.unwrap());
    let error = nobody.page_of_stages(1, 100).await.unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");
    assert!(matches!(
        nobody.device_count().await.unwrap_err(),
        Error::Forbidden { .. }
    ));
    assert_eq!(of("wrong").version().await.unwrap_err(), Error::Unauthorized);
}
