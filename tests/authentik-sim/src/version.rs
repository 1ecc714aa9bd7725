//! Which authentik is played, and what that release does differently from its neighbours.
//!
//! Every difference between releases is a method here, and only here. Where only the two ends of a change are known,
//! the method says so.

use std::{fmt, str::FromStr};

/// A release such as `2023.10.2`, `2026.5.0-rc1` or `2026.8`; ordered by its numbers, not by its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    text: String,
    number: (u16, u16, u16),
}

/// What a text lacks to be a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAVersion(String);

impl fmt::Display for NotAVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no authentik version; write it like 2026.5.0", self.0)
    }
}

impl std::error::Error for NotAVersion {}

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let numbers = text.split_once('-').map_or(text, |(numbers, _)| numbers);
        let parts: Option<Vec<u16>> = numbers.split('.').map(|part| part.parse().ok()).collect();
        let number = match parts.as_deref() {
            Some([year, month]) => (*year, *month, 0),
            Some([year, month, patch]) => (*year, *month, *patch),
            Some(_) | None => return Err(NotAVersion(text.to_owned())),
        };
        Ok(Self {
            text: text.to_owned(),
            number,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the outer server says while the application behind it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starting {
    BadGateway,
    OkWithError,
    Unavailable,
}

impl Version {
    fn since(&self, year: u16, month: u16, patch: u16) -> bool {
        self.number >= (year, month, patch)
    }

    /// `auth` and `auth_password` are taken and never returned; a security fix, so three release lines got it at once.
    pub(crate) fn hides_credentials(&self) -> bool {
        match self.number {
            (2026, 2 | 5, patch) => patch >= 7,
            number => number >= (2026, 8, 2),
        }
    }

    /// A stage with devices cannot be deleted; before, its devices went with it.
    pub(crate) fn protects_devices(&self) -> bool {
        self.since(2026, 8, 0)
    }

    /// An exception on a write is a 500; before, the error view knew only GET and it became an empty 405.
    pub(crate) fn crashes_with_500(&self) -> bool {
        self.since(2026, 8, 0)
    }

    /// `flow_set` is read-only; before, it was validated, and what was valid crashed.
    pub(crate) fn ignores_flow_set(&self) -> bool {
        self.since(2025, 12, 0)
    }

    /// `friendly_name` is `null` when it is not set; later it is `""`.
    pub(crate) fn nullable_friendly_name(&self) -> bool {
        !self.since(2025, 10, 0)
    }

    pub(crate) fn pages_have_autocomplete(&self) -> bool {
        self.since(2025, 8, 0)
    }

    pub(crate) fn default_page_size(&self) -> usize {
        if self.since(2025, 12, 0) { 20 } else { 100 }
    }

    pub(crate) fn maximum_page_size(&self) -> Option<usize> {
        self.since(2025, 12, 0).then_some(100)
    }

    /// Flows show `background_url` beside a writable `background`.
    pub(crate) fn has_background_url(&self) -> bool {
        self.since(2025, 12, 0)
    }

    pub(crate) fn longest_slug(&self) -> Option<usize> {
        (!self.since(2025, 12, 0)).then_some(50)
    }

    /// 2023.10 shouts, 2024.6 does not; when in between it stopped is not known.
    pub(crate) fn upper_case_actions(&self) -> bool {
        !self.since(2024, 2, 0)
    }

    /// "No Flow matches the given query." for "Not found."; seen from 2025.10, not on 2023.10.
    pub(crate) fn names_what_is_missing(&self) -> bool {
        self.since(2024, 2, 0)
    }

    /// `version_latest_valid`, `outpost_outdated`, non-empty `system_permissions`: not on 2023.10.
    pub(crate) fn is_2023(&self) -> bool {
        !self.since(2024, 2, 0)
    }

    /// The device list follows permissions; up to 2024.8 it is for superusers alone.
    pub(crate) fn device_list_by_permission(&self) -> bool {
        self.since(2024, 10, 0)
    }

    pub(crate) fn devices_have_user(&self) -> bool {
        self.since(2025, 2, 0)
    }

    /// `used_by` leaves out what the caller may not view (CVE-2024-42490).
    pub(crate) fn used_by_follows_permissions(&self) -> bool {
        match self.number {
            (2024, 4 | 6, patch) => patch >= 4,
            number => number >= (2024, 8, 0),
        }
    }

    /// Error texts follow `Accept-Language`, and say so in `Vary`.
    pub(crate) fn translates(&self) -> bool {
        self.since(2025, 10, 0)
    }

    /// Seen with a charset on 2025.10, without on 2023.10 and 2026.5.
    pub(crate) fn json_content_type(&self) -> &'static str {
        if self.since(2025, 10, 0) && !self.since(2025, 12, 0) {
            "application/json; charset=utf-8"
        } else {
            "application/json"
        }
    }

    pub(crate) fn curly_slug_quotes(&self) -> bool {
        self.since(2026, 5, 0)
    }

    /// `Authorization: Basic ...` has a text of its own.
    pub(crate) fn names_unsupported_scheme(&self) -> bool {
        !self.since(2025, 12, 0)
    }

    /// Without a valid enterprise licence the API can become read-only.
    pub(crate) fn checks_licence(&self) -> bool {
        self.since(2024, 6, 0)
    }

    pub(crate) fn starting(&self) -> Starting {
        match self.number {
            (2025, 10, 0) => Starting::OkWithError,
            number if number < (2025, 10, 0) => Starting::BadGateway,
            _ => Starting::Unavailable,
        }
    }

    pub(crate) fn healthy_status(&self) -> u16 {
        if self.since(2025, 2, 0) { 200 } else { 204 }
    }

    pub(crate) fn has_reputation_cache(&self) -> bool {
        !self.since(2026, 5, 0)
    }

    pub(crate) fn users_have_roles(&self) -> bool {
        self.since(2025, 12, 0)
    }

    /// Media files have permissions: seen on 2026.5, not on 2025.10.
    pub(crate) fn has_media_permissions(&self) -> bool {
        self.since(2025, 12, 0)
    }

    /// The first-run flow binds the login stage too: seen on 2026.5, not on 2025.10.
    pub(crate) fn setup_flow_logs_in(&self) -> bool {
        self.since(2025, 12, 0)
    }

    pub(crate) fn flow_layouts(&self) -> &'static [&'static str] {
        const LAYOUTS: [&str; 7] = [
            "stacked",
            "content_left",
            "content_right",
            "sidebar_left",
            "sidebar_right",
            "sidebar_left_frame_background",
            "sidebar_right_frame_background",
        ];
        if self.since(2026, 2, 0) {
            &LAYOUTS
        } else {
            &LAYOUTS[..5]
        }
    }

    pub(crate) fn flow_authentications(&self) -> &'static [&'static str] {
        const KINDS: [&str; 7] = [
            "none",
            "require_authenticated",
            "require_unauthenticated",
            "require_superuser",
            "require_redirect",
            "require_outpost",
            "require_token",
        ];
        if self.since(2026, 5, 0) {
            &KINDS
        } else if self.since(2024, 12, 0) {
            &KINDS[..6]
        } else {
            &KINDS[..4]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn credentials_are_hidden_by_patch_release_not_by_order() {
        for (text, hidden) in [
            ("2025.12.6", false),
            ("2026.2.6", false),
            ("2026.2.7", true),
            ("2026.5.0-rc1", false),
            ("2026.5.6", false),
            ("2026.5.7", true),
            ("2026.8.1", false),
            ("2026.8.2", true),
            ("2026.11.0-rc1", true),
        ] {
            assert_eq!(version(text).hides_credentials(), hidden, "{text}");
        }
    }

    #[test]
    fn months_compare_as_numbers() {
        assert!(version("2025.10").pages_have_autocomplete(), "10 comes after 8");
        assert!(!version("2025.10").ignores_flow_set(), "10 comes before 12");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "2026", "latest", "2026.5.0.1", "2026.x"] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
    }
}
