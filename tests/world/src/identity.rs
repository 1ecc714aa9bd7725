//! What the control plane and its clients know each other by.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::Error;

/// The key that signs the tokens of ServiceAccounts, as two files.
pub(crate) struct SigningKey {
    pub(crate) private: PathBuf,
    pub(crate) public: PathBuf,
}

impl SigningKey {
    pub(crate) fn create_in(directory: &Path) -> Result<Self, Error> {
        let failed = || Error::when::<aws_lc_rs::error::Unspecified>("make a key for ServiceAccounts");
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).map_err(failed())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref())
            .map_err(Error::when("read back the key for ServiceAccounts"))?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(failed())?;
        let key = Self {
            private: directory.join("service-accounts.key"),
            public: directory.join("service-accounts.pub"),
        };
        write(&key.private, pem("PRIVATE KEY", document.as_ref()))?;
        write(&key.public, pem("PUBLIC KEY", public.as_ref()))?;
        Ok(key)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    // Go's reader takes base64 on one line.
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

/// Text that nobody guesses.
pub(crate) fn random_token() -> Result<String, Error> {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).map_err(Error::when("get random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A kubeconfig that needs no other file.
pub(crate) fn kubeconfig(url: &str, ca: &str, user: &str, token: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "world", "cluster": {"server": url, "certificate-authority-data": STANDARD.encode(ca)}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "world", "context": {"cluster": "world", "user": user, "namespace": namespace}}],
        "current-context": "world",
    })
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    fs::write(path, content).map_err(Error::when(format!("write {}", path.display())))
}
