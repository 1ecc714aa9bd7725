//! Where an authentik is.

use std::fmt;

use url::Url;

/// The absolute URL of an authentik, with its sub-path if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

/// What is wrong with a URL, and what to write instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL, not http, or without a host.
    #[error("write an absolute URL such as https://sso.example.com")]
    NotAbsolute,
    /// More in it than scheme, host, port and path.
    #[error("remove user, password, query and fragment from the URL")]
    TooMuch,
}

impl TryFrom<&str> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &str) -> Result<Self, EndpointError> {
        let mut url = Url::parse(text).map_err(|_| EndpointError::NotAbsolute)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(EndpointError::NotAbsolute);
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(EndpointError::TooMuch);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl Endpoint {
    /// Whether the token travels encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The URL of a path below the API's root, such as `stages/all/`.
    pub(super) fn api(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/api/v3/{path}"));
        url
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_is_kept() {
        for (text, shown, api) in [
            (
                "https://sso.example.com",
                "https://sso.example.com",
                "https://sso.example.com/api/v3/admin/version/",
            ),
            (
                "https://h:9443/authentik/",
                "https://h:9443/authentik",
                "https://h:9443/authentik/api/v3/admin/version/",
            ),
        ] {
            let endpoint = Endpoint::try_from(text).unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(endpoint.api("admin/version/").as_str(), api);
        }
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        for (text, error) in [
            ("sso.example.com", EndpointError::NotAbsolute),
            ("ftp://h", EndpointError::NotAbsolute),
            ("https://u@h", EndpointError::TooMuch),
            ("https://h?x=1", EndpointError::TooMuch),
            ("https://h#f", EndpointError::TooMuch),
        ] {
            assert_eq!(Endpoint::try_from(text), Err(error), "{text}");
        }
    }
}
