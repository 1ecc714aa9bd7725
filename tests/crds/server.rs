//! The API server that the definitions are tried on.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Config};
use serde_json::Value;
use tokio::sync::OnceCell;
use world::{ControlPlane, Options, Version};

use crate::schema::Kind;

/// The control plane of this test binary, with both definitions as they are committed.
pub async fn world() -> &'static ControlPlane {
    static WORLD: OnceCell<ControlPlane> = OnceCell::const_new();
    WORLD
        .get_or_init(async || {
            let options = Options {
                version: version(),
                ..Options::default()
            };
            let world = ControlPlane::start(options)
                .await
                .unwrap_or_else(|error| panic!("{error}"));
            world
                .install_crds(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crds"))
                .await;
            world
        })
        .await
}

/// Which API server the run is for.
pub fn version() -> Version {
    match std::env::var("CRD_API_SERVER").as_deref() {
        Err(_) | Ok("newest") => Version::Newest,
        Ok("oldest") => Version::Oldest,
        Ok(other) => panic!("CRD_API_SERVER is {other}: write newest or oldest"),
    }
}

/// A namespace of its own on that server.
pub struct Server {
    client: Client,
    pub namespace: String,
}

/// What the API server has against an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    pub field: String,
    pub reason: String,
    pub message: String,
}

impl Cause {
    /// Whether it is about that field. Entries of maps are `map[key]` in some errors and `map.key` in others.
    pub fn is_at(&self, field: &str) -> bool {
        let plain = |path: &str| path.replace('[', ".").replace(']', "");
        plain(&self.field) == plain(field)
    }
}

impl Server {
    /// A new client in a new namespace. Clients belong to the runtime of one test and cannot be shared.
    pub async fn new() -> Self {
        let world = world().await;
        let kubeconfig = Kubeconfig::read_from(world.kubeconfig_path()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Self {
            client: Client::try_from(config).unwrap(),
            namespace: world.create_namespace().await,
        }
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("stages.authentik-operator.dev", "v1alpha1", kind.name());
        let plural = format!("{}s", kind.name().to_lowercase());
        Api::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &ApiResource::from_gvk_with_plural(&gvk, &plural),
        )
    }

    /// Creates a resource.
    pub async fn create(&self, kind: Kind, resource: &Value) -> Result<Value, Vec<Cause>> {
        self.post(kind, resource, false).await
    }

    /// Asks whether a resource could be created, and what it would become.
    pub async fn try_create(&self, kind: Kind, resource: &Value) -> Result<Value, Vec<Cause>> {
        self.post(kind, resource, true).await
    }

    async fn post(&self, kind: Kind, resource: &Value, dry_run: bool) -> Result<Value, Vec<Cause>> {
        let parameters = PostParams {
            dry_run,
            ..PostParams::default()
        };
        answer(self.api(kind).create(&parameters, &object(resource)).await)
    }

    /// Asks whether a resource could be applied, server-side as Helm 4 does.
    pub async fn try_apply(&self, kind: Kind, resource: &Value) -> Result<Value, Vec<Cause>> {
        let parameters = PatchParams {
            dry_run: true,
            ..PatchParams::apply("test").force()
        };
        let name = resource["metadata"]["name"].as_str().unwrap();
        answer(self.api(kind).patch(name, &parameters, &Patch::Apply(resource)).await)
    }

    /// Asks whether a resource that exists could become `resource`, whatever version it has.
    pub async fn try_replace(&self, kind: Kind, resource: &Value) -> Result<Value, Vec<Cause>> {
        let api = self.api(kind);
        let name = resource["metadata"]["name"].as_str().unwrap();
        let parameters = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let mut object = object(resource);
        object.metadata.resource_version = api.get(name).await.unwrap().metadata.resource_version;
        answer(api.replace(name, &parameters, &object).await)
    }

    /// Replaces the status of a resource that exists.
    pub async fn set_status(&self, kind: Kind, name: &str, status: &Value) -> Result<Value, Vec<Cause>> {
        self.replace_status(kind, name, status, false).await
    }

    /// Asks whether the status of a resource that exists could become `status`.
    pub async fn try_status(&self, kind: Kind, name: &str, status: &Value) -> Result<Value, Vec<Cause>> {
        self.replace_status(kind, name, status, true).await
    }

    /// Asks whether a definition could take the place of the one that is there.
    pub async fn try_definition(&self, definition: &Value) -> Result<Value, Vec<Cause>> {
        let api: Api<DynamicObject> = Api::all_with(
            self.client.clone(),
            &ApiResource::erase::<CustomResourceDefinition>(&()),
        );
        let parameters = PatchParams {
            dry_run: true,
            ..PatchParams::apply("test").force()
        };
        let name = definition["metadata"]["name"].as_str().unwrap();
        answer(api.patch(name, &parameters, &Patch::Apply(definition)).await)
    }

    async fn replace_status(&self, kind: Kind, name: &str, status: &Value, dry: bool) -> Result<Value, Vec<Cause>> {
        let api = self.api(kind);
        let mut object = api.get(name).await.unwrap();
        object.data["status"] = status.clone();
        let parameters = PostParams {
            dry_run: dry,
            ..PostParams::default()
        };
        answer(api.replace_status(name, &parameters, &object).await)
    }
}

fn object(resource: &Value) -> DynamicObject {
    serde_json::from_value(resource.clone()).unwrap()
}

fn answer(result: Result<DynamicObject, kube::Error>) -> Result<Value, Vec<Cause>> {
    match result {
        Ok(object) => Ok(serde_json::to_value(object).unwrap()),
        Err(kube::Error::Api(status)) if status.code == 422 => {
            let causes = status.details.map(|details| details.causes).unwrap_or_default();
            let causes = causes.into_iter().map(|cause| Cause {
                field: cause.field,
                reason: cause.reason,
                message: cause.message,
            });
            let mut causes: Vec<_> = causes.collect();
            causes.sort();
            Err(causes)
        }
        Err(error) => panic!("not an answer about the object: {error}"),
    }
}
