//! A plain client for the tests of the simulator itself.

use std::time::Duration;

use authentik_sim::{Config, Sim};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

/// Longest wait for anything that is to happen at once.
pub const SOON: Duration = Duration::from_secs(20);

pub const STAGES: &str = "/stages/authenticator/sms/";

/// A server and a client with the superuser's token.
pub struct World {
    pub sim: Sim,
    pub client: Client,
    pub token: String,
}

impl World {
    pub async fn of(version: &str) -> Self {
        Self::with(Config::new(version)).await
    }

    pub async fn with(config: Config) -> Self {
        let sim = Sim::start(config).await;
        let token = sim.admin_token().to_owned();
        Self {
            sim,
            client: Client::new(),
            token,
        }
    }

    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}/api/v3{path}", self.sim.url()))
            .bearer_auth(&self.token)
            .header("accept", "application/json")
    }

    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Response {
        let request = self.call(method, path);
        let request = if body.is_null() { request } else { request.json(body) };
        request.send().await.expect("an answer")
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.send(Method::GET, path, &Value::Null).await;
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    pub async fn create(&self, name: &str) -> Response {
        self.send(Method::POST, STAGES, &stage(name)).await
    }
}

/// The body of a Twilio stage.
pub fn stage(name: &str) -> Value {
    json!({
        "name": name,
        "provider": "twilio",
        "from_number": "+15550100",
        "account_sid": "AC00000000000000000000000000000000",
        "auth": "token",
    })
}
