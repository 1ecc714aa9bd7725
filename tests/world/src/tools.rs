//! The programs of the world: found in `KUBEBUILDER_ASSETS`, else built once from the pinned modules in `tests/tools`.
//!
//! What was built lies in `$XDG_CACHE_HOME/authentik-stage-operator` (`~/.cache` without that variable), outside of any
//! clone, under a name that changes with the tool's version and with how it is built.

mod build;
mod cache;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// Which release of Kubernetes, of those that are supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// The newest.
    #[default]
    Newest,
    /// The oldest.
    Oldest,
}

/// A program of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// The store behind the API server.
    Etcd,
    /// The API server.
    ApiServer(Version),
    /// The command line of Kubernetes.
    Kubectl,
    /// What ends namespaces and collects garbage.
    ControllerManager,
    /// The package manager of Kubernetes.
    Helm,
    /// Holds manifests against schemas.
    Kubeconform,
    /// Judges whether an object is as declared, as Helm and Flux do.
    Kstatus,
}

impl Tool {
    /// All that the tests need, in the order in which they are built.
    pub const NEWEST: [Self; 7] = [
        Self::Etcd,
        Self::ApiServer(Version::Newest),
        Self::Kubectl,
        Self::ControllerManager,
        Self::Helm,
        Self::Kubeconform,
        Self::Kstatus,
    ];

    /// What tests against the oldest release need besides.
    pub const OLDEST: [Self; 1] = [Self::ApiServer(Version::Oldest)];

    /// Where the program is. Builds it if it has to, which takes minutes for the large ones.
    pub fn path(self) -> Result<PathBuf, Error> {
        if let Some(asset) = self.asset() {
            return Ok(asset);
        }
        let source = self.source()?;
        cache::get_or_build(&source)
    }

    /// The program in `KUBEBUILDER_ASSETS`, if that has it.
    ///
    /// Such a directory holds one release, taken for the newest; the oldest API server is always built.
    fn asset(self) -> Option<PathBuf> {
        let may_be_asset = match self {
            Self::Etcd | Self::ApiServer(Version::Newest) | Self::Kubectl => true,
            Self::ApiServer(Version::Oldest)
            | Self::ControllerManager
            | Self::Helm
            | Self::Kubeconform
            | Self::Kstatus => false,
        };
        let asset = PathBuf::from(env::var_os("KUBEBUILDER_ASSETS")?).join(self.binary());
        (may_be_asset && asset.is_file()).then_some(asset)
    }

    /// Name of the executable.
    pub const fn binary(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer(_) => "kube-apiserver",
            Self::Kubectl => "kubectl",
            Self::ControllerManager => "kube-controller-manager",
            Self::Helm => "helm",
            Self::Kubeconform => "kubeconform",
            Self::Kstatus => "kstatus",
        }
    }

    /// Directory under `tests/tools` whose `go.mod` pins it, the module that it belongs to, and its package.
    const fn pin(self) -> (&'static str, &'static str, &'static str) {
        match self {
            // etcd's released module has no main package: ours is all that its own consists of.
            Self::Etcd => ("etcd", "go.etcd.io/etcd/server/v3", "."),
            Self::ApiServer(Version::Newest) => (
                "kubernetes-1.37",
                "k8s.io/kubernetes",
                "k8s.io/kubernetes/cmd/kube-apiserver",
            ),
            Self::ApiServer(Version::Oldest) => (
                "kubernetes-1.32",
                "k8s.io/kubernetes",
                "k8s.io/kubernetes/cmd/kube-apiserver",
            ),
            Self::Kubectl => ("kubernetes-1.37", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
            Self::ControllerManager => (
                "kubernetes-1.37",
                "k8s.io/kubernetes",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
            ),
            Self::Helm => ("helm", "helm.sh/helm/v4", "helm.sh/helm/v4/cmd/helm"),
            Self::Kubeconform => (
                "kubeconform",
                "github.com/yannh/kubeconform",
                "github.com/yannh/kubeconform/cmd/kubeconform",
            ),
            // A library: the program around it is ours.
            Self::Kstatus => ("kstatus", "sigs.k8s.io/cli-utils", "."),
        }
    }

    /// Settings of the linker: the version that the program tells of itself, which its own release sets the same way.
    fn link(self, version: &str) -> String {
        let variables = match self {
            Self::Etcd | Self::Kubeconform | Self::Kstatus => Vec::new(),
            Self::ApiServer(_) | Self::Kubectl | Self::ControllerManager => {
                let mut numbers = version.trim_start_matches('v').split('.');
                let [major, minor] = [(); 2].map(|()| numbers.next().unwrap_or_default());
                [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)]
                    .map(|(name, value)| format!("-X k8s.io/component-base/version.{name}={value}"))
                    .to_vec()
            }
            Self::Helm => vec![format!("-X helm.sh/helm/v4/internal/version.version={version}")],
        };
        format!("-s -w {}", variables.join(" "))
    }

    fn source(self) -> Result<Source, Error> {
        let (directory, module, package) = self.pin();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools").join(directory);
        let version = pinned_version(&directory.join("go.mod"), module)?;
        Ok(Source {
            link: self.link(&version),
            binary: self.binary(),
            package,
            directory,
            version,
        })
    }
}

/// How a program is built.
#[derive(Debug)]
struct Source {
    /// Directory with the `go.mod` that pins everything.
    directory: PathBuf,
    package: &'static str,
    binary: &'static str,
    /// As Go spells it: `v1.2.3`.
    version: String,
    /// Settings of the linker.
    link: String,
}

/// The version of `module` that the `go.mod` file asks for: the one place where it stands.
fn pinned_version(go_mod: &Path, module: &str) -> Result<String, Error> {
    let text = fs::read_to_string(go_mod).map_err(Error::when(format!("read {}", go_mod.display())))?;
    text.lines()
        .find_map(|line| {
            let mut words = line.trim_start_matches("require").split_whitespace();
            (words.next()? == module).then(|| words.next()).flatten()
        })
        .map(str::to_owned)
        .ok_or_else(|| Error::new(format!("{} requires no {module}", go_mod.display())))
}
