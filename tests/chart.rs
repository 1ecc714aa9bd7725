//! The chart and the kustomize bases: what they render is valid, has the rights that it needs and no others, and is one
//! and the same thing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use world::{ControlPlane, Options, Tool, helm, helm_template};

const NAME: &str = "authentik-stage-operator";
const STAGES: &str = "authenticatorsmsstages.stages.authentik-operator.dev";
const CONNECTIONS: &str = "authentikconnections.stages.authentik-operator.dev";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn chart() -> PathBuf {
    repository("charts/authentik-stage-operator")
}

/// Values of the ways to run the operator, with the namespace that it watches in the narrower ones.
fn modes(namespace: &str) -> [(&'static str, Value); 4] {
    [
        ("as it comes", json!({})),
        ("cluster-wide without watching Secrets", json!({"secretAccess": "get"})),
        (
            "namespaced",
            json!({"watchNamespaces": [namespace], "clusterId": "test"}),
        ),
        (
            "everything set",
            json!({
                "nameOverride": "operator",
                "image": {"repository": "registry.example.com:5000/team/operator", "digest": format!("sha256:{}", "0a".repeat(32))},
                "imagePullSecrets": [{"name": "registry"}],
                "defaultConnection": format!("{namespace}/authentik"),
                "watchNamespaces": [namespace],
                "secretAccess": "get",
                "secretPollInterval": "1m30s",
                "clusterId": "eu/blue:1",
                "log": {"level": "warn,authentik_stage_operator[pass{kind=stage}]=debug", "format": "text"},
                "listenAddress": "[::]",
                "shutdownTimeoutSeconds": 5,
                "serviceAccount": {"name": "operator", "annotations": {"example.com/role": "sms"}},
                "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
                "podAnnotations": {"example.com/scrape": "true"},
                "podLabels": {"example.com/team": "login"},
                "priorityClassName": "system-cluster-critical",
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [{"operator": "Exists"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}]},
                ]}}},
            }),
        ),
    ]
}

fn objects(manifests: &str) -> Vec<Value> {
    serde_yaml::from_multiple(manifests).unwrap()
}

fn the<'a>(kind: &str, objects: &'a [Value]) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    first
}

fn arguments(deployment: &Value) -> Vec<&str> {
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        .as_array()
        .unwrap();
    arguments.iter().map(|argument| argument.as_str().unwrap()).collect()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_definitions_that_are_shipped_are_those_of_the_repository() {
    let files = |directory: &str| -> BTreeMap<String, String> {
        let entries = fs::read_dir(repository(directory))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        entries
            .map(|path| (name(&path), fs::read_to_string(path).unwrap()))
            .collect()
    };
    let ours = files("crds");
    assert_eq!(ours.len(), 2);
    let mut for_kustomize = files("deploy/crds");
    assert!(for_kustomize.remove("kustomization.yaml").is_some());
    for (directory, copies) in [
        (
            "charts/authentik-stage-operator/crds",
            files("charts/authentik-stage-operator/crds"),
        ),
        ("deploy/crds", for_kustomize),
    ] {
        assert!(
            copies == ours,
            "{directory} differs from crds: copy crds/*.yaml into it"
        );
    }
}

#[test]
fn the_chart_names_the_version_that_it_installs() {
    let chart: Value = serde_yaml::from_str(&fs::read_to_string(chart().join("Chart.yaml")).unwrap()).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn the_chart_passes_the_linter_in_every_mode() {
    let chart = chart();
    for (mode, values) in modes("login") {
        let output = helm(
            &["lint", "--strict", "--values=-", chart.to_str().unwrap()],
            Some(&values.to_string()),
        )
        .await;
        assert!(output.status.success(), "{mode}: {}", text(&output));
    }
}

#[tokio::test]
async fn wrong_values_are_refused_with_what_is_wrong() {
    let cases = [
        (
            json!({"watchNamespace": ["login"]}),
            "watchNamespace",
            "a key that does not exist",
        ),
        (json!({"image": {"tagg": "1"}}), "tagg", "also further down"),
        (
            json!({"watchNamespaces": ["Login"]}),
            "/watchNamespaces/0",
            "no namespace has that name",
        ),
        (
            json!({"watchNamespaces": ["a", "a"]}),
            "/watchNamespaces",
            "its roles would be rendered twice",
        ),
        (
            json!({"watchNamespaces": "a,b"}),
            "/watchNamespaces",
            "a list, not a text",
        ),
        (
            json!({"defaultConnection": "authentik"}),
            "/defaultConnection",
            "no namespace",
        ),
        (json!({"secretAccess": "list"}), "/secretAccess", "not one of the two"),
        (json!({"secretPollInterval": "60"}), "/secretPollInterval", "no unit"),
        (
            json!({"shutdownTimeoutSeconds": 0}),
            "/shutdownTimeoutSeconds",
            "no pass could end",
        ),
        (
            json!({"clusterId": "my cluster"}),
            "/clusterId",
            "it stands in a header",
        ),
        (
            json!({"listenAddress": "0.0.0.0:8080"}),
            "/listenAddress",
            "the probes need their port",
        ),
        (json!({"image": {"digest": "0a0a"}}), "/image/digest", "no digest"),
        (
            json!({"watchNamespaces": ["a"]}),
            "set clusterId to a text that no other cluster has",
            "it cannot be read there",
        ),
        (
            json!({"watchNamespaces": ["a"], "clusterId": "c", "defaultConnection": "b/authentik"}),
            "add b to watchNamespaces",
            "the operator could not read it",
        ),
    ];
    let chart = chart();
    for (values, expected, why) in cases {
        let output = helm(
            &["template", NAME, chart.to_str().unwrap(), "--values=-"],
            Some(&values.to_string()),
        )
        .await;
        let text = text(&output);
        assert!(!output.status.success(), "{values} is accepted: {why}");
        assert!(text.contains(expected), "{values}: no {expected:?} in: {text}");
    }
    // What Helm adds to the values of a chart that is part of another.
    helm_template(&chart, &json!({"global": {"registry": "example.com"}}), &[]).await;
}

#[tokio::test]
async fn an_operator_for_some_namespaces_has_roles_in_these_and_nothing_of_the_cluster() {
    let values = json!({"watchNamespaces": ["login", "sso"], "clusterId": "test"});
    let objects = objects(&helm_template(&chart(), &values, &["--namespace=home"]).await);
    let kinds: BTreeSet<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        BTreeSet::from(["Deployment", "Role", "RoleBinding", "ServiceAccount"])
    );
    for kind in ["Role", "RoleBinding"] {
        let roles = objects.iter().filter(|object| object["kind"] == kind);
        let namespaces: Vec<_> = roles
            .map(|role| role["metadata"]["namespace"].as_str().unwrap())
            .collect();
        assert_eq!(namespaces, ["login", "sso"], "{kind}");
    }
    assert_eq!(the("Deployment", &objects)["metadata"]["namespace"], "home");
    assert!(arguments(the("Deployment", &objects)).contains(&"--watch-namespaces=login,sso"));
}

#[tokio::test]
async fn values_become_flags() {
    let [.., (_, values)] = modes("login");
    let objects = objects(&helm_template(&chart(), &values, &[]).await);
    let deployment = the("Deployment", &objects);
    let expected = [
        "run",
        "--default-connection=login/authentik",
        "--watch-namespaces=login",
        "--secret-access=get",
        "--secret-poll-interval=1m30s",
        "--cluster-id=eu/blue:1",
        "--listen=[::]:8080",
        "--log-level=warn,authentik_stage_operator[pass{kind=stage}]=debug",
        "--log-format=text",
        "--shutdown-timeout=5s",
    ];
    assert_eq!(arguments(deployment), expected);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(
        pod["terminationGracePeriodSeconds"], 15,
        "longer than what the operator takes to end"
    );
    assert_eq!(pod["serviceAccountName"], "operator");
}

#[tokio::test]
async fn what_is_rendered_is_valid_and_the_pod_is_restricted() {
    let world = ControlPlane::shared().await;
    for (mode, mut values) in modes("replaced below") {
        let namespace = world.create_namespace().await;
        if values.get("watchNamespaces").is_some() {
            values["watchNamespaces"] = json!([namespace]);
        }
        if values.get("defaultConnection").is_some() {
            values["defaultConnection"] = json!(format!("{namespace}/authentik"));
        }
        // The names of what belongs to the cluster differ from those of other tests.
        values["fullnameOverride"] = json!(namespace);
        let manifests = helm_template(&chart(), &values, &[&format!("--namespace={namespace}")]).await;
        let applied = world
            .kubectl_stdin(
                &["apply", "--server-side", "--validate=strict", "--filename=-"],
                &manifests,
            )
            .await;
        assert!(applied.status.success(), "{mode}: {}", text(&applied));

        let label = "pod-security.kubernetes.io/enforce=restricted";
        world.kubectl_ok(&["label", "namespace", &namespace, label]).await;
        let objects = objects(&manifests);
        let template = &the("Deployment", &objects)["spec"]["template"];
        let mut pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator", "namespace": namespace}});
        pod["spec"] = template["spec"].clone();
        let create = ["create", "--dry-run=server", "--filename=-"];
        let created = world.kubectl_stdin(&create, &pod.to_string()).await;
        assert!(created.status.success(), "{mode}: {}", text(&created));
        pod["spec"]["containers"][0]["securityContext"]["capabilities"] = json!({});
        let refused = world.kubectl_stdin(&create, &pod.to_string()).await;
        assert!(
            text(&refused).contains("violates PodSecurity"),
            "{mode}: the API server checks nothing"
        );
    }
}

#[tokio::test]
async fn the_operator_understands_every_flag() {
    let understands = |flags: &[&str]| {
        // Help is given only if everything before it is understood.
        let binary = env!("CARGO_BIN_EXE_authentik-stage-operator");
        Command::new(binary).args(flags).arg("--help").output().unwrap()
    };
    for (mode, values) in modes("login") {
        let objects = objects(&helm_template(&chart(), &values, &[]).await);
        let output = understands(&arguments(the("Deployment", &objects)));
        assert!(output.status.success(), "{mode}: {}", text(&output));
    }
    for wrong in [
        "--no-such-flag=1",
        "--secret-access=list",
        "--secret-poll-interval=often",
    ] {
        assert!(
            !understands(&["run", wrong]).status.success(),
            "{wrong} is understood, so this test shows nothing"
        );
    }
}

/// What an account may do: verb, resource, expected answer.
async fn expect_rights(world: &ControlPlane, account: &str, namespace: &str, rights: &[(&str, &str, bool)]) {
    for (verbs, resource, expected) in rights {
        for verb in verbs.split(',') {
            let (resource, subresource) = resource.split_once(':').unwrap_or((resource, ""));
            let subresource = format!("--subresource={subresource}");
            let who = format!("--as={account}");
            let answer = world
                .kubectl(&[
                    "auth",
                    "can-i",
                    verb,
                    resource,
                    &subresource,
                    &who,
                    "--namespace",
                    namespace,
                ])
                .await;
            let answer = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
            let expected = if *expected { "yes" } else { "no" };
            assert_eq!(answer, expected, "{verb} {resource} {subresource} in {namespace}");
        }
    }
}

/// What no operator may do, wherever it is.
const NEVER: [(&str, &str, bool); 8] = [
    ("create,update,delete,deletecollection", STAGES, false),
    ("create,update,delete,deletecollection", CONNECTIONS, false),
    ("create,update,patch,delete", "secrets", false),
    ("list,watch,create,update,patch,delete", "configmaps", false),
    ("get,create", "pods", false),
    ("create", "serviceaccounts:token", false),
    ("create,escalate,bind", "roles.rbac.authorization.k8s.io", false),
    (
        "get,create,patch,delete",
        "customresourcedefinitions.apiextensions.k8s.io",
        false,
    ),
];

/// What it may do where it works, besides reading Secrets.
const AT_WORK: [(&str, &str, bool); 6] = [
    ("get,list,watch,patch", STAGES, true),
    ("get,list,watch,patch", CONNECTIONS, true),
    (
        "patch",
        "authenticatorsmsstages.stages.authentik-operator.dev:status",
        true,
    ),
    (
        "patch",
        "authentikconnections.stages.authentik-operator.dev:status",
        true,
    ),
    ("get", "configmaps", true),
    ("create,patch", "events.events.k8s.io", true),
];

#[tokio::test]
async fn an_operator_for_the_cluster_may_do_its_work_everywhere_and_nothing_else() {
    let world = ControlPlane::shared().await;
    let (home, elsewhere) = (world.create_namespace().await, world.create_namespace().await);
    world.install_crds(&repository("crds")).await;
    let values = json!({"fullnameOverride": home});
    let manifests = helm_template(&chart(), &values, &[&format!("--namespace={home}")]).await;
    world.apply(&manifests).await;
    let account = format!("system:serviceaccount:{home}:{home}");
    expect_rights(world, &account, &elsewhere, &AT_WORK).await;
    expect_rights(world, &account, &elsewhere, &NEVER).await;
    let rights = [
        ("get,list,watch", "secrets", true),
        ("get,list,watch", "namespaces", true),
    ];
    expect_rights(world, &account, &elsewhere, &rights).await;
}

#[tokio::test]
async fn an_operator_for_one_namespace_may_do_its_work_there_and_nothing_elsewhere() {
    let world = ControlPlane::shared().await;
    let (home, work, elsewhere) = (
        world.create_namespace().await,
        world.create_namespace().await,
        world.create_namespace().await,
    );
    world.install_crds(&repository("crds")).await;
    let values = json!({"watchNamespaces": [work], "clusterId": "test", "secretAccess": "get"});
    let manifests = helm_template(&chart(), &values, &[&format!("--namespace={home}")]).await;
    world.apply(&manifests).await;
    let account = format!("system:serviceaccount:{home}:{NAME}");
    expect_rights(world, &account, &work, &AT_WORK).await;
    let there = format!("namespaces/{work}");
    let rights = [
        ("get", "secrets", true),
        ("list,watch", "secrets", false),
        ("get", &there, true),
    ];
    expect_rights(world, &account, &work, &rights).await;
    for namespace in [&work, &home, &elsewhere] {
        expect_rights(world, &account, namespace, &NEVER).await;
    }
    for namespace in [&home, &elsewhere] {
        let there = format!("namespaces/{namespace}");
        let nothing = AT_WORK.map(|(verbs, resource, _)| (verbs, resource, false));
        expect_rights(world, &account, namespace, &nothing).await;
        expect_rights(
            world,
            &account,
            namespace,
            &[("get,list,watch", "secrets", false), ("get", &there, false)],
        )
        .await;
    }
    expect_rights(world, &account, "default", &[("list,watch", "namespaces", false)]).await;
}

#[tokio::test]
async fn helm_installs_upgrades_and_removes_it_and_keeps_the_definitions() {
    // Its own: nobody else is to have installed the definitions.
    let world = ControlPlane::start(Options::default()).await.unwrap();
    let namespace = world.create_namespace().await;
    let chart = chart();
    let chart = chart.to_str().unwrap();
    let run = async |arguments: &[&str]| {
        let output = world.helm(arguments, None).await;
        assert!(output.status.success(), "helm {arguments:?}: {}", text(&output));
        text(&output)
    };
    let release = namespace.as_str();
    let notes = run(&["install", release, chart, "--namespace", release]).await;
    assert!(notes.contains("works in all namespaces"), "{notes}");
    let role = format!("{release}-{NAME}");
    world
        .kubectl_ok(&["get", "deployment", "--namespace", release, &role])
        .await;
    world.kubectl_ok(&["get", "clusterrole", &role]).await;

    // As the notes say, since Helm leaves the definitions alone from now on.
    let definitions = run(&["show", "crds", chart]).await;
    let newer = definitions.replacen("    - authentik\n", "    - authentik\n    - sms\n", 1);
    assert_ne!(
        newer, definitions,
        "the definition is written otherwise than this test expects"
    );
    let command = "kubectl apply --server-side --force-conflicts --filename -";
    assert!(notes.contains(command), "{notes}");
    let arguments: Vec<_> = command.split(' ').skip(1).collect();
    let applied = world.kubectl_stdin(&arguments, &newer).await;
    assert!(applied.status.success(), "{}", text(&applied));

    let narrow = format!("--set=watchNamespaces={{{release}}},clusterId=test");
    let notes = run(&["upgrade", release, chart, "--namespace", release, &narrow]).await;
    assert!(notes.contains(&format!("works in the namespaces {release}")), "{notes}");
    world.kubectl_ok(&["get", "role", "--namespace", release, &role]).await;
    let gone = world.kubectl(&["get", "clusterrole", &role]).await;
    assert!(
        text(&gone).contains("NotFound"),
        "rights for the cluster are left: {}",
        text(&gone)
    );

    run(&["uninstall", release, "--namespace", release]).await;
    let gone = world
        .kubectl(&["get", "deployment", "--namespace", release, &role])
        .await;
    assert!(text(&gone).contains("NotFound"), "{}", text(&gone));
    world.kubectl_ok(&["get", "crd", STAGES, CONNECTIONS]).await;
}

fn kustomize(directory: &str) -> String {
    let kubectl = Tool::Kubectl.path().unwrap();
    let output = Command::new(kubectl)
        .arg("kustomize")
        .arg(repository(directory))
        .output()
        .unwrap();
    assert!(output.status.success(), "{directory}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Objects by kind and name, without the two labels that say that Helm installed them.
fn by_name(objects: Vec<Value>) -> BTreeMap<(String, String), Value> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let keyed = objects.into_iter().map(|mut object| {
        if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
            labels.remove("helm.sh/chart");
            labels.remove("app.kubernetes.io/managed-by");
        }
        ((word(&object["kind"]), word(&object["metadata"]["name"])), object)
    });
    keyed.collect()
}

/// Takes the namespace and the definitions out of what kustomize renders: the chart leaves the first to its user and has
/// the others beside its templates.
fn without_prerequisites(mut objects: BTreeMap<(String, String), Value>) -> BTreeMap<(String, String), Value> {
    for (kind, name) in [
        ("Namespace", NAME),
        ("CustomResourceDefinition", STAGES),
        ("CustomResourceDefinition", CONNECTIONS),
    ] {
        assert!(
            objects.remove(&(kind.to_owned(), name.to_owned())).is_some(),
            "no {kind} {name}"
        );
    }
    objects
}

#[track_caller]
fn assert_same(chart: &BTreeMap<(String, String), Value>, kustomize: &BTreeMap<(String, String), Value>) {
    assert_eq!(chart.keys().collect::<Vec<_>>(), kustomize.keys().collect::<Vec<_>>());
    for (name, object) in chart {
        assert_eq!(
            object, &kustomize[name],
            "{name:?}: the chart on the left, kustomize on the right"
        );
    }
}

#[tokio::test]
async fn the_kustomize_base_is_what_the_chart_renders() {
    let rendered = helm_template(&chart(), &Value::Null, &[&format!("--namespace={NAME}")]).await;
    assert_same(
        &by_name(objects(&rendered)),
        &without_prerequisites(by_name(objects(&kustomize("deploy/base")))),
    );
}

#[tokio::test]
async fn the_namespaced_kustomize_base_is_what_the_chart_renders() {
    let values = json!({"watchNamespaces": [NAME], "clusterId": "unnamed"});
    let rendered = helm_template(&chart(), &values, &[&format!("--namespace={NAME}")]).await;
    let mut of_chart = by_name(objects(&rendered));
    let mut of_kustomize = without_prerequisites(by_name(objects(&kustomize("deploy/namespaced"))));

    // What the chart says in flags, kustomize says in the environment, where an overlay can change it by name.
    let deployment = ("Deployment".to_owned(), NAME.to_owned());
    let container = |objects: &mut BTreeMap<(String, String), Value>| {
        objects.get_mut(&deployment).unwrap()["spec"]["template"]["spec"]["containers"][0].take()
    };
    let (mut flags, mut environment) = (container(&mut of_chart), container(&mut of_kustomize));
    let variables = environment.as_object_mut().unwrap().remove("env").unwrap();
    let expected = json!([
        {"name": "AUTHENTIK_STAGE_OPERATOR_WATCH_NAMESPACES", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "AUTHENTIK_STAGE_OPERATOR_CLUSTER_ID", "value": "unnamed"},
    ]);
    assert_eq!(variables, expected);
    let before = flags["args"].as_array().unwrap().len();
    let same_as_variables = [format!("--watch-namespaces={NAME}"), "--cluster-id=unnamed".to_owned()];
    flags["args"]
        .as_array_mut()
        .unwrap()
        .retain(|flag| same_as_variables.iter().all(|same| flag != same));
    assert_eq!(flags["args"].as_array().unwrap().len(), before - 2);
    assert_eq!(flags, environment);
    assert_same(&of_chart, &of_kustomize);
}

#[tokio::test]
async fn the_kustomize_bases_can_be_applied() {
    let world = ControlPlane::shared().await;
    for base in ["deploy/base", "deploy/namespaced"] {
        let base = repository(base);
        world
            .kubectl_ok(&[
                "apply",
                "--server-side",
                "--validate=strict",
                "--kustomize",
                base.to_str().unwrap(),
            ])
            .await;
    }
}

#[tokio::test]
async fn the_examples_can_be_applied() {
    let world = ControlPlane::shared().await;
    world.install_crds(&repository("crds")).await;
    let namespace = world.create_namespace().await;
    let examples = repository("examples");
    let output = world
        .kubectl_ok(&[
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            &format!("--namespace={namespace}"),
            &format!("--filename={}", examples.display()),
        ])
        .await;
    let applied = output.lines().count();
    assert_eq!(applied, std::fs::read_dir(examples).unwrap().count(), "{output}");
}
