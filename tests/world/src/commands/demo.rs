//! `world demo`: the operator at work, from nothing to a deleted stage. Fails when a step does not come out as it says.

#![allow(clippy::print_stdout)] // its result

use std::time::Instant;

use world::scene::{NAMESPACE, Scene, repository};
use world::{Error, terminal};

const OLD: &str = "0123456789abcdef0123456789abcdef";
const NEW: &str = "fedcba9876543210fedcba9876543210";
const NUMBER: &str = "+15550100";

/// Plays the demo.
pub(crate) async fn run() -> Result<(), Error> {
    let began = Instant::now();
    let scene = Scene::start(|what| println!("{} {what}", terminal::faint("…"))).await?;
    let result = play(&scene).await;
    if result.is_err() {
        println!("\nThe operator's log:\n{}", scene.operator.output());
    }
    result?;
    println!(
        "\n{} in {:.0} s",
        terminal::strong("All came out as told"),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn play(scene: &Scene) -> Result<(), Error> {
    step("Apply a Secret, a connection and examples/twilio.yaml: the stage appears in authentik");
    scene.connect().await;
    scene
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "twilio",
            &format!("--from-literal=auth-token={OLD}"),
        ])
        .await;
    let example = repository().join("examples/twilio.yaml");
    scene
        .kubectl(&["apply", "--server-side", "-f", &example.to_string_lossy()])
        .await;
    scene
        .kubectl(&[
            "wait",
            "--for=condition=Ready",
            "--timeout=60s",
            "akconn/authentik",
            "aksms/sms",
        ])
        .await;
    table(scene).await;
    let stage = scene
        .sim
        .stage_named("sms")
        .ok_or_else(|| Error::new("authentik has no stage sms"))?;
    println!(
        "authentik holds: name={} friendly_name={} from_number={} provider={} account_sid={}",
        stage.name,
        stage.friendly_name.unwrap_or_default(),
        stage.from_number,
        stage.provider,
        stage.account_sid
    );
    expect(stage.auth == OLD, "the stage has the token of the Secret")?;
    expect(stage.from_number == NUMBER, "the stage has the number of the spec")?;

    step("Rotate the token in the Secret: authentik has it at once");
    let patch = format!("{{\"stringData\":{{\"auth-token\":\"{NEW}\"}}}}");
    scene.kubectl(&["patch", "secret", "twilio", "--patch", &patch]).await;
    let took = scene
        .until(|state| state.stage_named("sms").is_some_and(|stage| stage.auth == NEW))
        .await?;
    println!("sent after {} ms", took.as_millis());
    table(scene).await;

    step("Somebody changes the number in authentik: it is put right (here every 10 s, by default every 60 s)");
    expect(
        scene
            .sim
            .edit(stage.pk, |stage| "+15550199".clone_into(&mut stage.from_number)),
        "the stage can be edited",
    )?;
    let took = scene
        .until(|state| {
            state
                .stage_named("sms")
                .is_some_and(|stage| stage.from_number == NUMBER)
        })
        .await?;
    println!("put right after {:.1} s", took.as_secs_f64());
    println!("{}", scene.kubectl(&["events", "--for", "aksms/sms"]).await.trim_end());
    table(scene).await;

    step("Edit the spec: only the difference is sent");
    let edit = r#"{"spec":{"friendlyName":"Code by SMS"}}"#;
    scene
        .kubectl(&["patch", "aksms", "sms", "--type=merge", "--patch", edit])
        .await;
    scene
        .until(|state| {
            state
                .stage_named("sms")
                .is_some_and(|s| s.friendly_name.as_deref() == Some("Code by SMS"))
        })
        .await?;
    let calls = scene.sim.calls();
    let sent = calls
        .iter()
        .rev()
        .find(|call| call.method == "PATCH")
        .map(|call| call.body.clone());
    println!("PATCH {}", sent.map(|body| body.to_string()).unwrap_or_default());
    scene
        .kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "aksms/sms"])
        .await;
    table(scene).await;

    step("Delete the resource: the stage goes with it");
    scene.kubectl(&["delete", "aksms", "sms", "--timeout=60s"]).await;
    expect(
        scene.sim.stage_named("sms").is_none(),
        "authentik has no stage sms any more",
    )?;
    table(scene).await;
    println!("authentik has no stage sms any more");

    let posts = scene.sim.count("POST", "/stages/authenticator/sms/");
    expect(posts == 1, "there was one POST")
}

fn step(what: &str) {
    println!("\n{}", terminal::strong(&format!("▸ {what}")));
}

async fn table(scene: &Scene) {
    println!("{} kubectl get aksms -n {NAMESPACE}", terminal::faint("$"));
    let output = scene.plane.kubectl(&["--namespace", NAMESPACE, "get", "aksms"]).await;
    let text = String::from_utf8_lossy(if output.stdout.is_empty() {
        &output.stderr
    } else {
        &output.stdout
    });
    println!("{}", text.trim_end());
}

fn expect(truth: bool, what: &str) -> Result<(), Error> {
    if truth {
        Ok(())
    } else {
        Err(Error::new(format!("it is not so that {what}")))
    }
}
