//! Each fault as a plain HTTP client sees it, and what it leaves behind on the server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/world.rs"]
mod support;

use std::time::Duration;

use authentik_sim::{Answer, Call, Fault, What};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use support::{SOON, STAGES, World, stage};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

async fn world() -> World {
    World::of("2026.5.0").await
}

fn names(world: &World) -> Vec<String> {
    world.sim.stages().into_iter().map(|stage| stage.name).collect()
}

/// A POST that is under way: the server has it, and the client waits.
async fn waiting(world: &World, name: &str) -> JoinHandle<reqwest::Result<Response>> {
    let before = world.sim.calls().len();
    let client = tokio::spawn(world.call(Method::POST, STAGES).json(&stage(name)).send());
    world
        .sim
        .wait_for_calls(SOON, |calls| calls.len() > before)
        .await
        .unwrap();
    client
}

#[tokio::test]
async fn a_delay_has_its_effect_although_the_client_left() {
    let world = world().await;
    world.sim.inject(Fault::next(What::Delay(Duration::from_millis(500))));
    let client = waiting(&world, "late").await;
    assert!(names(&world).is_empty(), "the effect is still to come");
    client.abort();
    let calls = world
        .sim
        .wait_for_calls(SOON, |calls| calls[0].status.is_some())
        .await
        .unwrap();
    assert!(calls[0].effect);
    assert_eq!(names(&world), ["late"]);
}

#[tokio::test]
async fn a_hanging_call_has_no_effect_and_one_after_the_effect_has_it() {
    let world = world().await;
    world.sim.inject(Fault::next(What::Hang));
    let client = waiting(&world, "hung").await;
    assert_eq!(
        world.get(STAGES).await.1["pagination"]["count"],
        0,
        "others are served meanwhile"
    );
    world.sim.inject(Fault::next(What::HangAfterEffect));
    let other = waiting(&world, "held").await;
    world
        .sim
        .wait_for(SOON, |state| state.stage_named("held").map(|_| ()))
        .await
        .unwrap();
    assert_eq!(names(&world), ["held"]);
    assert!(!client.is_finished() && !other.is_finished(), "neither is answered");
    let posts: Vec<_> = world.sim.calls().into_iter().filter(Call::is_write).collect();
    assert!(posts.iter().all(|call| call.status.is_none()));
}

#[tokio::test]
async fn a_given_answer_has_no_effect() {
    let world = world().await;
    world
        .sim
        .inject(Fault::on("POST", "sms", What::Answer(Answer::throttled(7))));
    assert_eq!(world.get(STAGES).await.0, 200, "a GET is not met");
    let answer = world.create("throttled").await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert!(names(&world).is_empty());
    assert_eq!(world.create("throttled").await.status(), 201, "met once");

    world
        .sim
        .inject(Fault::next(What::Answer(Answer::html(502).retry_after("3"))));
    let answer = world.create("proxied").await;
    assert_eq!(
        (
            answer.status().as_u16(),
            answer.headers()["content-type"].to_str().unwrap()
        ),
        (502, "text/html")
    );
    assert!(
        !answer.headers().contains_key("x-powered-by"),
        "a proxy does not call itself authentik"
    );
}

#[tokio::test]
async fn a_crash_is_what_the_version_makes_of_it() {
    for (version, method, status) in [
        ("2026.5.0", Method::GET, 500),
        ("2026.5.0", Method::POST, 405),
        ("2026.8.0", Method::GET, 500),
        ("2026.8.0", Method::POST, 500),
    ] {
        let world = World::of(version).await;
        world.sim.inject(Fault::next(What::Crash));
        let answer = world.send(method.clone(), STAGES, &stage("crash")).await;
        assert_eq!(answer.status().as_u16(), status, "{version} {method}");
        assert!(
            answer.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );
        assert_eq!(
            answer.text().await.unwrap().is_empty(),
            status == 405,
            "the 405 has no body"
        );
        assert!(names(&world).is_empty());
    }
    let world = world().await;
    world
        .sim
        .inject(Fault::next(What::AnswerAfterEffect(Answer::html(504))));
    assert_eq!(world.create("proxied").await.status(), 504);
    world.sim.inject(Fault::next(What::CrashAfterEffect));
    assert_eq!(world.create("crashed").await.status(), 405);
    assert_eq!(names(&world), ["proxied", "crashed"]);
}

#[tokio::test]
async fn a_reset_is_a_reset_on_the_wire() {
    let world = world().await;
    for (what, effect) in [(What::ResetBeforeEffect, false), (What::ResetAfterEffect, true)] {
        world.sim.reset_calls();
        world.sim.inject(Fault::next(what));
        let mut socket = TcpStream::connect(("127.0.0.1", world.sim.port())).await.unwrap();
        socket.write_all(post(&world, "reset").as_bytes()).await.unwrap();
        let error = socket.read(&mut [0; 64]).await.expect_err("not a clean end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let calls = world.sim.calls();
        assert_eq!((calls.len(), calls[0].effect, calls[0].status), (1, effect, None));
    }
    assert_eq!(names(&world), ["reset"]);
}

#[tokio::test]
async fn a_later_commit_takes_place_after_the_reset() {
    let world = world().await;
    world
        .sim
        .inject(Fault::next(What::CommitLater(Duration::from_millis(500))));
    assert!(
        world
            .call(Method::POST, STAGES)
            .json(&stage("later"))
            .send()
            .await
            .is_err()
    );
    assert!(names(&world).is_empty());
    world
        .sim
        .wait_for(SOON, |state| state.stage_named("later").map(|_| ()))
        .await
        .unwrap();
    assert!(world.sim.calls()[0].effect);
}

#[tokio::test]
async fn a_cut_body_ends_before_its_length() {
    let world = world().await;
    world.sim.inject(Fault::next(What::CutBody));
    let answer = world.create("cut").await;
    assert_eq!(answer.status(), 201, "the head arrives");
    assert!(answer.bytes().await.is_err());
    assert_eq!(names(&world), ["cut"]);
}

#[tokio::test]
async fn a_slow_body_comes_at_its_rate() {
    let world = world().await;
    world.create("slow").await;
    world.sim.inject(Fault::next(What::SlowBody(2_000)));
    let begun = std::time::Instant::now();
    let (status, body) = world.get(STAGES).await;
    assert_eq!((status, body["pagination"]["count"].as_u64()), (200, Some(1)));
    assert!(
        begun.elapsed() >= Duration::from_millis(200),
        "some 550 bytes at 2000 a second"
    );
}

#[tokio::test]
async fn a_huge_body_is_as_large_as_asked_for() {
    let world = world().await;
    world.sim.inject(Fault::next(What::HugeBody(3_000_000)));
    let body = world.get(STAGES).await.1;
    assert_eq!(body["filling"].as_str().map(str::len), Some(3_000_000));
}

#[tokio::test]
async fn endless_pages_always_promise_one_more() {
    let world = world().await;
    world.create("one").await;
    world.sim.inject(Fault::on("GET", "sms", What::EndlessPages).always());
    for page in [1_u64, 2, 1000] {
        let (status, body) = world.get(&format!("{STAGES}?page={page}")).await;
        assert_eq!((status, body["pagination"]["next"].as_u64()), (200, Some(page + 1)));
        assert_eq!(body["results"][0]["name"], "one");
    }
    world.sim.clear_faults();
    assert_eq!(world.get(&format!("{STAGES}?page=2")).await.0, 404);
}

#[tokio::test]
async fn bodies_that_are_not_what_they_say() {
    let world = world().await;
    world.sim.inject(Fault::next(What::DeepJson(100_000)));
    let text = world
        .send(Method::GET, STAGES, &Value::Null)
        .await
        .text()
        .await
        .unwrap();
    assert_eq!(text.len(), 200_000);
    assert!(
        serde_json::from_str::<Value>(&text).is_err(),
        "deeper than a careful reader goes"
    );

    world.sim.inject(Fault::next(What::NotJson));
    let answer = world.send(Method::GET, STAGES, &Value::Null).await;
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(answer.json::<Value>().await.is_err());

    world.sim.inject(Fault::next(What::WrongContentType));
    let answer = world.send(Method::GET, STAGES, &Value::Null).await;
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    assert!(answer.json::<Value>().await.is_ok());
}

#[tokio::test]
async fn a_connection_can_close_unannounced_after_an_answer() {
    let world = world().await;
    world.sim.inject(Fault::next(What::CloseAfterAnswer));
    let mut socket = TcpStream::connect(("127.0.0.1", world.sim.port())).await.unwrap();
    socket.write_all(post(&world, "closing").as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, socket.read_to_string(&mut answer))
        .await
        .expect("the connection closes")
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(
        !answer.to_lowercase().contains("connection: close"),
        "it does not say so: {answer}"
    );
}

#[tokio::test]
async fn a_stale_connection_fails_the_next_request_unread() {
    let world = world().await;
    world.sim.inject(Fault::next(What::StaleConnection));
    let mut socket = TcpStream::connect(("127.0.0.1", world.sim.port())).await.unwrap();
    socket.write_all(post(&world, "first").as_bytes()).await.unwrap();
    let mut answer = [0; 2048];
    let read = socket.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 201"));
    socket.write_all(post(&world, "second").as_bytes()).await.unwrap();
    let error = loop {
        match socket.read(&mut answer).await {
            Ok(0) => panic!("a clean end"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(names(&world), ["first"]);
    assert_eq!(world.sim.calls().len(), 1, "what was not read is no call");
    assert_eq!(world.create("third").await.status(), 201, "a fresh connection works");
}

#[tokio::test]
async fn faults_meet_the_calls_they_are_laid_for() {
    let world = world().await;
    let broken = || What::Answer(Answer::json(503, "broken"));
    world.sim.inject(Fault::at(1, broken()));
    world
        .sim
        .inject(Fault::on("GET", "version", broken()).after(1).times(2));
    let mut statuses = Vec::new();
    for path in [
        STAGES,
        STAGES,
        "/admin/version/",
        "/admin/version/",
        "/admin/version/",
        "/admin/version/",
    ] {
        statuses.push(world.get(path).await.0);
    }
    assert_eq!(statuses, [200, 503, 200, 503, 503, 200]);
    world.sim.reset_calls();
    world.sim.inject(Fault::at(0, broken()));
    assert_eq!(world.get(STAGES).await.0, 503, "numbers begin again after a reset");
    world.sim.inject(Fault::every(broken()));
    assert_eq!((world.get(STAGES).await.0, world.get(STAGES).await.0), (503, 503));
}

#[tokio::test]
async fn a_stopped_server_refuses_and_comes_back_on_its_port() {
    let world = world().await;
    world.create("kept").await;
    world.sim.stop().await;
    let client = Client::new();
    let error = client.get(world.sim.url()).send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    world.sim.restart().await;
    assert_eq!(world.get(STAGES).await.1["results"][0]["name"], json!("kept"));
}

fn post(world: &World, name: &str) -> String {
    let body = stage(name).to_string();
    format!(
        "POST /api/v3{STAGES} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        world.token,
        body.len(),
    )
}
